"""What is read of the next token's logits, over a grid of layers and multipliers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.branches import length_batches
from utils.blocks.rotary import stretching
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.steering.check_notes import SelfTest
from utils.steering.one_pass import (
    MAX_BRANCHES,
    PackedPrompts,
    Steer,
    batched_logits,
    default_budget,
    slow_logits,
)
from utils.steering.readings import Divergence, Letters, Reading
from utils.steering.self_check import Rounding, Ways, checked, probe_batches

P = TypeVar("P", bound=LetterPrompt | OpenPrompt)


def deltas_of(vectors: Mapping[int, Tensor], multipliers: Sequence[float]) -> list[Steer]:
    """All steers of a layers x multipliers grid, multiplier 0 left out."""
    return [Steer(n, m * v) for n, v in vectors.items() for m in multipliers if m != 0]


class SteeredGrid(Generic[P]):
    """What is read of the logits after every prompt, under every steer; ``reading`` says what.

    Args:
        wrapper: the model.
        prompts: all prompts of the run, the finished ones too (batches depend on all of them).
        steers: the steered cells.
        budget: tokens in one forward pass; ``None`` for the default of the device.
        slow: one forward pass a cell, for comparison.

    Attributes:
        reading: what is read of the logits, one for all grids of a class.
        batches: indices of the prompts that are computed together.
        rounding: of a 16-bit model, as measured before the run.
        alone: cells computed one by one so far: all of the slow way, or those that overflow.
    """

    reading: Reading[P]

    def __init__(
        self,
        wrapper: LlamaWrapper,
        prompts: Sequence[P],
        steers: Sequence[Steer],
        *,
        budget: int | None = None,
        slow: bool = False,
    ) -> None:
        self.wrapper, self.prompts = wrapper, prompts
        self.order = sorted(range(len(steers)), key=lambda i: steers[i].layer)
        self.steers = [steers[i] for i in self.order]
        self.alone = 0
        regime = stretching(wrapper.model.config).regime
        # a batch holds prompts of one tail that are read alike
        groups = [(regime(len(p.ids)), p.tail, *self.reading.group(p)) for p in prompts]
        self.packed, self.rounding = (None, None) if slow else self._checked_packing(groups)
        budget = budget or default_budget(wrapper.device)
        if self.packed is None:
            self.batches = [[i] for i in range(len(prompts))]
            return
        tail = max(p.tail for p in prompts)
        per_pass = max(1, min(MAX_BRANCHES, budget // (2 * tail)))
        starts = range(0, max(1, len(steers)), per_pass)
        self.chunks = [self.steers[i : i + per_pass] for i in starts]
        prefix = self.packed.prefix
        costs = [(g, len(p.ids) - prefix) for g, p in zip(groups, prompts, strict=True)]
        extra = tail * len(self.chunks[0])
        self.batches = length_batches(costs, extra=extra, budget=budget)

    def _checked_packing(
        self, groups: Sequence[tuple[int, ...]]
    ) -> tuple[PackedPrompts | None, Rounding | None]:
        lengths = [len(p.ids) for p in self.prompts]
        batches = [[self.prompts[i] for i in b] for b in probe_batches(lengths, groups)]
        tests = [prompt for batch in batches for prompt in batch]
        probes: list[Steer] = []

        def slow() -> list[Tensor]:
            probes[:], logits = self._probes(tests)
            return [logits]

        tail = max(p.tail for p in self.prompts)

        def prepare() -> PackedPrompts:
            return PackedPrompts(self.wrapper, [p.ids for p in self.prompts], tail)

        def fast(packed: PackedPrompts) -> list[Tensor]:
            found = [packed.logits([p.ids for p in b], b[0].tail, probes) for b in batches]
            return [torch.cat(found)]

        def batched() -> list[Tensor]:
            cells = (None, *probes)
            found = [
                torch.stack([batched_logits(self.wrapper, b, c) for c in cells], 2) for b in batches
            ]
            return [torch.cat(found, dim=1)]

        kind = "letters" if self.steers else "letters unsteered"
        test = SelfTest(kind, lengths, tail)
        return checked(self.wrapper, Ways(test, slow, prepare, fast, batched))

    def _probes(self, tests: Sequence[P]) -> tuple[list[Steer], Tensor]:
        """Steers that show whether packing works, and the logits of the test prompts under them.

        The lowest layer's and the highest one's. One that breaks the model would take the others
        with it and show nothing; the weakest of all stands in where both do.

        Returns:
            The steers; and the slow way's logits without any and under each, shape
            (prompts, 1 + steers, vocabulary).
        """

        def logits(steer: Steer | None) -> Tensor:
            return torch.stack([slow_logits(self.wrapper, p, steer) for p in tests])

        plain = logits(None)
        ends = list({id(s): s for s in self.steers[:1] + self.steers[-1:]}.values())
        found = [(steer, logits(steer)) for steer in ends]
        if plain.isfinite().all():
            sound = [(s, f) for s, f in found if f.isfinite().all()]
            if found and not sound:
                weakest = min(self.steers, key=lambda s: float(s.delta.norm()))
                sound = [(s, f) for s, f in [(weakest, logits(weakest))] if f.isfinite().all()]
            found = sound
        stacked = torch.stack([plain, *(f for _, f in found)], dim=1)
        return [steer for steer, _ in found], stacked

    def readings(self, batch: Sequence[int]) -> Tensor:
        """What is read for the prompts of one batch.

        Returns:
            float64, shape (prompts, 1 + steers, numbers), steers in the order given.
        """
        prompts = [self.prompts[i] for i in batch]
        if self.packed is None:
            rows = [
                torch.stack([slow_logits(self.wrapper, p, s) for s in (None, *self.steers)])
                for p in prompts
            ]
            found = self.reading(torch.stack(rows), prompts)
            self.alone += len(prompts) * (1 + len(self.steers))
        else:
            parts = [self._packed_cells(self.packed, prompts, chunk) for chunk in self.chunks]
            found = torch.cat([_plain(parts)[:, None], *(part[:, 1:] for part in parts)], dim=1)
            for row in found[:, 0].isnan().any(dim=-1).nonzero()[:, 0].tolist():
                found[row, 0] = self._alone(prompts[row], None)
        result = torch.empty_like(found)
        result[:, [0, *(i + 1 for i in self.order)]] = found
        return result

    def _packed_cells(
        self, packed: PackedPrompts, prompts: Sequence[P], steers: Sequence[Steer]
    ) -> Tensor:
        """What is read without steering and under some, (prompts, 1 + steers, numbers).

        Attention weighs what a token must not see with 0, and 0 times infinity is NaN: one
        branch that breaks under its steering takes all others of its pack with it. So a pack
        that holds NaN is halved until the broken branch is alone with the unsteered one. That
        cell is computed the slow way; the unsteered ones stay NaN here where no pack has them.
        """
        rows, tail = [p.ids for p in prompts], prompts[0].tail
        found = self.reading(packed.logits(rows, tail, steers), prompts)
        broken = found.isnan().any(dim=-1).any(dim=-1).nonzero()[:, 0].tolist()
        if len(steers) == 1:
            for row in found[:, 1].isnan().any(dim=-1).nonzero()[:, 0].tolist():
                found[row, 1] = self._alone(prompts[row], steers[0])
        elif steers and broken:
            some, half = [prompts[i] for i in broken], len(steers) // 2
            low, high = (
                self._packed_cells(packed, some, part) for part in (steers[:half], steers[half:])
            )
            plain = _plain([low, high])[:, None]
            found[broken] = torch.cat([plain, low[:, 1:], high[:, 1:]], dim=1)
        return found

    def _alone(self, prompt: P, steer: Steer | None) -> Tensor:
        """One cell by a forward pass of its own, shape (numbers,); counted, and said once."""
        if not self.alone:
            warnings.warn(
                f"{self.wrapper.architecture}: numbers overflow in some cells; each of those is "
                "computed alone, by one forward pass",
                stacklevel=2,
            )
        self.alone += 1
        cells = [steer] if steer is None or not self.reading.compares else [None, steer]
        logits = torch.stack([slow_logits(self.wrapper, prompt, cell) for cell in cells])
        return self.reading(logits[None], [prompt])[0, -1]


class LetterGrid(SteeredGrid[LetterPrompt]):
    """P(letter) of every prompt under every steer."""

    reading = Letters()

    def probabilities(self, batch: Sequence[int]) -> Tensor:
        """P(letter) for the prompts of one batch, float64, (prompts, 1 + steers, letters)."""
        return self.readings(batch)


class DivergenceGrid(SteeredGrid[OpenPrompt]):
    """KL(unsteered || steered) of the next token, nats, of every prompt under every steer."""

    reading = Divergence()


def _plain(parts: Sequence[Tensor]) -> Tensor:
    """What is read without steering, of the first pack in which nothing broke."""
    found = parts[0][:, 0]
    for part in parts[1:]:
        found = torch.where(found.isnan(), part[:, 0], found)
    return found
