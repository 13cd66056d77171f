"""Drawing one row's next token, with a generator of its own."""

from __future__ import annotations

import secrets

import torch
from torch import Tensor


class Sampler:
    """Draws tokens; what it draws depends on its own seed and logits alone.

    Args:
        temperature: 0 takes the likeliest token.
        top_p: draw from the fewest tokens that have this much probability together, the likeliest
            first.
        seed: ``None`` for another one each time.
        choice: number of the answer among those to one prompt; each draws otherwise.
    """

    def __init__(self, temperature: float, top_p: float, seed: int | None, choice: int) -> None:
        self.temperature, self.top_p = temperature, top_p
        start = secrets.randbits(62) if seed is None else seed
        self._generator = torch.Generator().manual_seed((start + choice) % 2**63)

    def pick(self, logits: Tensor) -> int:
        """The next token.

        Args:
            logits: shape (vocabulary,).
        """
        if self.temperature == 0:
            return int(logits.argmax())
        # float64: a sum over a large vocabulary must not pass over its last tokens
        scaled = (logits.to("cpu", torch.float64) - logits.max().item()) / self.temperature
        chances = scaled.softmax(dim=-1)
        order: Tensor | None = None
        if self.top_p < 1:
            chances, order = chances.sort(descending=True, stable=True)
            before = chances.cumsum(0) - chances
            chances = chances[before < self.top_p]
        sums = chances.cumsum(0)
        at = torch.rand((), generator=self._generator, dtype=torch.float64) * sums[-1]
        place = min(int(torch.searchsorted(sums, at, right=True)), len(sums) - 1)
        return place if order is None else int(order[place])
