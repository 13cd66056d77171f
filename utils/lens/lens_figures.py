"""What steering changes under the logit lens, as PNGs to be shown or saved, and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from utils.drawing.fonts import drawable
from utils.drawing.palette import COLORS
from utils.drawing.plotting import PAGE_WIDTH, draw_legend_beside, drawing, finished
from utils.drawing.style import STYLE, Axes
from utils.errors import UserError
from utils.lens.coloured_text import largest_magnitude, token_text, visible
from utils.lens.logit_lens import Change, Lens
from utils.text.numbers import signed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PART_TITLES = {
    "attention": "attention output",
    "after_attention": "residual stream after attention",
    "mlp": "MLP output",
    "output": "block output",
}
_RISING, _FALLING = COLORS[1], COLORS[0]
_LONGEST = 18


def figure_label(text: str) -> str:
    """A token as a label: short, white space visible, code points for what no font has."""
    shown = drawable(visible(text))
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def change_text(
    changes: Mapping[int, tuple[Sequence[Change], Sequence[Change]]],
    tokenizer: PreTrainedTokenizerBase,
) -> str:
    """For each layer what rises and what falls most, in percentage points.

    Args:
        changes: layer -> rising and falling, as of :func:`utils.lens.logit_lens.largest_changes`.
        tokenizer: shows the tokens.
    """
    rows = [["layer", "rises", "falls"]]
    for layer, sides in changes.items():
        cells = [
            "  ".join(
                visible(token_text(tokenizer, c.token)) + " " + signed(100 * c.difference, "+.1f")
                for c in side
            )
            or "nothing"
            for side in sides
        ]
        rows.append([str(layer), *cells])
    return _aligned(rows)


def change_bars(
    changes: Mapping[int, tuple[Sequence[Change], Sequence[Change]]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    title: str,
) -> bytes:
    """For each of some layers, what rises (orange) and falls (blue) most: a PNG.

    Raises:
        UserError: nothing changes at any of the layers, or none is given.
    """
    shown = {layer: [*up, *reversed(down)] for layer, (up, down) in changes.items() if up or down}
    if not shown:
        raise UserError("no probability changes at these layers: steer at or below one of them")
    rows = max(map(len, shown.values()))
    size = (PAGE_WIDTH, 1.0 + 0.17 * rows)
    with drawing(1, len(shown), size=size, sharex=True) as (figure, grid):
        for axes, (layer, found) in zip(grid.flat, shown.items(), strict=True):
            labels = [figure_label(token_text(tokenizer, c.token)) for c in found]
            colors = [_RISING if c.difference > 0 else _FALLING for c in found]
            _bars(axes, labels, [c.difference for c in found], colors)
            axes.axvline(0, color="#444444", linewidth=0.8)
            axes.set_ylim(rows - 0.4, -0.6)
            axes.set_title(f"layer {layer}", loc="left")
        figure.supxlabel("change of the probability", fontsize=STYLE["font.size"])
        return finished(figure, title)


def letter_bars(
    lenses: Mapping[float, Lens],
    letters: Mapping[str, Sequence[int]],
    *,
    part: str = "output",
    title: str,
    steered: int | None = None,
) -> bytes:
    """The probability of each answer letter at every layer, a bar for each multiplier: a PNG.

    Args:
        lenses: multiplier -> the lens at the token before the letter.
        letters: letter -> the tokens that spell it, as of
            :func:`utils.lens.logit_lens.letter_spellings`; their probabilities are added.
        part: which part of the blocks.
        title: stands above.
        steered: mark the layer from which on steering can change anything.

    Raises:
        UserError: no lens, no letter, or an unknown part.
    """
    if not lenses or not letters:
        raise UserError("need a lens and a letter at least")
    size = (PAGE_WIDTH, 0.9 + 1.35 * len(letters))
    with drawing(len(letters), 1, size=size, sharex=True, sharey=True) as (figure, grid):
        width = 0.84 / len(lenses)
        layers = range(next(iter(lenses.values())).probabilities.shape[0])
        for axes, (letter, tokens) in zip(grid.flat, letters.items(), strict=True):
            for index, (multiplier, lens) in enumerate(sorted(lenses.items())):
                offset = width * (index + 0.5 - len(lenses) / 2)
                axes.bar(
                    [layer + offset for layer in layers],
                    [float(lens.at(layer, part)[list(tokens)].sum()) for layer in layers],
                    width,
                    color=_multiplier_color(multiplier),
                    label=signed(multiplier),
                )
            axes.set_ylabel(f"P({letter})")
            if steered is not None:
                axes.axvline(steered - 0.5, color="#444444", linewidth=0.8, linestyle=":")
            axes.set_axisbelow(True)
            axes.set_xlim(-0.8, len(layers) - 0.2)
            axes.grid(axis="x", visible=False)
        grid.flat[-1].set_xlabel(f"layer ({PART_TITLES[part]} read through the logit lens)")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        draw_legend_beside(figure, handles, labels, "multiplier")
        return finished(figure, title)


def token_bars(
    pieces: Sequence[str], values: Sequence[float], *, y_label: str, title: str
) -> bytes:
    """A number for each token as a bar, in the order of the text: a PNG.

    For where coloured HTML cannot be shown. The scale is that of
    :func:`utils.lens.coloured_text.largest_magnitude`, so an attention sink sticks out of it.

    Raises:
        UserError: no tokens, or another number of values.
    """
    if not pieces or len(pieces) != len(values):
        raise UserError(f"{len(pieces)} tokens and {len(values)} numbers: need one for each")
    with drawing(size=(PAGE_WIDTH, 2.6)) as (figure, ((axes,),)):
        colors = [_RISING if value > 0 else _FALLING for value in values]
        axes.bar(range(len(values)), list(values), 0.84, color=colors)
        limit = 1.08 * largest_magnitude(values)
        axes.set_ylim(max(-limit, 1.08 * min(*values, 0)), min(limit, 1.08 * max(*values, 0)))
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set_xticks(range(len(values)), [figure_label(piece) for piece in pieces])
        axes.tick_params(axis="x", labelrotation=90, labelsize=6, length=0, pad=2)
        axes.set_xlim(-0.7, len(values) - 0.3)
        axes.set_axisbelow(True)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(y_label)
        return finished(figure, title)


def _bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], colors: Sequence[str]
) -> None:
    """Horizontal bars, the first on top."""
    axes.set_axisbelow(True)
    axes.barh(range(len(values)), list(values), 0.76, color=list(colors))
    axes.set_yticks(range(len(values)), labels)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.tick_params(axis="y", labelsize=7.5, length=0)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(axis="y", visible=False)


def _multiplier_color(multiplier: float) -> str:
    """Orange with the vector, blue against it, grey without."""
    if multiplier == 0:
        return "#8c8c8c"
    return _RISING if multiplier > 0 else _FALLING


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  |  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)
    return "\n".join(line.rstrip() for line in lines)
