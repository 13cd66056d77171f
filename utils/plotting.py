"""Figures: lines and points with intervals, and how any figure is begun and saved.

Sizes are those of a paper column, so that text in a saved figure can be read where it is
pasted. Colours are Okabe and Ito's, told apart by colour-blind readers; markers repeat what
colour says.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils import fonts
from utils.durable import write_bytes
from utils.figure_style import STYLE, Axes, Figure, MaxNLocator, plt, styled
from utils.stats import Estimate

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
COLUMN_WIDTH, PAGE_WIDTH = 5.0, 6.6


@dataclass(frozen=True)
class Line:
    """One line of a plot; a point that is missing is simply not in it."""

    label: str
    x: Sequence[float]
    y: Sequence[Estimate]


@dataclass
class Panel:
    """One pair of axes.

    Attributes:
        lines: what is drawn.
        x_label, y_label, title: texts.
        whole_x: the x axis counts things (layers), so its ticks are whole numbers.
        x_ticks: place ticks exactly here.
        reference: draw a thin line at this y (no change, or chance).
        second: a name and a factor: a second x axis above, x times the factor.
    """

    lines: list[Line]
    x_label: str
    y_label: str
    title: str = ""
    whole_x: bool = False
    x_ticks: Sequence[float] = field(default_factory=list)
    reference: float | None = None
    second: tuple[str, float] | None = None


@contextlib.contextmanager
def drawing(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options: Any
) -> Iterator[tuple[Figure, "np.ndarray[Any, Any]"]]:
    """A new figure in this project's style and its axes, closed when the block ends.

    Args:
        rows, columns: shape of the grid of axes, and of the array that is yielded.
        size: width and height in inches.
        options: further arguments of ``matplotlib.pyplot.subplots``.
    """
    with styled():
        figure, axes = plt.subplots(
            rows, columns, figsize=size, squeeze=False, layout="constrained", **options
        )
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def png(figure: Figure) -> bytes:
    """A figure as PNG, without the date that would make every run differ."""
    fonts.fit(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all."""
    write_bytes(path, png(figure))


def line_figure(panels: Sequence[Panel], path: Path, *, title: str = "", note: str = "") -> None:
    """Panels with shared axes, shaded 95 % intervals, one legend; written whole or not at all.

    One panel fills a column; more are small multiples, two beside one another, with ``title``
    above them all. ``note``, small below, says what everything in the figure has in common.
    """
    columns = 1 if len(panels) == 1 else 2
    lines = -(-len(panels) // columns)
    size = (COLUMN_WIDTH, 2.9) if lines == columns == 1 else (PAGE_WIDTH, 1.75 * lines + 0.6)
    several = len(panels) > 1
    with drawing(lines, columns, size=size, sharex=several, sharey=several) as (figure, grid):
        places = list(grid.flat)
        labels = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
        for number, (axes, panel) in enumerate(zip(places, panels, strict=False)):
            _draw(axes, panel, labels)
            if panel.second is not None:
                _second_axis(axes, *panel.second, named=number < columns)
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        for axes in places[max(0, len(panels) - columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(panels[0].x_label)
        figure.supylabel(panels[0].y_label, fontsize=STYLE["font.size"])
        if title:
            figure.suptitle(title, fontsize=STYLE["axes.titlesize"], x=0.02, ha="left")
        if len(labels) > 1:
            figure.set_figheight(figure.get_figheight() + _legend(figure, places, labels))
        _note(figure, note)
        save_figure(figure, path)


def _note(figure: Figure, text: str) -> None:
    if text:
        # a legend without entries: the layout makes room for it, as it does for no plain text
        note = figure.legend(
            handles=[], title=text, title_fontsize=6, loc="outside lower right", frameon=False
        )
        note.get_title().set_color("#777777")


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


def _legend(figure: Figure, places: Sequence[Axes], labels: Sequence[str]) -> float:
    """One legend for lines of all panels, in as many columns as fit above them.

    Returns:
        The height in inches that it takes beyond its first row.
    """
    found: dict[Any, Any] = {}
    for axes in places:
        handles, names = axes.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    room = int(figure.get_figwidth() * 13)  # characters of the legend's size
    fitting = max(1, room // (max(map(len, labels)) + 6))
    columns = min(fitting, len(labels), 3)
    figure.legend(
        [found[label] for label in labels],
        labels,
        loc="outside upper center",
        ncols=columns,
        frameon=False,
    )
    return 0.17 * (-(-len(labels) // columns) - 1)


def _draw(axes: Axes, panel: Panel, labels: Sequence[str]) -> None:
    """Draw one panel; a label has the same colour and marker in all of them."""
    if panel.reference is not None:
        axes.axhline(panel.reference, color="#888888", linewidth=0.8, zorder=1)
    for line in panel.lines:
        index = labels.index(line.label)
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        mean = [e.mean for e in line.y]
        axes.plot(line.x, mean, color=color, marker=marker, label=line.label, zorder=3)
        low, high = [e.low for e in line.y], [e.high for e in line.y]
        if len(line.x) > 1:
            axes.fill_between(line.x, low, high, color=color, alpha=0.13, linewidth=0, zorder=2)
        else:
            axes.vlines(line.x, low, high, color=color, linewidth=1.2, zorder=2)
    axes.set_title(panel.title, loc="left")
    if panel.x_ticks:
        ticks = [f"{x:g}".replace("-", "\N{MINUS SIGN}") for x in panel.x_ticks]
        axes.set_xticks(list(panel.x_ticks), ticks)
    elif panel.whole_x:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


@dataclass(frozen=True)
class CategoryLine:
    """One column of points: a strength's score in every category, or of every behaviour."""

    label: str
    points: dict[str, Estimate]


def category_figure(
    names: Sequence[str],
    lines: Sequence[CategoryLine],
    x_label: str,
    title: str,
    path: Path,
    legend_title: str,
    *,
    reference: float | None = None,
    note: str = "",
) -> None:
    """Points with intervals, a row for each name, side by side within the row.

    Args:
        names: of the rows.
        lines: the points, a colour each.
        x_label, title, note: texts.
        path: where to write.
        legend_title: what tells the lines apart.
        reference: draw a thin line at this x (no change).
    """
    height = max(2.4, 0.9 + len(names) * (0.1 + 0.07 * len(lines)))
    with drawing(size=(COLUMN_WIDTH, height)) as (figure, ((axes,),)):
        if reference is not None:
            axes.axvline(reference, color="#888888", linewidth=0.8, zorder=1)
        for index, line in enumerate(lines):
            offset = 0.7 * ((index + 0.5) / len(lines) - 0.5)
            shown = [(names.index(c) + offset, e) for c, e in line.points.items()]
            color = COLORS[index % len(COLORS)]
            y, x = [p for p, _ in shown], [e.mean for _, e in shown]
            axes.hlines(y, [e.low for _, e in shown], [e.high for _, e in shown], color=color, lw=1)
            marker = MARKERS[index % len(MARKERS)]
            axes.plot(x, y, linestyle="", marker=marker, color=color, ms=3.2, label=line.label)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.tick_params(axis="y", labelsize=6.5, length=0)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(x_label)
        figure.suptitle(title, fontsize=STYLE["axes.titlesize"], x=0.02, ha="left")
        figure.legend(
            *axes.get_legend_handles_labels(),
            title=legend_title,
            loc="outside upper right",
            ncols=min(len(lines), 7),
            columnspacing=1.2,
            handletextpad=0.2,
            frameon=False,
        )
        _note(figure, note)
        save_figure(figure, path)
