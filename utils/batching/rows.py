"""One answer on its way: what is wanted of it, and what the engine hands out as it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from utils.batching.sampling import Sampler
from utils.batching.tokens import GrowingText

STOP, LENGTH = "stop", "length"
FULL, TOO_MANY, LATE, BROKEN, STOPPING = "full", "too many", "late", "broken", "stopping"
OVERFLOW = "overflow"
_MOST_AT_ONCE = 64


class Unanswered(Exception):
    """Why a row has no answer.

    Args:
        why: ``full``, ``too many``, ``late``, ``broken``, ``overflow`` or ``stopping``.
        message: for people.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why, self.message = why, message


@dataclass(frozen=True)
class Probe:
    """Where the residual stream is held against a vector: at a layer, the vector of length 1."""

    layer: int
    direction: Tensor


@dataclass(frozen=True)
class Scored:
    """A token and its log-probability.

    Attributes:
        token: its id.
        logprob: natural logarithm, of the model's own distribution at temperature 1; ``None`` for
            the first token of a text, and where it was not asked for.
        top: the likeliest tokens of that place with theirs, the likeliest first.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Read:
    """The prompt has been read; its tokens with their log-probabilities, if those are wanted."""

    tokens: tuple[Scored, ...]


@dataclass(frozen=True)
class Grown:
    """A token has come.

    Attributes:
        scored: it.
        text: what of the text is sure now.
        score: cosine of the residual stream at this very token with the probe's vector; ``None``
            without a probe, and for a token at which the answer ended: nothing reads that.
    """

    scored: Scored
    text: str
    score: float | None = None


@dataclass(frozen=True)
class Ended:
    """The answer is whole.

    Attributes:
        reason: ``stop`` (an end token, or a stop string) or ``length``.
        text: the rest of it, held back until now.
        tokens: how many were generated, an end token included.
    """

    reason: str
    text: str
    tokens: int


@dataclass(frozen=True)
class Failed:
    """There is no answer, or no more of it."""

    error: Unanswered


Event = Read | Grown | Ended | Failed


@dataclass(frozen=True)
class Wanted:
    """What a row is to be.

    Attributes:
        prompt: token ids.
        first: the first steered position.
        deltas: layer -> what is added there, shape (width,).
        budget: most tokens of the answer.
        ends: tokens at which an answer ends.
        top: how many of the likeliest tokens are told; ``None``: no log-probabilities.
        echo: log-probabilities of the prompt too.
        probe: what every token is held against.
    """

    prompt: tuple[int, ...]
    first: int
    deltas: dict[int, Tensor]
    budget: int
    ends: frozenset[int]
    top: int | None = None
    echo: bool = False
    probe: Probe | None = None

    @property
    def most(self) -> int:
        """Tokens in the cache at the end."""
        return len(self.prompt) + self.budget


@dataclass(eq=False)
class Row:
    """A row from the queue to its end; used by the engine's thread, but for ``cancelled``.

    Attributes:
        wanted: what it is to be.
        sampler, text: of this row alone.
        deliver: is called with every event, by the engine's thread.
        deadline: in seconds of ``time.monotonic``.
        cancelled: set by whoever does not want it any more.
        next: the token to be fed next.
    """

    wanted: Wanted
    sampler: Sampler
    text: GrowingText
    deliver: Callable[[Event], None]
    deadline: float
    cancelled: threading.Event = field(default_factory=threading.Event)
    next: int = 0
    _count: int = 0
    _waiting: Grown | None = None
    _ending: str | None = None

    def take(self, logits: Tensor, hidden: Tensor | None = None) -> bool:
        """Take what one step has computed; whether the row goes on.

        Args:
            logits: after its last token, shape (vocabulary,).
            hidden: the residual stream at that token where the probe is, shape (width,); ``None``
                at the end of the prompt.
        """
        if self._waiting is not None:
            self._hand_out(self._waiting, hidden)
            self._waiting = None
        if self._ending is not None:
            return self._end(self._ending)
        if bool(logits.isnan().any()):
            # no steering does that to a sound model, unless it is far too strong
            what = "the model's numbers are NaN: what is added is too much for it"
            self.deliver(Failed(Unanswered(OVERFLOW, what)))
            return False
        token = self.sampler.pick(logits)
        scored = Scored(token)
        if self.wanted.top is not None:
            (scored,) = scored_tokens(logits[None], [token], self.wanted.top)
        self._count, self.next = self._count + 1, token
        grown = Grown(scored, self.text.push(token))
        if token in self.wanted.ends:
            self.deliver(grown)
            return self._end(STOP)
        reason = LENGTH if self._count >= self.wanted.budget else None
        reason = STOP if self.text.stopped else reason
        if self.wanted.probe is None:
            self.deliver(grown)
            return True if reason is None else self._end(reason)
        # the residual stream at a token is there when the token has been fed
        self._waiting, self._ending = grown, reason
        return True

    def _hand_out(self, grown: Grown, hidden: Tensor | None) -> None:
        score = None
        if self.wanted.probe is not None and hidden is not None:
            direction = self.wanted.probe.direction.to(hidden.device)
            score = float(torch.cosine_similarity(hidden.float(), direction, dim=0))
        self.deliver(Grown(grown.scored, grown.text, score))

    def _end(self, reason: str) -> bool:
        self.deliver(Ended(reason, self.text.finish(), self._count))
        return False


def scored_tokens(logits: Tensor, tokens: list[int], top: int) -> list[Scored]:
    """Tokens with their log-probabilities, and the likeliest of each place.

    Both are read from one tensor, so that the likeliest token has the very same float twice.

    Args:
        logits: at the places before the tokens, shape (tokens, vocabulary).
        tokens: their ids.
        top: how many of the likeliest.
    """
    found = []
    for start in range(0, len(tokens), _MOST_AT_ONCE):
        part = tokens[start : start + _MOST_AT_ONCE]
        scores = logits[start : start + len(part)].float().log_softmax(dim=-1)
        own = scores.gather(1, torch.tensor(part, device=scores.device)[:, None])[:, 0].tolist()
        best = scores.topk(min(top, scores.shape[1]), dim=-1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        for token, score, (ids, values) in zip(part, own, pairs, strict=True):
            found.append(Scored(token, score, tuple(zip(ids, values, strict=True))))
    return found
