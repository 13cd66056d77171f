"""A choice as data and as tables: the cells, what was chosen, what it does on the test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils.files.names import DOSE, MULTIPLIER
from utils.stats import Estimate
from utils.text.number_tables import tab_separated, tabular, tex_interval, tex_text
from utils.text.numbers import formatted, signed, with_interval
from utils.tuning.budgets import KINDS, KL
from utils.tuning.cells import TunedCell, estimate
from utils.tuning.choice import ALPHA, Rules, front, nearest, would_need
from utils.tuning.stages import Level


@dataclass(frozen=True)
class Tested:
    """The chosen cell on the test, with the vector of all pairs.

    Attributes:
        cell: effect and damages there.
        levels: at -m, 0 and +m.
        questions: numbers of those asked; ``left_out``: how many have one order only.
        sha256: of the test's file.
    """

    cell: TunedCell
    levels: Sequence[Level]
    questions: Sequence[int]
    left_out: int
    sha256: str


@dataclass(frozen=True)
class Choice:
    """All that a choice is.

    Attributes:
        behavior, model: whose.
        unit: of the strengths; ``direction``: which signs are steered.
        rules: what was asked of a cell.
        cells: all that were measured, those of the second stage with all damages.
        chosen: one of them, or ``None``.
        validation: numbers of the contrast pairs that it was made on, counted from 1.
        left_out: how many of those held out have one order only.
        said: what is to be said of the split.
        vectors: layer -> hash of the vector of all pairs.
        tested: the test; ``None`` where nothing was chosen.
    """

    behavior: str
    model: str
    unit: str
    direction: str
    rules: Rules
    cells: Sequence[TunedCell]
    chosen: TunedCell | None
    validation: Sequence[int]
    left_out: int
    said: str
    vectors: Mapping[int, str]
    tested: Tested | None

    @property
    def best(self) -> list[TunedCell]:
        """The Pareto front of the cells that could be chosen."""
        return front([cell for cell in self.cells if self.rules.may(cell)])

    @property
    def place(self) -> str:
        """What was chosen."""
        if self.chosen is None:
            return "do not steer"
        return f"layer {self.chosen.layer}, {self.unit} {self.chosen.strength:g}"

    @property
    def split(self) -> str:
        """What it was chosen on."""
        return f"chosen on {len(self.validation)} contrast pairs held out, in both orders"

    @property
    def title(self) -> str:
        """What stands above every table."""
        return f"{self.behavior}, {self.model}: {self.place} ({self.split})"

    @property
    def optimism(self) -> float | None:
        """The effect on the pairs it was chosen on, less that on the test."""
        if self.chosen is None or self.tested is None:
            return None
        return self.chosen.effect.mean - self.tested.cell.effect.mean

    def recorded(self) -> dict[str, Any]:
        """For JSON."""
        best = {cell.cell for cell in self.best}
        cells = [
            cell.recorded()
            | {"feasible": self.rules.keeps(cell), "pareto": cell.cell in best}
            | {"late": cell.layer >= self.rules.first_late}
            for cell in self.cells
        ]
        return {
            "model": self.model,
            "behavior": self.behavior,
            "unit": self.unit,
            "direction": self.direction,
            "vector_sha256": {str(layer): sha for layer, sha in self.vectors.items()},
            "splits": {
                "validation": list(self.validation),
                "validation_left_out": self.left_out,
                "test": [] if self.tested is None else list(self.tested.questions),
            },
            "budgets": self.rules.budgets.recorded(),
            "cells": cells,
            "chosen": None if self.chosen is None else self.chosen.recorded(),
            "test": None if self.tested is None else _tested(self.tested),
            "optimism": self.optimism,
        }


def _tested(tested: Tested) -> dict[str, Any]:
    levels = [
        {"strength": x.strength, "content": estimate(x.content), "score": estimate(x.score)}
        for x in tested.levels
    ]
    more = {"levels": levels, "left_out": tested.left_out, "sha256": tested.sha256}
    return tested.cell.recorded() | more


HEADER = [
    "layer",
    MULTIPLIER,
    DOSE,
    "effect",
    "low95",
    "high95",
    "n",
    "p",
    "score",
    *KINDS,
    "verdict",
]


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def verdict(choice: Choice, cell: TunedCell) -> str:
    """What became of a cell, in a word or two."""
    if choice.chosen is not None and cell.cell == choice.chosen.cell:
        return "chosen"
    if cell.broken:
        return "the model breaks"
    if cell.layer >= choice.rules.first_late:
        return "late layer"
    over = choice.rules.budgets.exceeded(cell.damages)
    if over:
        return f"over budget: {' '.join(over)}"
    return "on the front" if cell.cell in {c.cell for c in choice.best} else ""


def cell_row(choice: Choice, cell: TunedCell, digits: int = 6) -> list[str]:
    effect = cell.effect
    interval = (effect.low, effect.high) if effect.has_interval else (None, None)
    found = [cell.multiplier, cell.dose, effect.mean, *interval]
    damages = [cell.damages.get(name) for name in KINDS]
    return [
        str(cell.layer),
        *(number(x, digits) for x in found),
        str(effect.n),
        number(cell.p, digits),
        number(cell.score.mean, digits),
        *(number(x, digits) for x in damages),
        verdict(choice, cell),
    ]


def txt_table(choice: Choice) -> bytes:
    """All numbers, tab-separated, under the title; last the test's, if there is one."""
    rows = [cell_row(choice, cell) for cell in choice.cells]
    if choice.tested is not None:
        rows.append([*cell_row(choice, choice.tested.cell)[:-1], "on the test, all pairs' vector"])
    return f"# {choice.title}\n".encode() + tab_separated(HEADER, rows)


def tex_table(choice: Choice) -> bytes:
    """What a paper has room for: the chosen cell on both sets of questions, or the nearest."""
    if choice.chosen is None:
        rows = [("nearest", cell) for cell in nearest(choice.cells, choice.rules)]
    else:
        rows = [("validation", choice.chosen)]
        rows += [] if choice.tested is None else [("test", choice.tested.cell)]
    heads = ["layer", choice.unit, "effect", "score", *KINDS]
    body = [
        [
            tex_text(name),
            str(cell.layer),
            f"{cell.strength:g}",
            _tex_estimate(cell.effect),
            _tex_estimate(cell.score),
            *(_tex_number(cell.damages.get(kind)) for kind in KINDS),
        ]
        for name, cell in rows
    ]
    columns = "l" + "c" * len(heads)
    table = tabular(columns, [tex_text(choice.behavior), *map(tex_text, heads)], body)
    return f"% {choice.title}\n".encode() + table


def _tex_number(value: float | None) -> str:
    shown = number(value, 3)
    return "--" if shown == "-" else f"${shown}$"


def _tex_estimate(e: Estimate) -> str:
    return f"${formatted(e.mean, '.3f')}${tex_interval(e)}"


def said(choice: Choice) -> tuple[list[str], list[list[str]], list[str]]:
    """The terminal's table, a column a cell, and the lines below it: the test, what was near."""
    if choice.chosen is not None:
        columns = [("chosen", choice.chosen)]
        columns += [] if choice.tested is None else [("on the test", choice.tested.cell)]
        lines = [] if choice.tested is None else _test_lines(choice, choice.tested)
    else:
        close = nearest(choice.cells, choice.rules)
        columns = [("near", cell) for cell in close]
        lines = [
            f"layer {cell.layer}, {choice.unit} {cell.strength:g} would need --budget {need}"
            for cell in close
            if (need := would_need(cell, choice.rules))
        ]
        if not any(map(choice.rules.sure, choice.cells)):
            count = sum(map(choice.rules.may, choice.cells))
            lines.append(f"no cell has an effect above 0 that is sure, {count} cells counted in")
        elif any(choice.rules.keeps(c) and choice.rules.sure(c) for c in choice.cells):
            lines.append("cells of less effect were not looked at closely; give smaller strengths")
    lines += [choice.said] if choice.said else []
    if choice.left_out:
        lines.append(f"{choice.left_out} pairs held out have one order only and are not asked")
    limits = choice.rules.budgets.limits
    rows = [
        ["layer", "", *(str(cell.layer) for _, cell in columns)],
        [choice.unit, "", *(f"{cell.strength:g}" for _, cell in columns)],
        ["effect [95 %]", "above 0", *(with_interval(cell.effect, "+.3g") for _, cell in columns)],
        ["p, cells counted", f"<= {ALPHA:g}", *(number(cell.p, 3) for _, cell in columns)],
        ["score", "", *(formatted(cell.score.mean, "+.3f") for _, cell in columns)],
    ]
    for name, kind in KINDS.items():
        limit = f"{'>=' if kind.least else '<='} {limits[name]:g}"
        found = [number(cell.damages.get(name), 3) for _, cell in columns]
        rows.append([name, limit if math.isfinite(limits[name]) else "-", *found])
    return ["", "budget", *(name for name, _ in columns)], rows if columns else [], lines


def _test_lines(choice: Choice, tested: Tested) -> list[str]:
    scores = ", ".join(f"{x.score.mean:.3f} at {signed(x.strength)}" for x in tested.levels)
    lines = [f"score on {len(tested.questions)} test questions: {scores}"]
    if choice.optimism is not None:
        optimism = formatted(choice.optimism, "+.3g")
        lines.append(f"optimism (effect of the choice less effect on the test): {optimism}")
    over = choice.rules.budgets.exceeded(tested.cell.damages)
    if over:
        lines.append(f"on the test it is over budget: {' '.join(over)}")
    if not tested.cell.effect.low > 0:
        lines.append("on the test the effect's interval holds 0")
    if tested.left_out:
        lines.append(f"{tested.left_out} test questions have one order only and are not asked")
    return lines


def picture(choice: Choice) -> bytes | None:
    """The figure as PNG; ``None`` where the model breaks in every cell."""
    # matplotlib takes a second
    from utils.drawing.tuning_plots import Dot, tuning_figure

    best = {cell.cell for cell in choice.best}
    chosen = None if choice.chosen is None else choice.chosen.cell
    late = choice.rules.first_late
    dots = [
        Dot(c.layer, c.strength, c.effect, c.kl, c.layer >= late, c.cell in best, c.cell == chosen)
        for c in choice.cells
        if not c.broken
    ]
    if not dots:
        return None
    of = "at +m against \N{MINUS SIGN}m, halved" if choice.direction == "both" else "from 0"
    note = (
        f"{choice.model}; {choice.split}; darker: later layer; bars: 95 % intervals over pairs. "
        f"Effect: change of the content logit difference {of}; the vector was made without these "
        "pairs. Damage along answers, of knowledge and by loops counts too: see the table."
    )
    title, budget = f"{choice.behavior}: {choice.place}", choice.rules.budgets.limits[KL]
    return tuning_figure(dots, budget=budget, unit=choice.unit, title=title, note=note)
