"""How any figure is begun, titled, noted and saved.

Sizes are those of a paper column, so that text in a saved figure can be read where it is
pasted. Colours are Okabe and Ito's, told apart by colour-blind readers; markers repeat what
colour says.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.drawing import fonts
from utils.drawing.files import PNG, UNDATED, pictures
from utils.drawing.palette import GREY
from utils.drawing.style import STYLE, Figure, plt, styled
from utils.files.durable import write_bytes

MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
COLUMN_WIDTH, PAGE_WIDTH = 5.0, 6.6
NOTE_SIZE = 6.5


@contextlib.contextmanager
def drawing(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options: Any
) -> Iterator[tuple[Figure, np.ndarray[Any, Any]]]:
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
    return _picture(figure, PNG)


def _picture(figure: Figure, format: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, metadata=UNDATED[format])
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure's PNG, and the other formats asked for, each whole or not at all."""
    write_bytes(path, png(figure))
    for other in pictures(path)[1:]:
        write_bytes(other, _picture(figure, other.suffix[1:]))


def draw_title(figure: Figure, title: str) -> None:
    """A title above everything, unless a legend bears it."""
    if title and not any(legend.get_title().get_text() == title for legend in figure.legends):
        figure.suptitle(title, fontsize=STYLE["axes.titlesize"], x=0.02, ha="left")


def finish(figure: Figure, path: Path, title: str = "", note: str = "") -> None:
    """Title above, note below, and the file."""
    draw_title(figure, title)
    draw_note(figure, note)
    save_figure(figure, path)


def finished(figure: Figure, title: str) -> bytes:
    """A figure under its title as PNG, for where there is no file."""
    draw_title(figure, title)
    return png(figure)


def wrapped(text: str, inches: float, size: float = STYLE["font.size"]) -> str:
    """A text in lines of about this length.

    Args:
        inches: the length.
        size: of the letters in points of 1/72 inch.
    """
    return "\n".join(textwrap.wrap(text, int(inches * 120 / size)))


def draw_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str = ""
) -> None:
    """A legend above everything, in as many columns as fit, under the figure's title.

    The layout makes room for a legend and for a title, but in one and the same place: so the
    title is the legend's.
    """
    room = int(figure.get_figwidth() * 13)  # characters of the legend's size
    fitting = max(1, min(room // (max(map(len, labels)) + 6), 5))
    rows = -(-len(labels) // fitting)
    columns = -(-len(labels) // rows)
    figure.legend(
        handles,
        labels,
        title=title or None,
        title_fontsize=STYLE["axes.titlesize"],
        alignment="left",
        loc="outside upper left" if title else "outside upper center",
        ncols=columns,
        columnspacing=1.2,
        frameon=False,
        borderaxespad=0.2,
    )
    figure.set_figheight(figure.get_figheight() + 0.17 * rows)


def draw_legend_beside(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], title: str
) -> None:
    """A legend at the right of everything, one entry a line."""
    figure.legend(handles, labels, title=title, loc="outside right upper", frameon=False)


def draw_note(figure: Figure, text: str) -> None:
    """What everything in a figure has in common, small below it, in as many lines as it takes."""
    if text:
        # a legend without entries: the layout makes room for it, as it does for no plain text
        note = figure.legend(
            handles=[],
            title=wrapped(text, figure.get_figwidth(), NOTE_SIZE),
            title_fontsize=NOTE_SIZE,
            loc="outside lower left",
            frameon=False,
            borderaxespad=0.2,
            borderpad=0.1,
        )
        note.get_title().set_color(GREY)
