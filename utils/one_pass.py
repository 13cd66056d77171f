"""Running packed branches: the fast way, the slow way it must equal, and the choice between them.

The slow way (one plain forward pass for each cell) is the oracle. Every run compares the two on
its longest prompt before it trusts the fast one, so an architecture whose attention does not
fit is caught here and computed slowly, with a warning, never with other numbers.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache

from utils.block_io import CannotBranch, keeps_state
from utils.branches import AT_EMBEDDING, Layout, common_prefix
from utils.errors import UserError
from utils.prompts import LetterPrompt, OpenPrompt

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper

# Largest deviation of logits, in units of their standard deviation, that rounding explains.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
HALF_TOLERANCE = 0.15
MAX_BRANCHES = 512
# What an attention that was not made for packed branches raises on the test prompt.
MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
RECURRENT = "some of its blocks are recurrent and keep no keys and values"
CPU_TOKENS, GPU_TOKENS = 768, 16384
Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Steer:
    """One steered variant: ``delta`` (shape (width,), multiplier applied) at block ``layer``."""

    layer: int
    delta: Tensor


@dataclass(frozen=True)
class Readings:
    """What contrast pairs read of the residual stream.

    Attributes:
        letters: at the answer letter, shape (pairs, 2, layers, width); index 0 is matching.
        norms: its length at every steered token: the last of the instruction, what follows it,
            and the letters of both answers; shape (pairs, tokens, layers).
    """

    letters: Tensor
    norms: Tensor


def default_budget(device: torch.device) -> int:
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


class PackedPrompts:
    """What packed runs over one set of prompts share: masks, and the common beginning's cache.

    Args:
        wrapper: the model.
        prompts: token ids of every prompt of the run.
        tail: most tokens of a branch; the common beginning ends before them.

    Raises:
        CannotBranch: the architecture does not allow it.
    """

    def __init__(
        self, wrapper: "LlamaWrapper", prompts: Sequence[Sequence[int]], tail: int
    ) -> None:
        self.wrapper = wrapper
        if keeps_state(wrapper.model.config):
            raise CannotBranch(RECURRENT)
        self.allowed = wrapper.allowed_positions(max(prompts, key=len))
        room = min(map(len, prompts)) - tail
        self.prefix = min(common_prefix(prompts), room)
        self._cache = wrapper.prefix_cache(prompts[0][: self.prefix]) if self.prefix else []

    def layout(self, rows: Sequence[Sequence[int]], tail: int, joins: Sequence[int]) -> Layout:
        lengths = tuple(len(row) - self.prefix for row in rows)
        return Layout(self.prefix, lengths, tail, tuple(joins))

    def inputs(
        self, layout: Layout, rows: Sequence[Sequence[int]], last: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Arguments of one call of the model.

        Args:
            layout: where everything lies.
            rows: token ids of each row, the common beginning included.
            last: for each row the token that ends the last branch instead of the base's.
        """
        device = self.wrapper.device
        base = torch.zeros(len(rows), layout.base, dtype=torch.long)
        for i, row in enumerate(rows):
            base[i, layout.base - layout.lengths[i] :] = torch.tensor(row[self.prefix :])
        ids = base[:, layout.sources()]
        if last is not None:
            ids[:, -1] = torch.tensor(last)
        cache = None
        if self._cache:
            shape = (len(rows), -1, -1, -1)
            cache = DynamicCache([(k.expand(shape), v.expand(shape)) for k, v in self._cache])
        return {
            "input_ids": ids.to(device),
            "position_ids": layout.positions().to(device),
            "attention_mask": torch.ones(
                len(rows), self.prefix + layout.total, dtype=torch.long, device=device
            ),
            "past_key_values": cache,
            "use_cache": cache is not None,
        }

    def logits(self, rows: Sequence[Sequence[int]], tail: int, steers: Sequence[Steer]) -> Tensor:
        """Next-token logits of every row, unsteered and under every steer.

        Args:
            rows: token ids of each prompt; all have the same number of tail tokens.
            tail: tokens from the first steered one to the end.
            steers: in ascending order of layer.

        Returns:
            Shape (rows, 1 + steers, vocabulary); index 0 is unsteered.
        """
        layout = self.layout(rows, tail, [s.layer for s in steers])
        deltas = {
            layer: torch.stack([s.delta for s in steers if s.layer == layer])
            for layer in {s.layer for s in steers}
        }
        with torch.inference_mode(), self.wrapper.branch(layout, deltas, self.allowed):
            return self.wrapper.model(**self.inputs(layout, rows)).logits

    def last_token_outputs(
        self, rows: Sequence[Sequence[int]], others: Sequence[int], layers: Sequence[int], tail: int
    ) -> Readings:
        """Block outputs at the last token of each row, and at another token in its place.

        Args:
            rows: token ids of each row.
            others: for each row the token to put in place of its last one.
            layers: blocks to read, ascending; nothing above the last of them is computed.
            tail: tokens before the last one whose norms are wanted too.
        """
        layout = self.layout(rows, 1, [AT_EMBEDDING])
        with (
            self.wrapper.branch(layout, {}, self.allowed),
            self.wrapper.record(layers) as recorded,
        ):
            self.wrapper.run_until(layers[-1], **self.inputs(layout, rows, others))
        ends = [recorded[n][:, -2 - tail :] for n in layers]
        return Readings(
            torch.stack([hidden[:, -2:].to("cpu") for hidden in ends], dim=2),
            torch.stack([hidden.float().norm(dim=-1).cpu() for hidden in ends], dim=2),
        )


def slow_logits(
    wrapper: "LlamaWrapper", prompt: LetterPrompt | OpenPrompt, steer: Steer | None
) -> Tensor:
    """The oracle: one plain forward pass for one cell, shape (vocabulary,)."""
    if steer is None:
        return wrapper.next_logits(prompt.ids)
    with wrapper.steer({steer.layer: steer.delta}, prompt.steer_from):
        return wrapper.next_logits(prompt.ids)


def slow_outputs(
    wrapper: "LlamaWrapper", row: Sequence[int], layers: Sequence[int], count: int
) -> Tensor:
    """The oracle: one plain pass over a whole prompt, its last tokens, (count, layers, width)."""
    with wrapper.record(layers) as recorded:
        wrapper.next_logits(row)
    return torch.stack([recorded[n][0, -count:].to("cpu") for n in layers], dim=1)


def slow_last_token_outputs(
    wrapper: "LlamaWrapper", row: Sequence[int], layers: Sequence[int]
) -> Tensor:
    """The oracle at the last token alone, shape (layers, width)."""
    return slow_outputs(wrapper, row, layers, 1)[0]


def letter_probabilities(logits: Tensor, letters: Sequence[int]) -> Tensor:
    """Softmax over the whole vocabulary, read at the letters; float64, (..., letters)."""
    flat = logits.flatten(0, -2) if logits.ndim > 1 else logits[None]
    chosen = flat[:, list(letters)].double()
    # A few rows at a time stay in the cache; all at once would be read from memory four times.
    totals = [torch.logsumexp(rows.float(), dim=-1) for rows in flat.split(8)]
    found = (chosen - torch.cat(totals).double()[:, None]).exp()
    return found.reshape(*logits.shape[:-1], len(letters)).cpu()


def tolerance_of(wrapper: "LlamaWrapper") -> float:
    """Largest deviation that rounding explains, for this model's numbers."""
    # 4-bit layers compute in fewer bits than the residual stream between them has. 8-bit ones
    # round their inputs to 8 bits: what a batch changes is as large as what they round away, so
    # there the strict measure stands, and with it the slow way.
    if getattr(wrapper.model, "is_loaded_in_4bit", False):
        return HALF_TOLERANCE
    return TOLERANCE.get(wrapper.dtype, HALF_TOLERANCE)


def checked(
    wrapper: "LlamaWrapper",
    fast: Callable[[], tuple[Prepared, Sequence[Tensor]]],
    slow: Callable[[], Sequence[Tensor]],
) -> Prepared | None:
    """The fast way, if on a test prompt it gives the slow way's numbers; else a warning.

    Args:
        wrapper: the model.
        fast: prepares the fast way; returns that, and the test prompt's numbers.
        slow: the same numbers the slow way. Each tensor is measured by its own deviation.

    Returns:
        What was prepared; ``None``, after exactly one warning, for the slow way.

    Raises:
        UserError: out of memory.
    """
    try:
        prepared, found = fast()
    except (CannotBranch, *MISFITS) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise UserError("out of memory; lower --batch_tokens") from error
        # an assertion may have no message
        _warn_slow(wrapper, next(iter(str(error).splitlines()), type(error).__name__))
        return None
    for ours, expected in zip(found, slow(), strict=True):
        how = difference(wrapper, ours, expected)
        if how is not None:
            _warn_slow(wrapper, f"packed and plain passes differ {how} on a test prompt")
            return None
    return prepared


def difference(wrapper: "LlamaWrapper", fast: Tensor, slow: Tensor) -> str | None:
    """By how much the fast way's numbers are not the slow way's; ``None`` if by rounding only.

    Numbers that are infinite or NaN both ways are equal: a model that breaks under this
    steering breaks either way.
    """
    fast, slow = fast.cpu().double(), slow.cpu().double()
    finite = slow.isfinite()
    if not torch.equal(finite, fast.isfinite()):
        return "in which numbers are finite"
    fast, slow = fast[finite], slow[finite]
    if torch.equal(fast, slow):
        return None
    deviation = float((fast - slow).abs().max() / slow.std())
    return None if deviation <= tolerance_of(wrapper) else f"by {deviation:.1e}"


def _warn_slow(wrapper: "LlamaWrapper", reason: str) -> None:
    """Say that the slow way is taken, and why."""
    if keeps_state(wrapper.model.config):
        reason = RECURRENT  # whatever broke on it first
    warnings.warn(
        f"{wrapper.architecture}: {reason}; computing one forward pass a cell (slow, same numbers)",
        stacklevel=5,
    )
