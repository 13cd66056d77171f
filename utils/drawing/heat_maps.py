"""Heat maps of cosines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.drawing.plotting import COLUMN_WIDTH, drawing, finish
from utils.drawing.style import Axes
from utils.text.numbers import rounded
from utils.vectors.similarity import Array

# Blue and red at the same lightness, white between: told apart by colour-blind readers.
DIVERGING = "RdBu_r"
UNDEFINED = "#c8c8c8"


@dataclass(frozen=True)
class HeatMap:
    """Cosines of some things with one another.

    Attributes:
        values: shape (n, n), symmetric, from -1 to 1; NaN where undefined.
        labels: what the rows and columns are, length n.
        title: text above; may be of several lines.
        axis: what the labels count (``layer``), where they are numbers.
    """

    values: Array
    labels: Sequence[str]
    title: str
    axis: str = ""


def heat_map_figure(content: HeatMap, path: Path) -> None:
    """Draw a heat map from -1 to 1, centred at 0; written whole or not at all.

    Numbered things (layers) have ticks at some of their numbers; named things have their names
    on both axes and their values in the cells.
    """
    with drawing(size=(COLUMN_WIDTH, 4.4)) as (figure, ((axes,),)):
        # The background shows through cells that have no value.
        axes.set_facecolor(UNDEFINED)
        image = axes.imshow(content.values, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="none")
        axes.grid(False)
        axes.tick_params(length=2)
        if content.axis:
            _number_axes(axes, content)
        else:
            _name_axes(axes, content)
        bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.set_label("cosine similarity")
        bar.outline.set_visible(False)
        axes.spines[:].set_visible(False)
        finish(figure, path, content.title)


def _number_axes(axes: Axes, content: HeatMap) -> None:
    count = len(content.labels)
    step = next((s for s in (1, 2, 5, 10) if count <= 16 * s), 20)
    places = range(0, count, step)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(places, [content.labels[i] for i in places])
    axes.set_xlabel(content.axis)
    axes.set_ylabel(content.axis)


def _name_axes(axes: Axes, content: HeatMap) -> None:
    count = len(content.labels)
    names = [wrapped(label) for label in content.labels]
    size = 7.5 if count <= 8 else 6
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(labelsize=size)
    for (row, column), value in np.ndenumerate(content.values):
        color = "white" if abs(value) > 0.6 else "black"
        text = rounded(value, 2 if count <= 12 else 1)
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def wrapped(label: str, width: int = 20) -> str:
    """A name in lines of about ``width`` letters, broken after spaces, hyphens and underscores."""
    lines = [""]
    for part in re.split(r"(?<=[-_ ])", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)
