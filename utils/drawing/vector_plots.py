"""Layers of vectors as points in their main plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.drawing.plotting import COLUMN_WIDTH, draw_title, drawing, finish
from utils.drawing.style import MaxNLocator
from utils.vectors.similarity import Array

LABEL_SIZE = 6.5
# In points of 1/72 inch: the usual distance of a label from its dot, and how far apart the
# centres of two labels of two digits must lie so as not to touch.
NEAR = 7.0
LABEL_BOX = np.array([9.5, 7.0])


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
