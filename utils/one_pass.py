"""Running packed branches: the fast way, the slow way it must equal, and the choice between them.

The slow way (one plain forward pass for each cell) is the oracle. Every run compares the two on
its longest prompt before it trusts the fast one, so an architecture whose attention does not
fit is caught here and computed slowly, with a warning, never with other numbers.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from utils.branches import AT_EMBEDDING, Layout, common_prefix, length_batches
from utils.prompts import LetterPrompt

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper

# Largest deviation of logits, in units of their standard deviation, that rounding explains.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
HALF_TOLERANCE = 0.15
MAX_BRANCHES = 512
CPU_TOKENS, GPU_TOKENS = 768, 16384


@dataclass(frozen=True)
class Steer:
    """One steered variant: ``delta`` (shape (width,), multiplier applied) at block ``layer``."""

    layer: int
    delta: Tensor


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
        self.allowed, _ = wrapper.allowed_positions(max(prompts, key=len))
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

    def logits(
        self, rows: Sequence[Sequence[int]], tail: int, steers: Sequence[Steer]
    ) -> Tensor:
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
            kept = layout.last_tokens().to(self.wrapper.device)
            output = self.wrapper.model(**self.inputs(layout, rows), logits_to_keep=kept)
        return output.logits

    def last_token_outputs(
        self, rows: Sequence[Sequence[int]], others: Sequence[int], layers: Sequence[int]
    ) -> Tensor:
        """Block outputs at the last token of each row, and at another token in its place.

        Args:
            rows: token ids of each row.
            others: for each row the token to put in place of its last one.
            layers: blocks to read, ascending; nothing above the last of them is computed.

        Returns:
            Shape (rows, 2, layers, width): index 0 the row's own last token, 1 the other.
        """
        layout = self.layout(rows, 1, [AT_EMBEDDING])
        with (
            self.wrapper.branch(layout, {}, self.allowed),
            self.wrapper.record(layers) as recorded,
        ):
            self.wrapper.run_until(layers[-1], **self.inputs(layout, rows, others))
        return torch.stack([recorded[n][:, -2:].to("cpu") for n in layers], dim=2)


def slow_logits(wrapper: "LlamaWrapper", prompt: LetterPrompt, steer: Steer | None) -> Tensor:
    """The oracle: one plain forward pass for one cell, shape (vocabulary,)."""
    if steer is None:
        return wrapper.next_logits(prompt.ids)
    with wrapper.steer({steer.layer: steer.delta}, prompt.steer_from):
        return wrapper.next_logits(prompt.ids)


def slow_last_token_outputs(
    wrapper: "LlamaWrapper", row: Sequence[int], layers: Sequence[int]
) -> Tensor:
    """The oracle: one plain pass over a whole prompt, shape (layers, width)."""
    with wrapper.record(layers) as recorded:
        wrapper.next_logits(row)
    return torch.stack([recorded[n][0, -1].to("cpu") for n in layers])


def letter_probabilities(logits: Tensor, letters: Sequence[int]) -> Tensor:
    """Softmax over the whole vocabulary, read at the letters; float64, (..., letters)."""
    logits = logits.float()
    chosen = logits[..., list(letters)].double()
    return (chosen - torch.logsumexp(logits, dim=-1, keepdim=True).double()).exp().cpu()


class LetterGrid:
    """P(letter) of every prompt under every steer.

    Args:
        wrapper: the model.
        prompts: all prompts of the run, the finished ones too (batches depend on all of them).
        steers: the steered cells.
        budget: tokens in one forward pass; ``None`` for the default of the device.
        slow: one forward pass a cell, for comparison.

    Attributes:
        batches: indices of the prompts that are computed together.
    """

    def __init__(
        self,
        wrapper: "LlamaWrapper",
        prompts: Sequence[LetterPrompt],
        steers: Sequence[Steer],
        *,
        budget: int | None = None,
        slow: bool = False,
    ) -> None:
        self.wrapper, self.prompts = wrapper, prompts
        self.order = sorted(range(len(steers)), key=lambda i: steers[i].layer)
        self.steers = [steers[i] for i in self.order]
        self.packed = None if slow else self._checked_packing()
        budget = budget or default_budget(wrapper.device)
        if self.packed is None:
            self.batches = [[i] for i in range(len(prompts))]
            return
        tail = max(p.tail for p in prompts)
        per_pass = max(1, min(MAX_BRANCHES, budget // (2 * tail)))
        self.chunks = [self.steers[i : i + per_pass] for i in range(0, len(steers), per_pass)] or [[]]
        costs = [(p.tail, len(p.ids) - self.packed.prefix) for p in prompts]
        extra = tail * len(self.chunks[0])
        self.batches = length_batches(costs, extra=extra, budget=budget)

    def _checked_packing(self) -> PackedPrompts | None:
        from llama_wrapper import CannotBranch

        longest = max(self.prompts, key=lambda p: len(p.ids))
        probes = self.steers[:1] + self.steers[-1:]
        try:
            packed = PackedPrompts(
                self.wrapper, [p.ids for p in self.prompts], max(p.tail for p in self.prompts)
            )
            fast = packed.logits([longest.ids], longest.tail, probes)[0].float()
        except CannotBranch as error:
            _warn_slow(self.wrapper, str(error))
            return None
        cells = [None, *probes]
        slow = torch.stack([slow_logits(self.wrapper, longest, c) for c in cells]).float()
        return packed if _agree(self.wrapper, fast, slow) else None

    def probabilities(self, batch: Sequence[int]) -> Tensor:
        """P(letter) for the prompts of one batch.

        Returns:
            float64, shape (prompts, 1 + steers, letters), steers in the order given.
        """
        prompts = [self.prompts[i] for i in batch]
        letters = list(prompts[0].letters.values())
        if self.packed is None:
            rows = [
                torch.stack([slow_logits(self.wrapper, p, s) for s in (None, *self.steers)])
                for p in prompts
            ]
            found = letter_probabilities(torch.stack(rows), letters)
        else:
            parts = []
            for chunk in self.chunks:
                logits = self.packed.logits([p.ids for p in prompts], prompts[0].tail, chunk)
                part = letter_probabilities(logits, letters)
                parts.append(part if not parts else part[:, 1:])
            found = torch.cat(parts, dim=1)
        result = torch.empty_like(found)
        result[:, [0, *(i + 1 for i in self.order)]] = found
        return result


class PairOutputs:
    """Residual streams at the answer letter for both answers of contrast pairs.

    Args:
        wrapper: the model.
        prompts: one prompt a pair; its two letters are the matching and the other answer's.
        layers: blocks to read, ascending.
        budget: tokens in one forward pass; ``None`` for the default of the device.
        slow: two whole forward passes a pair, for comparison.

    Attributes:
        batches: indices of the pairs that are computed together.
    """

    def __init__(
        self,
        wrapper: "LlamaWrapper",
        prompts: Sequence[LetterPrompt],
        layers: Sequence[int],
        *,
        budget: int | None = None,
        slow: bool = False,
    ) -> None:
        self.wrapper, self.layers = wrapper, list(layers)
        self.letters = [tuple(p.letters.values()) for p in prompts]
        self.rows = [(*p.ids, pair[0]) for p, pair in zip(prompts, self.letters, strict=True)]
        self.packed = None if slow else self._checked_packing()
        costs = [(0, len(row) - (self.packed.prefix if self.packed else 0)) for row in self.rows]
        budget = budget or default_budget(wrapper.device)
        self.batches = length_batches(costs, extra=1, budget=budget if self.packed else 1)

    def _checked_packing(self) -> PackedPrompts | None:
        from llama_wrapper import CannotBranch

        longest = max(range(len(self.rows)), key=lambda i: len(self.rows[i]))
        try:
            packed = PackedPrompts(self.wrapper, self.rows, 1)
            others = [self.letters[longest][1]]
            fast = packed.last_token_outputs([self.rows[longest]], others, self.layers)[0]
        except CannotBranch as error:
            _warn_slow(self.wrapper, str(error))
            return None
        slow = self._slow(longest)
        same = all(
            _agree(self.wrapper, fast[:, i], slow[:, i], warn=i == len(self.layers) - 1)
            for i in range(len(self.layers))
        )
        return packed if same else None

    def _slow(self, index: int) -> Tensor:
        row = self.rows[index]
        pair = [(*row[:-1], letter) for letter in self.letters[index]]
        return torch.stack([slow_last_token_outputs(self.wrapper, r, self.layers) for r in pair])

    def outputs(self, batch: Sequence[int]) -> Tensor:
        """Block outputs at the letter, shape (pairs, 2, layers, width); index 0 is matching."""
        if self.packed is None:
            return torch.stack([self._slow(i) for i in batch])
        rows, others = [self.rows[i] for i in batch], [self.letters[i][1] for i in batch]
        return self.packed.last_token_outputs(rows, others, self.layers)


def _agree(wrapper: "LlamaWrapper", fast: Tensor, slow: Tensor, *, warn: bool = True) -> bool:
    deviation = float((fast - slow).abs().max() / slow.float().std())
    if deviation <= TOLERANCE.get(wrapper.dtype, HALF_TOLERANCE):
        return True
    if warn:
        _warn_slow(wrapper, f"packed and plain passes differ by {deviation:.1e} on a test prompt")
    return False


def _warn_slow(wrapper: "LlamaWrapper", reason: str) -> None:
    warnings.warn(
        f"{wrapper.architecture}: {reason}; computing one forward pass a cell (slow, same numbers)",
        stacklevel=3,
    )


def deltas_of(vectors: Mapping[int, Tensor], multipliers: Sequence[float]) -> list[Steer]:
    """All steers of a layers x multipliers grid, multiplier 0 left out."""
    return [Steer(n, m * v) for n, v in vectors.items() for m in multipliers if m != 0]
