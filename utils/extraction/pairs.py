"""Residual streams at the answer letter, both answers of a pair behind one shared prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.branches import length_batches
from utils.blocks.padding import left_padded
from utils.blocks.rotary import stretching
from utils.prompts.format import LetterPrompt
from utils.steering.check_notes import SelfTest
from utils.steering.one_pass import PackedPrompts, Readings, default_budget, slow_outputs
from utils.steering.self_check import COPIES, PADDINGS, Rounding, Ways, checked, probe_batches


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
        rounding: of a 16-bit model, as measured before the run.
    """

    def __init__(
        self,
        wrapper: LlamaWrapper,
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
        regime = stretching(wrapper.model.config).regime
        self.groups = [(regime(len(r)), t) for r, t in zip(self.rows, self.tails, strict=True)]
        self.packed, self.rounding = (None, None) if slow else self._checked_packing()
        prefix = self.packed.prefix if self.packed else 0
        costs = [(g, len(r) - prefix) for g, r in zip(self.groups, self.rows, strict=True)]
        budget = budget or default_budget(wrapper.device)
        self.batches = length_batches(costs, extra=1, budget=budget if self.packed else 1)

    def _checked_packing(self) -> tuple[PackedPrompts | None, Rounding | None]:
        batches = probe_batches([len(row) for row in self.rows], self.groups)

        # by layers: a large deviation at an early one is a small one at the scale of the last
        def slow() -> list[Tensor]:
            found = [self._slow(i).letters for b in batches for i in b]
            return list(torch.cat(found).unbind(2))

        def prepare() -> PackedPrompts:
            return PackedPrompts(self.wrapper, self.rows, 1 + max(self.tails))

        def fast(packed: PackedPrompts) -> list[Tensor]:
            found = [self._fast(packed, b).letters for b in batches]
            return list(torch.cat(found).unbind(2))

        def batched() -> list[Tensor]:
            return list(torch.cat([self._batched(b) for b in batches], dim=1).unbind(3))

        test = SelfTest("pairs", [len(row) for row in self.rows], max(self.tails))
        return checked(self.wrapper, Ways(test, slow, prepare, fast, batched))

    def _batched(self, batch: Sequence[int]) -> Tensor:
        """The slow way as rows of batches, shape (versions, pairs, 2, layers, width)."""
        rows = [(*self.rows[i][:-1], letter) for i in batch for letter in self.letters[i]]
        found = []
        for padding in PADDINGS:
            inputs = left_padded(rows * COPIES, self.wrapper.device, extra=padding)
            with self.wrapper.record(self.layers) as recorded:
                self.wrapper.run_until(self.layers[-1], **inputs, use_cache=False)
            found.append(torch.stack([recorded[n][:, -1].to("cpu") for n in self.layers], dim=1))
        return torch.cat(found).unflatten(0, (-1, len(batch), 2))

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
