"""What a plot of lines shows: lines, a band behind them, and their axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from utils.stats import Estimate


@dataclass(frozen=True)
class Line:
    """One line of a plot; a point that is missing is simply not in it.

    Attributes:
        label: in the legend; lines of one label look the same in all panels.
        x, y: of one length.
        color: one that means something; ``None``: any.
    """

    label: str
    x: Sequence[float]
    y: Sequence[Estimate]
    color: str | None = None


def exact(label: str, x: Sequence[float], y: Iterable[float], color: str | None = None) -> Line:
    """A line of numbers that have no interval; one that is NaN is a gap."""
    nothing = float("nan")
    return Line(label, x, [Estimate(float(value), nothing, nothing, 1) for value in y], color)


@dataclass(frozen=True)
class Band:
    """What lies behind all lines in grey: where a point may lie by chance.

    Attributes:
        label: in the legend.
        x, low, high: of one length, ascending in x.
    """

    label: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass
class Panel:
    """One pair of axes.

    Attributes:
        lines: what is drawn.
        x_label, y_label, title: texts.
        aside: a small text in the upper left corner.
        whole_x: the x axis counts things (layers), so its ticks are whole numbers.
        x_ticks: place ticks exactly here.
        reference: draw a thin line at this y (no change, or chance).
        least: lowest and highest y that are shown in any case, so that no axis is so short that
            rounding looks like an effect.
        log: logarithmic y.
        sparse: a marker at every few points only, at others for every line, so that lines that
            lie on one another are all seen.
        second: a name and a factor: a second x axis above, x times the factor.
        intervals: draw them; else they stand in the figure's text alone.
        height: in proportion to that of panels below and above.
        band: behind the lines.
    """

    lines: list[Line]
    x_label: str
    y_label: str
    title: str = ""
    aside: str = ""
    whole_x: bool = False
    x_ticks: Sequence[float] = field(default_factory=list)
    reference: float | None = None
    least: tuple[float, float] | None = None
    log: bool = False
    sparse: bool = False
    second: tuple[str, float] | None = None
    intervals: bool = True
    height: float = 1.0
    band: Band | None = None
