"""Pictures of vectors that are no heat maps: lines over layers, layers in their main plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.drawing.palette import COLORS
from utils.drawing.plotting import (
    COLUMN_WIDTH,
    MARKERS,
    PAGE_WIDTH,
    draw_legend_below,
    draw_title,
    drawing,
    finish,
)
from utils.drawing.style import STYLE, Axes, Figure, LogFormatter, MaxNLocator
from utils.vectors.similarity import Array

DASHES = ["-", "--", ":", "-."]
LABEL_SIZE = 6.5
# In points of 1/72 inch: the usual distance of a label from its dot, and how far apart the
# centres of two labels of two digits must lie so as not to touch.
NEAR = 7.0
LABEL_BOX = np.array([9.5, 7.0])


@dataclass(frozen=True)
class Course:
    """A line over layers without intervals.

    Attributes:
        index: which colour, marker and dash; the same for one thing in every panel of a figure.
        x, y: layers and values, of one length; a value that is NaN is not drawn.
    """

    label: str
    index: int
    x: Sequence[int]
    y: Array


@dataclass(frozen=True)
class Courses:
    """One pair of axes."""

    title: str
    lines: Sequence[Course]


def course_figure(
    panels: Sequence[Courses],
    path: Path,
    *,
    title: str,
    y_label: str,
    log: bool = False,
) -> None:
    """Panels with shared axes and one legend, two beside one another; written whole or not at all.

    Args:
        panels: one or more.
        path: where to.
        title: above everything.
        y_label: of all panels.
        log: logarithmic y; else values are cosines: a thin line at 0, which is always shown, and
            no zoom into differences that do not matter.
    """
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    size = (COLUMN_WIDTH, 3.3) if columns == 1 else (PAGE_WIDTH, max(4.4, 1.7 * rows + 0.6))
    with drawing(rows, columns, size=size, sharex=True, sharey=True) as (figure, grid):
        places = list(grid.flat)
        for axes, panel in zip(places, panels, strict=False):
            _draw_lines(axes, panel, log=log)
        for axes in places[max(0, len(panels) - columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
        for axes in places[(rows - 1) * columns : len(panels)]:
            axes.set_xlabel("layer")
        if not log:
            places[0].set_ylim(*_cosine_limits(panels))
        figure.supylabel(y_label, fontsize=STYLE["font.size"])
        _legend(figure, [line for panel in panels for line in panel.lines], places, len(panels))
        finish(figure, path, title)


def _cosine_limits(panels: Sequence[Courses]) -> tuple[float, float]:
    values = np.concatenate([line.y for panel in panels for line in panel.lines] or [np.zeros(0)])
    known = values[~np.isnan(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    # Room for markers at the ends.
    room = 0.03
    if low > -0.25 and high > 0.5:
        return min(low, 0.0) - room, 1.0 + room
    reach = max(abs(low), abs(high), 0.25) + room
    return -reach, reach


def _style(index: int) -> dict[str, Any]:
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index // len(COLORS) % len(DASHES)],
        "linewidth": 1.1,
        "markersize": 3.2,
    }


def _draw_lines(axes: Axes, panel: Courses, *, log: bool) -> None:
    axes.set_title(panel.title, loc="left")
    axes.locator_params(axis="x", integer=True, nbins=10)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        # by default a formula
        axes.yaxis.set_minor_formatter(_PlainLogFormatter())
    else:
        axes.axhline(0, color="#888888", linewidth=0.8, zorder=1)
    for line in panel.lines:
        # A marker at every few layers, elsewhere for every line: lines that lie on one another
        # (normalised norms) are all seen.
        every = _marked(line, len(panel.lines))
        axes.plot(line.x, line.y, **_style(line.index), markevery=every, zorder=3)


class _PlainLogFormatter(LogFormatter):
    """Ticks between powers of ten as plain numbers, where matplotlib would have any."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _marked(line: Course, lines: int) -> slice:
    step = min(lines, len(MARKERS))
    # Between two gaps a point without a marker would not be seen at all.
    few = len(line.x) < 3 * step or np.isnan(line.y).any()
    return slice(None) if few else slice(line.index % step, None, step)


def _legend(figure: Figure, lines: Sequence[Course], places: Sequence[Axes], used: int) -> None:
    """One entry for each line of the figure, where a panel is to spare or below."""
    for axes in places[used:]:
        axes.set_axis_off()
    labels = {line.index: line.label for line in sorted(lines, key=lambda line: line.index)}
    handles = [places[0].plot([], [], **_style(index))[0] for index in labels]
    if len(labels) < 2:
        return
    names = list(labels.values())
    widest = max(map(len, names))
    if used < len(places) and widest <= 40:
        places[-1].legend(handles, names, loc="center", frameon=False)
        return
    draw_legend_below(figure, handles, names)


def plane_figure(
    points: Array, shares: Array, layers: Sequence[int], path: Path, title: str
) -> None:
    """Layers as points in the plane of their first two components; written whole or not at all.

    Args:
        points: shape (n, 2).
        shares: of the variance along each axis, shape (2,).
        layers: the points' numbers, ascending, length n.
        path: where to.
        title: above; says what was done to the vectors.
    """
    with drawing(size=(COLUMN_WIDTH, 4.3)) as (figure, ((axes,),)):
        axes.plot(points[:, 0], points[:, 1], color="#b0b0b0", linewidth=0.8, zorder=2)
        dots = axes.scatter(
            points[:, 0], points[:, 1], c=layers, cmap="viridis", s=22, zorder=3, linewidths=0
        )
        axes.set_aspect("equal", adjustable="box")
        centre = (points.max(axis=0) + points.min(axis=0)) / 2
        # A square with room for the labels; of any size for points that are one and the same.
        half = 0.58 * float(np.ptp(points, axis=0).max()) or 1.0
        axes.set(xlim=centre[0] + [-half, half], ylim=centre[1] + [-half, half])
        axes.set_xlabel(f"first component ({100 * shares[0]:.0f} % of the variance)")
        axes.set_ylabel(f"second component ({100 * shares[1]:.0f} %)")
        bar = figure.colorbar(dots, ax=axes, shrink=0.85, label="layer")
        bar.locator = MaxNLocator(integer=True, steps=[1, 2, 5, 10])
        bar.update_ticks()
        bar.outline.set_visible(False)
        draw_title(figure, title)
        # Places of labels depend on where the layout puts the points.
        figure.draw_without_rendering()
        pixels = axes.transData.transform(points) * 72 / figure.dpi
        for layer, point, offset in zip(layers, points, label_offsets(pixels), strict=True):
            far = np.hypot(*offset) > NEAR
            axes.annotate(
                str(layer),
                point,
                xytext=tuple(offset),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=LABEL_SIZE,
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "#909090"} if far else None,
            )
        finish(figure, path)


def label_offsets(points: Array) -> Array:
    """Where to put a short label beside each point so that labels, dots and lines stay clear.

    Label by label, of several places around the point that which covers least of what stands
    already: other labels, dots, and the line that joins the dots.

    Args:
        points: shape (n, 2), in points of 1/72 inch, in the order in which they are joined.

    Returns:
        Offsets from the points, shape (n, 2), same unit.
    """
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tried = np.concatenate([radius * circle for radius in (NEAR, 13.0, 19.0, 26.0)])
    length = np.hypot(*tried.T)
    steps = np.linspace(0, 1, 20)[:, None, None]
    line = (points[:-1] + steps * (points[1:] - points[:-1])).reshape(-1, 2)
    middle = points.mean(axis=0)
    placed: list[Array] = []
    offsets = []
    for point in points:
        places = point + tried
        # Farther costs a little, and so does inward, where the line comes back.
        cost = 0.15 * (length - NEAR) - 0.01 * (tried @ (point - middle)) / (
            np.hypot(*(point - middle)) + 1e-9
        )
        for others, weight in ((points, 20.0), (line, 1.0), (np.array(placed), 40.0)):
            if len(others):
                apart = np.abs(places[:, None] - others[None]) / LABEL_BOX
                cost = cost + weight * np.clip(1 - apart.max(axis=2), 0, None).sum(axis=1)
        best = int(np.argmin(cost))
        placed.append(places[best])
        offsets.append(tried[best])
    return np.array(offsets)
