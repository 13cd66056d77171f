"""What a choice of layer and strength looks like: effect against damage, and over the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.drawing.heat_maps import DIVERGING, UNDEFINED
from utils.drawing.palette import COLORS, GREY
from utils.drawing.plotting import PAGE_WIDTH, draw_legend, draw_note, draw_title, drawing, png
from utils.drawing.style import Axes, Figure
from utils.stats import Estimate
from utils.text.numbers import true_minus

# Below, a divergence is rounding.
LEAST_KL = 1e-6


@dataclass(frozen=True)
class Dot:
    """A cell.

    Attributes:
        layer, strength: where.
        effect: change of the content logit difference.
        kl: damage, nats.
        open: drawn hollow, because its layer is too late to be chosen.
        front: on the Pareto front.
        chosen: the one.
    """

    layer: int
    strength: float
    effect: Estimate
    kl: float
    open: bool
    front: bool
    chosen: bool


def tuning_figure(dots: Sequence[Dot], *, budget: float, unit: str, title: str, note: str) -> bytes:
    """Effect against KL, and effect over layers and strengths; a PNG.

    Args:
        dots: the cells in which the model does not break.
        budget: of KL; infinite for none.
        unit: of strengths.
        title, note: texts above and below.
    """
    with drawing(1, 2, size=(PAGE_WIDTH, 3.2), width_ratios=[1.3, 1]) as (figure, ((left, right),)):
        handles = _effect_against_damage(figure, left, dots, budget)
        _effect_over_grid(figure, right, dots, unit)
        draw_legend(figure, list(handles.values()), list(handles), title)
        draw_title(figure, title)
        draw_note(figure, note)
        return png(figure)


def _effect_against_damage(
    figure: Figure, axes: Axes, dots: Sequence[Dot], budget: float
) -> dict[str, Any]:
    """The left panel; names of what is in it and what they look like."""
    handles: dict[str, Any] = {}
    axes.set_xscale("log")
    shown = [max(dot.kl, LEAST_KL) for dot in dots]
    axes.set_xlim(min(shown) / 1.5, max(shown) * 1.5)
    layers = [dot.layer for dot in dots]
    low, high = min(layers), max(max(layers), min(layers) + 1)
    for open_, label in ((False, "cell"), (True, "late layer")):
        some = [dot for dot in dots if dot.open is open_]
        if some:
            # light for early layers, dark for late ones
            greys = [str(0.82 - 0.6 * (dot.layer - low) / (high - low)) for dot in some]
            handles[label] = axes.scatter(
                [max(dot.kl, LEAST_KL) for dot in some],
                [dot.effect.mean for dot in some],
                s=13,
                facecolors="none" if open_ else greys,
                edgecolors=greys,
                linewidths=0.8,
                label=label,
            )
    front = sorted((dot for dot in dots if dot.front), key=lambda dot: dot.kl)
    if front:
        x = [max(dot.kl, LEAST_KL) for dot in front]
        y = np.array([dot.effect.mean for dot in front])
        ends = np.array([[dot.effect.low, dot.effect.high] for dot in front]).T
        handles["Pareto front"] = axes.errorbar(
            x, y, yerr=np.abs(ends - y), color=COLORS[0], marker="o", markersize=3, elinewidth=0.8
        )
    if np.isfinite(budget) and budget > 0:
        axes.set_xlim(min(*shown, budget) / 1.5, max(*shown, budget) * 1.5)
        handles["KL budget"] = axes.axvline(budget, color=COLORS[1], linestyle="--", linewidth=1)
    for dot in dots:
        if dot.chosen:
            handles["chosen"] = axes.scatter(
                [max(dot.kl, LEAST_KL)],
                [dot.effect.mean],
                marker="*",
                s=150,
                color=COLORS[4],
                edgecolors="black",
                linewidths=0.6,
                zorder=5,
            )
    axes.axhline(0, color=GREY, linewidth=0.6)
    # the usual ones are formulas, which no figure here has
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("KL(unsteered || steered), next token, nats")
    axes.set_ylabel("effect on content, logits")
    axes.yaxis.set_major_formatter(lambda value, _: true_minus(f"{value:g}"))
    axes.set_title("effect against damage", loc="left")
    axes.set_axisbelow(True)
    return handles


def _effect_over_grid(figure: Figure, axes: Axes, dots: Sequence[Dot], unit: str) -> None:
    layers = sorted({dot.layer for dot in dots})
    strengths = sorted({dot.strength for dot in dots})
    values: NDArray[np.float64] = np.full((len(layers), len(strengths)), np.nan)
    for dot in dots:
        values[layers.index(dot.layer), strengths.index(dot.strength)] = dot.effect.mean
    most = float(np.nanmax(np.abs(values))) or 1.0
    axes.set_facecolor(UNDEFINED)
    image = axes.imshow(
        values,
        cmap=DIVERGING,
        vmin=-most,
        vmax=most,
        aspect="auto",
        origin="lower",
        interpolation="none",
    )
    axes.grid(False)
    step = next((s for s in (1, 2, 5, 10) if len(layers) <= 12 * s), 20)
    places = range(0, len(layers), step)
    axes.set_yticks(places, [str(layers[i]) for i in places])
    axes.set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])
    axes.set_xlabel(unit)
    axes.set_ylabel("layer")
    axes.set_title("effect over the grid", loc="left")
    for dot in dots:
        if dot.chosen:
            place = [strengths.index(dot.strength)], [layers.index(dot.layer)]
            axes.scatter(
                *place, marker="*", s=110, color=COLORS[4], edgecolors="black", linewidths=0.6
            )
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("logits")
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(lambda value, _: true_minus(f"{value:g}"))
    axes.spines[:].set_visible(False)
