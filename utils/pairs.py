"""Residual streams at the answer letter, both answers of a pair behind one shared prompt."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from utils.branches import length_batches
from utils.one_pass import PackedPrompts, Readings, checked, default_budget, slow_outputs
from utils.prompts import LetterPrompt

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper


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
        self.tails = [p.tail for p in prompts]
        self.packed = None if slow else self._checked_packing()
        prefix = self.packed.prefix if self.packed else 0
        costs = [(t, len(r) - prefix) for t, r in zip(self.tails, self.rows, strict=True)]
        budget = budget or default_budget(wrapper.device)
        self.batches = length_batches(costs, extra=1, budget=budget if self.packed else 1)

    def _checked_packing(self) -> PackedPrompts | None:
        longest = max(range(len(self.rows)), key=lambda i: len(self.rows[i]))

        def fast() -> tuple[PackedPrompts, Sequence[Tensor]]:
            packed = PackedPrompts(self.wrapper, self.rows, 1 + max(self.tails))
            return packed, self._fast(packed, [longest]).letters[0].unbind(1)

        # by layers: a large deviation at an early one is a small one at the scale of the last
        return checked(self.wrapper, fast, lambda: self._slow(longest).letters[0].unbind(1))

    def _slow(self, index: int) -> Readings:
        row, count = self.rows[index], self.tails[index] + 1
        first, other = (
            slow_outputs(self.wrapper, (*row[:-1], letter), self.layers, count)
            for letter in self.letters[index]
        )
        norms = torch.cat([first, other[-1:]]).float().norm(dim=-1)
        return Readings(torch.stack([first[-1], other[-1]])[None], norms[None])

    def _fast(self, packed: PackedPrompts, batch: Sequence[int]) -> Readings:
        rows, others = [self.rows[i] for i in batch], [self.letters[i][1] for i in batch]
        return packed.last_token_outputs(rows, others, self.layers, self.tails[batch[0]])

    def readings(self, batch: Sequence[int]) -> Readings:
        """What the pairs of one batch read."""
        if self.packed is not None:
            return self._fast(self.packed, batch)
        found = [self._slow(i) for i in batch]
        parts = ([f.letters for f in found], [f.norms for f in found])
        return Readings(*(torch.cat(part) for part in parts))

    def outputs(self, batch: Sequence[int]) -> Tensor:
        """Block outputs at the letter, shape (pairs, 2, layers, width); index 0 is matching."""
        return self.readings(batch).letters
