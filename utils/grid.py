"""P(letter) over a grid of layers and multipliers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from utils.branches import length_batches
from utils.one_pass import (
    MAX_BRANCHES,
    PackedPrompts,
    Steer,
    checked,
    default_budget,
    letter_probabilities,
    slow_logits,
)
from utils.prompts import LetterPrompt

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper


def deltas_of(vectors: Mapping[int, Tensor], multipliers: Sequence[float]) -> list[Steer]:
    """All steers of a layers x multipliers grid, multiplier 0 left out."""
    return [Steer(n, m * v) for n, v in vectors.items() for m in multipliers if m != 0]


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
        starts = range(0, max(1, len(steers)), per_pass)
        self.chunks = [self.steers[i : i + per_pass] for i in starts]
        # a batch holds prompts of one tail and the same letter tokens
        costs = [((p.tail, *p.letters.values()), len(p.ids) - self.packed.prefix) for p in prompts]
        extra = tail * len(self.chunks[0])
        self.batches = length_batches(costs, extra=extra, budget=budget)

    def _checked_packing(self) -> PackedPrompts | None:
        longest = max(self.prompts, key=lambda p: len(p.ids))
        probes = self.steers[:1] + self.steers[-1:]
        rows, tail = [p.ids for p in self.prompts], max(p.tail for p in self.prompts)

        def fast() -> tuple[PackedPrompts, list[Tensor]]:
            packed = PackedPrompts(self.wrapper, rows, tail)
            return packed, [packed.logits([longest.ids], longest.tail, probes)[0]]

        def slow() -> list[Tensor]:
            return [torch.stack([slow_logits(self.wrapper, longest, c) for c in (None, *probes)])]

        return checked(self.wrapper, fast, slow)

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
            parts: list[Tensor] = []
            for chunk in self.chunks:
                logits = self.packed.logits([p.ids for p in prompts], prompts[0].tail, chunk)
                part = letter_probabilities(logits, letters)
                parts.append(part if not parts else part[:, 1:])
            found = torch.cat(parts, dim=1)
            self._mend(found, prompts, letters)
        result = torch.empty_like(found)
        result[:, [0, *(i + 1 for i in self.order)]] = found
        return result

    def _mend(self, found: Tensor, prompts: Sequence[LetterPrompt], letters: Sequence[int]) -> None:
        """Compute cells that came out as NaN one by one, in place.

        Attention weighs what a token must not see with 0, and 0 times infinity is NaN: one
        branch that breaks under its steering would take all others of its pack with it.
        """
        cells = [None, *self.steers]
        for row, column in found.isnan().any(dim=-1).nonzero().tolist():
            logits = slow_logits(self.wrapper, prompts[row], cells[column])
            found[row, column] = letter_probabilities(logits, letters)
