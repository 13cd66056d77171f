"""Lines with intervals: small multiples on shared axes, and panels over one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from utils.drawing.palette import COLORS, GREY
from utils.drawing.panels import Panel
from utils.drawing.plotting import (
    COLUMN_WIDTH,
    MARKERS,
    NOTE_SIZE,
    PAGE_WIDTH,
    draw_legend,
    drawing,
    finish,
    wrapped,
)
from utils.drawing.style import STYLE, Axes, Figure, MaxNLocator, PlainLogFormatter
from utils.text.numbers import true_minus

STACKED_HEIGHT = 1.9
DASHES = ["-", "--", ":", "-."]
SHADE = "#d9d9d9"
# In points of 1/72 inch.
FARTHEST = 6.0


def line_figure(panels: Sequence[Panel], path: Path, *, title: str = "", note: str = "") -> None:
    """Panels with shared axes, 95 % intervals, one legend; written whole or not at all.

    One panel fills a column; more are small multiples, two beside one another, with ``title``
    above them all. ``note``, small below, says what everything in the figure has in common.
    """
    columns = 1 if len(panels) == 1 else 2
    lines = -(-len(panels) // columns)
    size = (COLUMN_WIDTH, 2.9) if lines == columns == 1 else (PAGE_WIDTH, 1.75 * lines + 0.6)
    several = len(panels) > 1
    if not several and not title:
        title, panels = panels[0].title, [replace(panels[0], title="")]
    with drawing(lines, columns, size=size, sharex=several, sharey=several) as (figure, grid):
        places = list(grid.flat)
        labels = _labels(panels)
        for number, (axes, panel) in enumerate(zip(places, panels, strict=False)):
            _draw(axes, panel, labels)
            if panel.second is not None:
                _second_axis(axes, *panel.second, named=number < columns)
        for axes in places[max(0, len(panels) - columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
        for axes in places[(lines - 1) * columns : len(panels)]:
            axes.set_xlabel(panels[0].x_label)
        label = panels[0].y_label
        if lines == 1 and several:
            # beside the axes, not beside legend and axes
            places[0].set_ylabel(wrapped(label, 1.2))
        else:
            figure.supylabel(wrapped(label, 0.9 * size[1]), fontsize=STYLE["font.size"])
        spare = places[len(panels) :]
        for axes in spare:
            axes.set_axis_off()
        if len(labels) > 1:
            _draw_line_legend(figure, places, labels, title, spare[0] if spare else None)
        if spare:
            _note_inside(spare[0], note)
        finish(figure, path, title, "" if spare else note)


def stacked_figure(panels: Sequence[Panel], path: Path, *, title: str = "", note: str = "") -> None:
    """Panels of one column over one another on the same x, one legend above them.

    Written whole or not at all.
    """
    heights = [panel.height for panel in panels]
    size = (COLUMN_WIDTH, 0.9 + STACKED_HEIGHT * sum(heights))
    options: dict[str, Any] = {"sharex": True, "height_ratios": heights}
    with drawing(len(panels), 1, size=size, **options) as (figure, grid):
        labels = _labels(panels)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _draw(axes, panel, labels)
            axes.set_ylabel(wrapped(panel.y_label, STACKED_HEIGHT * panel.height))
        if panels[0].second is not None:
            _second_axis(grid[0, 0], *panels[0].second, named=True)
        grid[-1, 0].set_xlabel(panels[-1].x_label)
        figure.align_ylabels()
        if len(labels) > 1:
            _draw_line_legend(figure, list(grid.flat), labels, title, None)
        finish(figure, path, title, note)


def _labels(panels: Sequence[Panel]) -> list[str]:
    """What the legend names: all lines, then all bands."""
    lines = [line.label for panel in panels for line in panel.lines]
    return list(dict.fromkeys([*lines, *(p.band.label for p in panels if p.band is not None)]))


def _note_inside(axes: Axes, text: str) -> None:
    """A note in a place where nothing else is drawn."""
    width = axes.bbox.width / axes.figure.dpi
    _corner(axes, wrapped(text, width, NOTE_SIZE), (0.02, 0.02), "bottom")


def _corner(
    axes: Axes, text: str, place: tuple[float, float], side: Literal["top", "bottom"]
) -> None:
    """A small text at a place in an axes, from (0, 0) to (1, 1)."""
    axes.text(
        *place, text, transform=axes.transAxes, va=side, fontsize=NOTE_SIZE, color=GREY, zorder=4
    )


def _second_axis(axes: Axes, name: str, factor: float, *, named: bool) -> None:
    """The same x in another unit, above; its name only over the first row of panels."""

    def there(x: Any) -> Any:
        return x * factor

    def back(x: Any) -> Any:
        return x / factor

    second = axes.secondary_xaxis("top", functions=(there, back))
    second.xaxis.set_major_locator(MaxNLocator(nbins=5))
    second.tick_params(labelsize=7, colors="#666666", length=2, pad=1)
    second.spines["top"].set_color("#bbbbbb")
    if named:
        second.set_xlabel(name, fontsize=7, color="#666666", labelpad=2)


def _draw_line_legend(
    figure: Figure, places: Sequence[Axes], labels: Sequence[str], title: str, spare: Axes | None
) -> None:
    """One legend for lines of all panels, in a spare place or above them."""
    found: dict[Any, Any] = {}
    for axes in places:
        handles, names = axes.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    entries = [found[label] for label in labels]
    if spare is not None and max(map(len, labels)) <= 40 and len(labels) <= 8:
        spare.legend(entries, labels, loc="upper left", frameon=False)
    else:
        draw_legend(figure, entries, labels, title)


def _draw(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    """Draw one panel; a label has the same colour and marker in all of them."""
    if panel.reference is not None:
        axes.axhline(panel.reference, color="#888888", linewidth=0.8, zorder=1)
    axes.grid(axis="x", visible=False)
    if panel.band is not None:
        band = panel.band
        axes.fill_between(
            band.x, band.low, band.high, color=SHADE, lw=0, label=band.label, zorder=0.5
        )
    points = axes.bbox.width / axes.figure.dpi * 72
    pitch, shifts = _shifts(panel, points)
    for line, shift in zip(panel.lines, shifts, strict=True):
        index = labels.index(line.label)
        color = line.color or COLORS[index % len(COLORS)]
        x, y = [value + shift for value in line.x], [e.mean for e in line.y]
        axes.plot(
            x,
            y,
            color=color,
            marker=MARKERS[index % len(MARKERS)],
            linestyle=DASHES[index // len(COLORS) % len(DASHES)],
            markersize=_marker_size(points, pitch, panel),
            markevery=_marked(y, index, len(labels)) if panel.sparse else None,
            linewidth=1.1,
            label=line.label,
            zorder=3,
        )
        known = [(place, e) for place, e in zip(x, line.y, strict=True) if e.has_interval]
        if panel.intervals and known:
            low, high = [e.low for _, e in known], [e.high for _, e in known]
            axes.vlines([place for place, _ in known], low, high, color=color, lw=1, zorder=2)
    axes.set_title(panel.title, loc="left")
    if panel.aside:
        _corner(axes, panel.aside, (0.02, 0.97), "top")
    if panel.least is not None:
        # The points of nothing at all: the axis grows to hold them, and its usual margins stay.
        axes.update_datalim([(0, y) for y in panel.least], updatex=False)
        axes.autoscale_view()
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        # by default a formula
        axes.yaxis.set_minor_formatter(PlainLogFormatter())
    if panel.x_ticks:
        ticks = [true_minus(f"{x:g}") for x in panel.x_ticks]
        axes.set_xticks(list(panel.x_ticks), ticks)
    elif panel.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


def _marked(y: Sequence[float], index: int, lines: int) -> slice:
    """Which points of a line have a marker."""
    step = min(lines, len(MARKERS))
    # between two gaps a point without a marker would not be seen at all
    few = len(y) < 3 * step or bool(np.isnan(y).any())
    return slice(None) if few else slice(index % step, None, step)


def _shifts(panel: Panel, points: float) -> tuple[float, list[float]]:
    """The smallest distance of two x, and how far each line is moved so that bars stay apart.

    Where x are few, no farther than that takes: a point is to be read at its tick.

    Args:
        panel: the lines.
        points: width of the axes in points of 1/72 inch.
    """
    every = np.unique([x for line in panel.lines for x in line.x])
    pitch = float(np.diff(every).min()) if every.size > 1 else 1.0
    lines = len(panel.lines)
    bars = panel.intervals and any(e.has_interval for line in panel.lines for e in line.y)
    step = min(0.12, 0.6 / max(lines, 1)) * pitch if bars else 0.0
    if every.size > 1:
        step = min(step, FARTHEST * float(np.ptp(every)) / points)
    return pitch, [step * (index - (lines - 1) / 2) for index in range(lines)]


def _marker_size(points: float, pitch: float, panel: Panel) -> float:
    """Smaller where points crowd.

    Args:
        points: width of the axes in points of 1/72 inch.
        pitch: smallest distance of two x.
        panel: its lines say how long the axis is.
    """
    every = [x for line in panel.lines for x in line.x]
    length = (max(every) - min(every)) / pitch + 1 if every else 1.0
    return float(np.clip(0.45 * points / length, 1.8, 4))
