"""What tune.py chose, and the picture of what it chose from: effect against damage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.contents import read_json, read_verified
from utils.report.charts import signed_number, tick_text
from utils.report.markup import Html, data_table, joined, number, tag
from utils.report.panels import ticks
from utils.text.numbers import true_minus
from utils.tuning.budgets import KL

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 270, 48, 408, 26, 222
# Below, a divergence is rounding.
LEAST_KL = 1e-6


def choice(path: Path) -> Html:
    """The choice in words, the Pareto picture, and the cells on the front as a table.

    Raises:
        UserError: not a file that tune.py wrote.
    """
    content = read_json(read_verified(path))
    try:
        return _shown(content)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a choice that ./tune.py wrote ({error!r})") from error


def _shown(content: Mapping[str, Any]) -> Html:
    unit = content["unit"]
    cells = [c for c in content["cells"] if c["effect"]["mean"] is not None and c[KL] is not None]
    chosen = content["chosen"]
    asked = f"on {len(content['splits']['validation'])} contrast pairs held out"
    if chosen is None:
        text = f"Do not steer: no layer and {unit} keeps the budgets of damage ({asked})."
    else:
        text = f"Chosen {asked}: layer {chosen['layer']}, {unit} {chosen[unit]:.4g}."
        tested = content["test"]
        if tested is not None:
            text += f" On the test questions: effect {_estimate(tested['effect'])} logits."
    return joined(
        tag("h4", "The choice of a layer and a strength"),
        tag("p", text),
        _picture(cells, chosen, content["budgets"].get(KL), unit) if cells else None,
        _front([c for c in cells if c["pareto"]], chosen, unit),
    )


def _estimate(e: Mapping[str, Any]) -> str:
    return true_minus(f"{e['mean']:+.3f} [{e['low']:+.3f}, {e['high']:+.3f}]")


def _place(cell: Mapping[str, Any], unit: str) -> str:
    return f"layer {cell['layer']}, {unit} {cell[unit]:.3g}"


def _picture(
    cells: Sequence[Mapping[str, Any]],
    chosen: Mapping[str, Any] | None,
    budget: float | None,
    unit: str,
) -> Html:
    """Every cell: KL on a logarithmic axis, the effect on content; the front joined."""
    kls = [max(c[KL], LEAST_KL) for c in cells]
    limit = budget if budget is not None and 0 < budget < math.inf else None
    spread = [*kls, *([limit] if limit else [])]
    left, right = math.log10(min(spread) / 1.5), math.log10(max(spread) * 1.5)
    means = [c["effect"]["mean"] for c in cells]
    low, high = min(0.0, *means), max(0.0, *means)
    low, high = low - 0.06 * (high - low or 1), high + 0.1 * (high - low or 1)

    def x(kl: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log10(max(kl, LEAST_KL)) - left) / (right - left)

    def y(effect: float) -> float:
        return TOP + (BOTTOM - TOP) * (high - effect) / (high - low)

    parts: list[Html] = [tag("text", "effect on content, logits", x=LEFT, y=14, class_="title")]
    for value in ticks(low, high):
        kind = "grid" if abs(value) > 1e-12 else "grid base"
        h = number(y(value))
        parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=h, y2=h, class_=kind))
        parts.append(tag("text", tick_text(value), x=LEFT - 5, y=h, class_="tick end"))
    for power in range(math.ceil(left), math.floor(right) + 1):
        text = f"{10.0**power:g}"
        parts.append(tag("text", text, x=number(x(10.0**power)), y=BOTTOM + 16, class_="tick mid"))
    below = "KL(unsteered || steered) of the next token, nats (damage)"
    parts.append(tag("text", below, x=(LEFT + RIGHT) / 2, y=HEIGHT - 8, class_="axis mid"))
    if limit:
        at = number(x(limit))
        parts.append(tag("line", x1=at, x2=at, y1=TOP, y2=BOTTOM, class_="budget"))
        parts.append(tag("text", "budget", x=number(x(limit) - 4), y=TOP + 8, class_="tick end"))
    front = sorted((c for c in cells if c["pareto"]), key=lambda c: float(c[KL]))
    line = " L".join(f"{number(x(c[KL]))},{number(y(c['effect']['mean']))}" for c in front)
    parts.append(tag("path", d=f"M{line}", class_="curve") if front else joined())
    for cell in cells:
        kind = "late" if cell["late"] else "front" if cell["pareto"] else "cell"
        title = f"{_place(cell, unit)}: {_estimate(cell['effect'])} logits, KL {cell[KL]:.3g}"
        at, h = number(x(cell[KL])), number(y(cell["effect"]["mean"]))
        parts.append(tag("circle", tag("title", title), cx=at, cy=h, r=3.2, class_=kind))
    if chosen is not None and chosen.get(KL) is not None:
        at, h = number(x(chosen[KL])), number(y(chosen["effect"]["mean"]))
        parts.append(tag("circle", cx=at, cy=h, r=7.5, class_="ring"))
        parts.append(tag("text", "chosen", x=at, y=number(float(h) - 12), class_="value mid"))
    return tag(
        "svg",
        parts,
        class_="pareto",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"Effect on content against damage of {len(cells)} cells; the table below holds "
        "the Pareto front",
    )


def _front(cells: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any] | None, unit: str) -> Html:
    """The cells that no other beats, as numbers."""
    head = ["layer", unit, "effect, logits [95 %]", "KL", ""]
    here = None if chosen is None else (chosen["layer"], chosen[unit])
    rows = []
    for cell in sorted(cells, key=lambda c: float(c[KL])):
        word = "chosen" if (cell["layer"], cell[unit]) == here else ""
        word = word or ("" if cell["feasible"] else "over budget")
        texts = [str(cell["layer"]), signed_number(cell[unit], 3)[1:], _estimate(cell["effect"])]
        cells_ = [tag("td", text, class_="num") for text in [*texts, f"{cell[KL]:.3g}"]]
        rows.append(tag("tr", cells_, tag("td", word)))
    caption = "The Pareto front: no other cell has more effect for as little damage"
    return data_table(head, rows, label="Pareto front", caption=caption)
