"""Replies in OpenAI's shapes, whole or as pieces of a stream, beside them what was steered."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from utils.batching.rows import Ended, Event, Failed, Grown, Read, Scored
from utils.batching.tokens import TokenTexts
from utils.serving.planning import Plan, Prompt
from utils.serving.refusals import unanswered

Body = dict[str, object]


@dataclass
class Answer:
    """One answer as far as it has come."""

    echoed: tuple[Scored, ...] = ()
    tokens: list[Scored] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    text: str = ""
    reason: str | None = None
    count: int = 0

    def add(self, event: Event) -> None:
        """Take an event.

        Raises:
            Refusal: it has failed.
        """
        if isinstance(event, Failed):
            raise unanswered(event.error) from event.error
        if isinstance(event, Read):
            self.echoed = event.tokens
        elif isinstance(event, Grown):
            self.tokens.append(event.scored)
            self.scores.append(event.score)
            self.text += event.text
        else:
            self.text += event.text
            self.reason, self.count = event.reason, event.tokens


class Reply:
    """The bodies of the reply to one plan.

    Args:
        plan: what was asked for.
        texts: of tokens.
        model: the id that was asked for.
        fingerprint: of the model as it is served.
    """

    def __init__(self, plan: Plan, texts: TokenTexts, model: str, fingerprint: str) -> None:
        self.plan, self.texts = plan, texts
        self.answers = [Answer() for _ in plan.prompts for _ in range(plan.common.sampling.n)]
        self._head: Body = {
            "id": f"{'cmpl' if plan.raw else 'chatcmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(self) -> Body:
        """The reply, when every answer has ended."""
        choices = [self._whole_choice(number) for number in range(len(self.answers))]
        kind = "text_completion" if self.plan.raw else "chat.completion"
        more = {"usage": self._usage(), "steering": self.plan.reports()}
        return self._head | {"object": kind, "choices": choices} | more

    def pieces(self, number: int, event: Event) -> list[Body]:
        """What a stream says at an event of one answer.

        Raises:
            Refusal: it has failed.
        """
        answer = self.answers[number]
        answer.add(event)
        if isinstance(event, Grown):
            says = event.text or self._told or self.plan.common.token_scores
            return [self._piece(number, event.text, [event.scored], [event.score])] if says else []
        if isinstance(event, Read):
            text = self._prompt_of(number).text if self.plan.echo else ""
            first = self._piece(number, text, event.tokens, [], opening=True)
            return [first | {"steering": self.plan.reports()}]
        assert isinstance(event, Ended)
        rest = [self._piece(number, event.text, [], [])] if event.text else []
        return [*rest, self._piece(number, "", [], [], reason=event.reason)]

    def usage_piece(self) -> Body:
        """The last of a stream that was asked to count."""
        return self._head | {"object": self._kind, "choices": [], "usage": self._usage()}

    @property
    def _kind(self) -> str:
        return "text_completion" if self.plan.raw else "chat.completion.chunk"

    @property
    def _told(self) -> bool:
        return self.plan.common.sampling.top is not None

    def _prompt_of(self, number: int) -> Prompt:
        return self.plan.prompts[number // self.plan.common.sampling.n]

    def _piece(
        self,
        number: int,
        text: str,
        tokens: Sequence[Scored],
        scores: Sequence[float | None],
        *,
        opening: bool = False,
        reason: str | None = None,
    ) -> Body:
        choice: Body = {"index": number, "finish_reason": reason, "logprobs": None}
        if self.plan.raw:
            choice["text"] = text
        elif opening:
            choice["delta"] = {"role": "assistant", "content": text}
        else:
            choice["delta"] = {} if reason is not None else {"content": text}
        if self._told and tokens:
            choice["logprobs"] = self._logprobs(tokens)
        if self.plan.common.token_scores and scores:
            choice["token_scores"] = self._scores(tokens, scores)
        return self._head | {"object": self._kind, "choices": [choice]}

    def _whole_choice(self, number: int) -> Body:
        answer, prompt = self.answers[number], self._prompt_of(number)
        choice: Body = {"index": number, "finish_reason": answer.reason, "logprobs": None}
        if self.plan.raw:
            choice["text"] = (prompt.text if self.plan.echo else "") + answer.text
            if prompt.first is not None:
                choice["first_steered_token"] = prompt.first
        else:
            choice["message"] = {"role": "assistant", "content": answer.text, "refusal": None}
        if self._told:
            choice["logprobs"] = self._logprobs([*answer.echoed, *answer.tokens])
        if self.plan.common.token_scores:
            choice["token_scores"] = self._scores(answer.tokens, answer.scores)
        return choice

    def _logprobs(self, tokens: Sequence[Scored]) -> Body:
        return self._raw_logprobs(tokens) if self.plan.raw else self._chat_logprobs(tokens)

    def _chat_logprobs(self, tokens: Sequence[Scored]) -> Body:
        content = [
            self._entry(t.token, t.logprob)
            | {"top_logprobs": [self._entry(token, score) for token, score in t.top]}
            for t in tokens
        ]
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float | None) -> Body:
        return {
            "token": self.texts.text(token),
            "logprob": logprob,
            "bytes": list(self.texts.bytes_of(token)),
        }

    def _raw_logprobs(self, tokens: Sequence[Scored]) -> Body:
        names = [self.texts.text(t.token) for t in tokens]
        offsets, place = [], 0
        for name in names:
            offsets.append(place)
            place += len(name)
        top: list[dict[str, float] | None] = []
        for name, t in zip(names, tokens, strict=True):
            likeliest: dict[str, float] = {}
            for token, score in t.top:
                # of two tokens of one text the likelier
                likeliest.setdefault(self.texts.text(token), score)
            if t.logprob is not None:
                likeliest.setdefault(name, t.logprob)
            top.append(None if t.logprob is None else likeliest)
        return {
            "tokens": names,
            "token_logprobs": [t.logprob for t in tokens],
            "top_logprobs": top,
            "text_offset": offsets,
        }

    def _scores(self, tokens: Sequence[Scored], scores: Sequence[float | None]) -> list[Body]:
        pairs = zip(tokens, scores, strict=True)
        return [{"token": self.texts.text(t.token), "score": score} for t, score in pairs]

    def _usage(self) -> dict[str, int]:
        read = sum(len(prompt.wanted.prompt) for prompt in self.plan.prompts)
        made = sum(answer.count for answer in self.answers)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
