"""Tokens as pictures: a text coloured token by token, and the logit lens as a map.

For wherever the styles of HTML are stripped, as on the pages that show notebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.drawing.fonts import drawable
from utils.drawing.plotting import PAGE_WIDTH, drawing, finished
from utils.drawing.style import Axes
from utils.errors import UserError
from utils.lens.block_parts import PARTS
from utils.lens.coloured_text import Color, diverging_color, largest_magnitude, token_text, visible
from utils.lens.lens_figures import PART_TITLES, figure_label
from utils.lens.logit_lens import Lens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COLUMNS = 96
_LINE_HEIGHT = 0.2
_NEWLINE = "\N{RETURN SYMBOL}"


def token_picture(
    pieces: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    limit: float | None = None,
    answer_from: int | None = None,
) -> bytes:
    """A text on a background that says each token's number: a PNG.

    Args:
        pieces: text of each token.
        values: a number for each token.
        title: what the numbers are.
        limit: end of the colour scale; ``None`` for that of
            :func:`utils.lens.coloured_text.largest_magnitude`.
        answer_from: begin a new paragraph, under a line, with this token.

    Raises:
        UserError: no tokens, or another number of values.
    """
    if not pieces or len(pieces) != len(values):
        raise UserError(f"{len(pieces)} tokens and {len(values)} numbers: need one for each")
    limit = largest_magnitude(values) if limit is None else limit
    cells, breaks = _laid_out(pieces, answer_from)
    lines = cells[-1][1] + 1
    size = (PAGE_WIDTH, 0.55 + _LINE_HEIGHT * lines)
    with drawing(size=size) as (figure, ((axes,),)):
        for index, line, column, text in cells:
            background, foreground = diverging_color(float(values[index]), limit)
            _cell(axes, (column, line), text, background, foreground)
        for line in breaks:
            axes.axhline(line - 0.5, color="#888888", linewidth=0.8, linestyle="--")
        axes.set_xlim(0, _COLUMNS)
        axes.set_ylim(lines, -0.1)
        axes.axis("off")
        ends = f"blue \N{MINUS SIGN}{limit:.3g}, white 0, orange +{limit:.3g}"
        return finished(figure, f"{title}\n{ends}")


def _laid_out(
    pieces: Sequence[str], answer_from: int | None
) -> tuple[list[tuple[int, int, int, str]], list[int]]:
    """Where each token, or the part of one on a line, stands.

    Returns:
        (token, line, column, text) of every cell, and the lines above which a paragraph begins.
    """
    cells: list[tuple[int, int, int, str]] = []
    breaks = []
    line = column = 0
    for index, piece in enumerate(pieces):
        if index == answer_from and cells:
            line, column = line + 2 - (column == 0), 0
            breaks.append(line)
        ends = piece.endswith("\n")
        shown = drawable("".join(_NEWLINE if c == "\n" else c for c in piece))
        shown = shown if shown.strip(" ") else visible(piece)
        for start in range(0, len(shown), _COLUMNS):
            text = shown[start : start + _COLUMNS]
            if column + len(text) > _COLUMNS:
                line, column = line + 1, 0
            cells.append((index, line, column, text))
            column += len(text)
        if ends:
            line, column = line + 1, 0
    return cells, breaks


def _cell(
    axes: Axes, place: tuple[int, int], text: str, background: Color, foreground: Color
) -> None:
    column, line = place
    colour, ink = (tuple(part / 255 for part in c) for c in (background, foreground))
    axes.barh(line + 0.5, len(text) - 0.1, 0.86, left=column, color=[colour])
    style: dict[str, Any] = {"family": "monospace", "fontsize": 6.6, "color": ink}
    for offset, character in enumerate(text):
        # character by character, so that a font of another width does not run out of its cell
        if character != " ":
            axes.text(
                column + offset + 0.45, line + 0.55, character, ha="center", va="center", **style
            )


def lens_map(
    lens: Lens, tokenizer: PreTrainedTokenizerBase, *, layers: Sequence[int], title: str
) -> bytes:
    """The most probable token of every part of every layer, on its probability: a PNG.

    Raises:
        UserError: no layers, or one that the lens does not have.
    """
    if not layers:
        raise UserError("need one layer at least")
    best = [[lens.top(layer, part, 1)[0] for part in PARTS] for layer in layers]
    shares = np.array([[probability for _, probability in row] for row in best])
    size = (PAGE_WIDTH, 0.9 + 0.17 * len(layers))
    with drawing(size=size) as (figure, ((axes,),)):
        image = axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1)
        for row, found in enumerate(best):
            for column, (token, probability) in enumerate(found):
                label = figure_label(token_text(tokenizer, token))
                colour = "white" if probability > 0.55 else "black"
                text = f"{label}  {100 * probability:.0f} %"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
        axes.set_xticks(range(len(PARTS)), [PART_TITLES[part] for part in PARTS])
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        axes.tick_params(labelsize=7, length=0)
        axes.set_ylabel("layer")
        axes.grid(visible=False)
        bar = figure.colorbar(image, ax=axes, fraction=0.025, pad=0.01)
        bar.set_label("probability of the first token")
        return finished(figure, title)
