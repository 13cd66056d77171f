"""Pictures of activations: answers as points, and what their variance comes from, over layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.activations.layer_measures import LayerMeasures
from utils.activations.saved import Floats
from utils.drawing.palette import COLORS
from utils.drawing.plotting import MARKERS
from utils.drawing.style import Axes, MaxNLocator

Letters = Sequence[tuple[str, str]]

ANSWERS = ("matching", "other")
FEW_LAYERS = 7
# Small points: of the markers, a circle and a triangle are told apart best.
OTHER_MARKER = "*"
LETTER_MARKERS = dict(zip("ABCDEF", [MARKERS[0], *MARKERS[2:]], strict=True))
# The parts of the variance: their names for people, from the bottom up, and their colours.
PARTS = {
    "letter": ("letter", "#b9c0c6"),
    "answer": ("matching or other", COLORS[1]),
    "question": ("question", "#a9d6f2"),
    "rest": ("rest", "#ececec"),
}


def draw_answers(axes: Axes, coordinates: Floats, letters: Letters, *, size: float) -> None:
    """Points: the colour says matching or other, the marker says the letter.

    Args:
        axes: where.
        coordinates: shape (2 * pairs, 2), matching first.
        letters: of every pair, matching and other.
        size: area of a point in square points.
    """
    pairs = len(letters)
    # Pair by pair: drawn one after another, one answer would hide the other.
    order = np.arange(2 * pairs).reshape(2, pairs).T.ravel()
    letter = np.array(letters).ravel()
    color = np.array([COLORS[0], COLORS[1]] * pairs)
    for each in np.unique(letter):
        here = letter == each
        x, y = coordinates[order[here]].T
        marker = LETTER_MARKERS.get(str(each), OTHER_MARKER)
        axes.scatter(x, y, s=size, c=color[here], marker=marker, alpha=0.65, linewidths=0)
    axes.set_axisbelow(True)


def answer_entries(axes: Axes, letters: Letters) -> tuple[list[Any], list[str]]:
    """What colours and markers mean: handles and names of a legend."""
    entries = [(name, "o", COLORS[i]) for i, name in enumerate(ANSWERS)]
    for letter in np.unique(np.array(letters)):
        marker = LETTER_MARKERS.get(str(letter), OTHER_MARKER)
        entries.append((f"letter {letter}", marker, "#666666"))
    for name, marker, color in entries:
        axes.plot([], [], linestyle="", marker=marker, color=color, label=name)
    return axes.get_legend_handles_labels()


def draw_variance(axes: Axes, measured: Mapping[int, LayerMeasures]) -> None:
    """Parts of the variance as areas that add up, over layers; the components as lines on them.

    The second line is that of both components: what a scatter of them shows.
    """
    layers = list(measured)
    parts = [[getattr(m.parts, name) for m in measured.values()] for name in PARTS]
    colors = [color for _, color in PARTS.values()]
    # Some of them are too thin to be seen.
    labels = [
        f"{name} ({100 * min(shares):.1f} to {100 * max(shares):.1f} %)"
        for (name, _), shares in zip(PARTS.values(), parts, strict=True)
    ]
    axes.stackplot(layers, parts, labels=labels, colors=colors, linewidth=0)
    first = np.array([m.shares.pc1 for m in measured.values()])
    both = first + [m.shares.pc2 for m in measured.values()]
    axes.plot(layers, first, color="black", lw=1.1, label="PC1")
    axes.plot(layers, both, color="black", lw=1.1, linestyle="--", label="PC1 + PC2")
    axes.set_xlabel("layer")
    axes.set_ylabel("share of the variance")
    axes.set_ylim(0, 1)
    axes.set_xlim(layers[0], layers[-1])
    axes.grid(visible=False)
    if len(measured) <= FEW_LAYERS:
        axes.set_xticks(layers)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
