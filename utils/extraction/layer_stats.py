"""The statistics of one layer's vector, and their table.

How they are found: :mod:`utils.extraction.vector_stats`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from utils.text.terminal_tables import plain_table

# Above these a vector or a residual stream is mostly one dimension (massive activations).
LARGE_SHARE, LARGE_RATIO = 0.5, 100.0


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


def stats_table(stats: Mapping[int, LayerStats], pairs: int) -> str:
    """The statistics by layer for people, with a warning below for what is odd."""
    header = [
        "layer",
        "|v|",
        "H",
        "dose of x1",
        "agreement",
        "half",
        "largest share",
        "largest |h|",
    ]
    rows = []
    for layer, s in stats.items():
        agreement, half = _digits(s.agreement), _digits(s.half_cosine(pairs))
        ratio = "-" if s.largest_ratio is None else f"{s.largest_ratio:.0f} x"
        lengths = [f"{s.norm:.4g}", f"{s.residual_norm:.4g}", f"{s.dose:.3f}"]
        rows.append([str(layer), *lengths, agreement, half, f"{s.largest_share:.2f}", ratio])
    lines = [plain_table(header, rows, align="r" * len(header))]
    lines.append(
        "H: median length of the residual stream where it is steered\n"
        "agreement: cosine of the pairs with the vector, letters taken out "
        f"(chance: {pairs**-0.5:.2f})\n"
        "half: cosine with the vector from half as many pairs (chance: 0.71; near 1:\n"
        "more pairs would change little)"
    )
    lines += [f"warning: layer {n}: {text}" for n, s in stats.items() for text in s.warnings()]
    return "\n".join(lines)


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
