"""Dot plots: a row for each category or behaviour, its points side by side within the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from utils.drawing.palette import COLORS
from utils.drawing.plotting import COLUMN_WIDTH, MARKERS, draw_legend, drawing, finish
from utils.drawing.style import Axes
from utils.stats import Estimate

ROW_SIZE = 7.0


@dataclass(frozen=True)
class CategoryLine:
    """One column of points: a strength's change in every category, or of every behaviour.

    Attributes:
        label: in the legend.
        points: row -> its point; rows without one are left empty.
        color: one that means something; ``None``: any.
    """

    label: str
    points: dict[str, Estimate]
    color: str | None = None


@dataclass(frozen=True)
class DotPlot:
    """What is drawn, but for title and note.

    Attributes:
        names: of the rows, the first on top.
        lines: the points.
        x_label: text.
        reference: draw a thin line at this x (no change).
        least: lowest and highest x that are shown in any case.
        beside: row -> a text in a column at the right; ``beside_title`` stands above it.
    """

    names: Sequence[str]
    lines: Sequence[CategoryLine]
    x_label: str
    reference: float | None = None
    least: tuple[float, float] | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    beside_title: str = ""


def category_figure(content: DotPlot, title: str, path: Path, *, note: str = "") -> None:
    """Draw a dot plot; written whole or not at all."""
    names, lines = content.names, content.lines
    height = 1.35 + len(names) * (0.13 + 0.06 * len(lines))
    with drawing(size=(COLUMN_WIDTH, max(2.2, height))) as (figure, ((axes,),)):
        if content.reference is not None:
            axes.axvline(content.reference, color="#888888", linewidth=0.8, zorder=1)
        _draw_points(axes, content)
        axes.grid(axis="y", visible=False)
        for place in range(0, len(names), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="#f6f6f6", linewidth=0, zorder=0)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.tick_params(axis="y", labelsize=ROW_SIZE, length=0)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(content.x_label)
        if content.beside:
            _beside(axes, content)
        handles, labels = axes.get_legend_handles_labels()
        draw_legend(figure, handles, labels, title)
        finish(figure, path, title, note)


def _draw_points(axes: Axes, content: DotPlot) -> None:
    for index, line in enumerate(content.lines):
        offset = 0.7 * ((index + 0.5) / len(content.lines) - 0.5)
        shown = [(content.names.index(c) + offset, e) for c, e in line.points.items()]
        sure = [(y, e) for y, e in shown if e.has_interval]
        color = line.color or COLORS[index % len(COLORS)]
        low, high = [e.low for _, e in sure], [e.high for _, e in sure]
        axes.hlines([y for y, _ in sure], low, high, color=color, lw=1)
        x, y = [e.mean for _, e in shown], [y for y, _ in shown]
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(x, y, linestyle="", marker=marker, color=color, ms=3.2, label=line.label)
    if content.least is not None:
        axes.update_datalim([(x, 0) for x in content.least], updatey=False)
        axes.autoscale_view(scaley=False)


def _beside(axes: Axes, content: DotPlot) -> None:
    """A column of texts at the right, a row's text beside its points."""
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    texts = [content.beside.get(name, "") for name in content.names]
    right.set_yticks(range(len(texts)), texts)
    right.tick_params(axis="y", labelsize=ROW_SIZE, length=0, colors="#555555")
    right.grid(visible=False)
    right.spines[:].set_visible(False)
    right.set_title(content.beside_title, loc="right", pad=3, fontsize=ROW_SIZE, color="#555555")
