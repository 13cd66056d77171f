"""What contrast pairs say about their vector, from sums alone: strength, agreement, oddities.

Everything here comes from the positions that vector generation reads anyway: the last token of
the instruction, what follows it, and the letters of both answers. ``H``, the median length of the
residual stream there, is the unit of a *dose*. The tokens of a free answer are not among them, so
that its median may differ; nor are first tokens, whose length many models inflate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.one_pass import Readings

# Above these a vector or a residual stream is mostly one dimension (massive activations).
LARGE_SHARE, LARGE_RATIO = 0.5, 100.0


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
    def zero(cls, shape: tuple[int, int]) -> "Moments":
        """No pairs yet; ``shape`` is (layers, width)."""
        wide = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        differences, signed, sizes = wide
        return cls(differences, signed, torch.zeros(shape[0], dtype=torch.float64), sizes)

    @classmethod
    def total(cls, parts: "Sequence[Moments]", shape: tuple[int, int]) -> "Moments":
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
    def from_state(cls, state: dict[str, Any], shape: tuple[int, int]) -> "Moments":
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


@dataclass(frozen=True)
class LayerStats:
    """What is known of the vector of one layer.

    Attributes:
        norm: length of the vector.
        residual_norm: H, the median length of the residual stream at the steered tokens.
        agreement: cosine of the pairs' differences with the vector, once the difference between
            the two letters is taken out of them; a mean over pairs, weighted by their length.
            Pairs that have nothing in common give about 1 / sqrt(pairs). ``None`` if all pairs
            have the same letters.
        largest_share: share of the vector's largest dimension in its squared length.
        largest_ratio: largest over median mean absolute component of the residual stream; ``None``
            if most components are 0.
    """

    norm: float
    residual_norm: float
    agreement: float | None
    largest_share: float
    largest_ratio: float | None

    @property
    def dose(self) -> float:
        """The dose of multiplier 1."""
        return self.norm / self.residual_norm if self.residual_norm else float("inf")

    def half_cosine(self, pairs: int) -> float | None:
        """Expected cosine of this vector with the one from half of its pairs.

        With r the squared agreement and noise that is independent between pairs it is
        sqrt(r / (r + (1 - r) / (n - 1))): 0.71 where the pairs have nothing in common, and near 1
        where more pairs would change nothing.

        Args:
            pairs: how many the vector was made from, n.
        """
        if not self.agreement or pairs < 2:
            return None
        r = min(self.agreement**2, 1.0)
        return float((r / (r + (1 - r) / (pairs - 1))) ** 0.5)

    def warnings(self) -> list[str]:
        found = []
        if self.largest_share > LARGE_SHARE:
            found.append(f"{self.largest_share:.0%} of the vector is one dimension")
        if self.largest_ratio is not None and self.largest_ratio > LARGE_RATIO:
            found.append(
                f"one dimension of the residual stream is {self.largest_ratio:.0f} times the median"
            )
        return found


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


def stats_table(stats: Mapping[int, LayerStats], pairs: int) -> str:
    """The statistics by layer for people, with a warning below for what is odd."""
    lines = [
        f"{'layer':>5}{'|v|':>9}{'H':>9}{'dose of x1':>12}{'agreement':>11}{'half':>7}"
        f"{'largest share':>15}{'largest |h|':>13}"
    ]
    for layer, s in stats.items():
        agreement = "-" if s.agreement is None else f"{s.agreement:.2f}"
        cosine = s.half_cosine(pairs)
        half = "-" if cosine is None else f"{cosine:.2f}"
        ratio = "-" if s.largest_ratio is None else f"{s.largest_ratio:.0f} x"
        lines.append(
            f"{layer:5}{s.norm:9.4g}{s.residual_norm:9.4g}{s.dose:12.3f}{agreement:>11}{half:>7}"
            f"{s.largest_share:15.2f}{ratio:>13}"
        )
    lines.append(
        "H: median length of the residual stream where it is steered; agreement: cosine of the "
        f"pairs with the vector, letters taken out (chance: {pairs**-0.5:.2f}); half: cosine with "
        "the vector from half as many pairs (chance: 0.71; near 1: more pairs would change little)"
    )
    lines += [f"warning: layer {n}: {text}" for n, s in stats.items() for text in s.warnings()]
    return "\n".join(lines)


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
