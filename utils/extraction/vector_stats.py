"""What contrast pairs say about their vector, from sums alone: strength, agreement, oddities.

Everything here comes from the positions that vector generation reads anyway: the last token of
the instruction, what follows it, and the letters of both answers. ``H``, the median length of the
residual stream there, is the unit of a *dose*. The tokens of a free answer are not among them, so
that its median may differ; nor are first tokens, whose length many models inflate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.extraction.layer_stats import LayerStats
from utils.steering.one_pass import Readings


@dataclass
class Moments:
    """Sums over contrast pairs, float64; d is the matching answer's residual minus the other's.

    Attributes:
        differences: sum of d, shape (layers, width).
        signed: sum of s * d, where s is 1 if the matching letter comes first in the alphabet,
            else -1; shape (layers, width).
        squares: sum of the squared length of d, shape (layers,).
        sizes: sum of the absolute components of both answers' residuals, shape (layers, width).
        firsts: number of pairs with s = 1.
        norms: lengths of the residual stream at the steered tokens, float32, a tensor of shape
            (pairs, tokens, layers) for each batch.
    """

    differences: Tensor
    signed: Tensor
    squares: Tensor
    sizes: Tensor
    firsts: int = 0
    norms: list[Tensor] = field(default_factory=list)

    @classmethod
    def zero(cls, shape: tuple[int, int]) -> Moments:
        """No pairs yet; ``shape`` is (layers, width)."""
        wide = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        differences, signed, sizes = wide
        return cls(differences, signed, torch.zeros(shape[0], dtype=torch.float64), sizes)

    @classmethod
    def total(cls, parts: Sequence[Moments], shape: tuple[int, int]) -> Moments:
        """The sums of all parts together."""
        found = cls.zero(shape)
        for part in parts:
            for name in ("differences", "signed", "squares", "sizes", "firsts", "norms"):
                setattr(found, name, getattr(found, name) + getattr(part, name))
        return found

    @property
    def pairs(self) -> int:
        return sum(len(norms) for norms in self.norms)

    def add(self, readings: Readings, signs: Sequence[int]) -> None:
        """Add one batch; ``signs`` holds s of every pair."""
        matching, other = readings.letters.double().unbind(1)
        difference = matching - other
        s = torch.tensor(signs, dtype=torch.float64)[:, None, None]
        self.differences += difference.sum(dim=0)
        self.signed += (s * difference).sum(dim=0)
        self.squares += difference.square().sum(dim=(0, 2))
        self.sizes += (matching.abs() + other.abs()).sum(dim=0)
        self.firsts += sum(sign > 0 for sign in signs)
        self.norms.append(readings.norms.float())

    def state(self) -> dict[str, Any]:
        """Plain tensors and numbers, for :meth:`from_state`."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any], shape: tuple[int, int]) -> Moments:
        """What :meth:`state` gave.

        Raises:
            KeyError, TypeError, RuntimeError, AttributeError: it is no such state.
        """
        wide = {name: state[name].reshape(shape) for name in ("differences", "signed", "sizes")}
        squares = state["squares"].reshape(shape[0])
        return cls(**wide, squares=squares, firsts=int(state["firsts"]), norms=list(state["norms"]))

    def vectors(self) -> Tensor:
        """Mean of d: the steering vectors, float64, shape (layers, width)."""
        return self.differences / self.pairs


def layer_stats(moments: Moments, index: int) -> LayerStats:
    """The statistics of one layer, by its index among those that were read."""
    vector = moments.vectors()[index].numpy()
    lengths = np.concatenate([n[:, :, index].numpy().ravel() for n in moments.norms])
    sizes = moments.sizes[index].numpy()
    middle = float(np.median(sizes))
    norm = float(np.linalg.norm(vector))
    return LayerStats(
        norm=norm,
        residual_norm=float(np.median(lengths.astype(np.float64))),
        agreement=_agreement(moments, index),
        largest_share=float((vector**2).max() / norm**2) if norm else 0.0,
        largest_ratio=float(sizes.max() / middle) if middle else None,
    )


def _agreement(moments: Moments, index: int) -> float | None:
    """See :class:`LayerStats`: sum of c.v / (|v| sqrt(n sum |c|^2)), where c = d - s l.

    l is half the difference of the mean d of the two letters' pairs, so that c holds no letter.
    """
    n, firsts = moments.pairs, moments.firsts
    if not 0 < firsts < n:
        return None
    total, signed = moments.differences[index].numpy(), moments.signed[index].numpy()
    letter = ((total + signed) / 2 / firsts - (total - signed) / 2 / (n - firsts)) / 2
    along = (total - (2 * firsts - n) * letter) @ total
    squared = float(moments.squares[index]) - 2 * letter @ signed + n * letter @ letter
    length = np.linalg.norm(total) * np.sqrt(n * max(squared, 0.0))
    return float(along / length) if length else None
