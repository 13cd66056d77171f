"""What is shown of a sweep: changes of its score, and content and letter told apart."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from utils.figures.control_figures import BEHIND
from utils.files.names import Cell, Variant
from utils.report.sweeps import Sweep
from utils.scores.control_report import band
from utils.scores.control_rows import CONTENT, LETTER
from utils.stats import FEWEST, Estimate

SCORE = "score"
UNSTEERED = Estimate(0.0, 0.0, 0.0, 0)
LEAST_LOGITS = 0.2


@dataclass(frozen=True)
class Panel:
    """One quantity of a sweep over layers and strengths.

    Attributes:
        quantity: ``score``, ``content`` or ``letter``.
        title: what it is, with its unit.
        cells: its paired change from the unsteered model; 0 where that is the cell itself.
        band: median and 2.5-97.5 % of controls, by cell.
        behind: what these controls are.
        level: the score that changes are counted from, where there is one.
        digits: of its numbers.
    """

    quantity: str
    title: str
    cells: Mapping[Cell, Estimate]
    band: Mapping[Cell, Estimate] = field(default_factory=dict)
    behind: str = ""
    level: Estimate | None = None
    digits: int = 3

    def reach(self) -> tuple[float, float]:
        """The lowest and highest number that is drawn."""
        ends = [x for e in (*self.cells.values(), *self.band.values()) for x in reach_of(e)]
        return min(ends, default=0.0), max(ends, default=0.0)


@functools.cache
def panels_of(sweep: Sweep) -> list[Panel]:
    """The score's changes; content and letter where both orders were asked."""
    table = sweep.table
    found = []
    changes = {
        # what changes are counted from does not differ from itself, and needs no interval
        cell: UNSTEERED if cell == table.base(cell[0]) else table.change(cell, table.base(cell[0]))
        for cell in table.scores
    }
    known = {cell: e for cell, e in changes.items() if e is not None}
    if any(e is not UNSTEERED for e in known.values()):
        base = table.base(sweep.layer)
        level = None if base is None else table.score(base)
        digits = sweep.test.scale.digits
        name = sweep.test.score_name
        found.append(Panel(SCORE, f"change of {name}", known, level=level, digits=digits))
    for quantity in (CONTENT, LETTER):
        panel = _effect_panel(sweep, quantity)
        if panel is not None:
            found.append(panel)
    return found


def _effect_panel(sweep: Sweep, quantity: str) -> Panel | None:
    """Where controls were measured the vector's effect beside them, else that of the results."""
    title = f"change of {quantity}, logits"
    table, plan = sweep.table, sweep.controls
    if plan is not None:
        cells = {c: e for c, own in plan.cells.items() if (e := own.estimate(quantity)) is not None}
        grey: dict[Cell, Estimate] = {}
        behind = ""
        for kind in BEHIND:
            drawn = {c: band(own.draws(kind, quantity)) for c, own in plan.cells.items()}
            grey = {c: e for c, e in drawn.items() if e is not None}
            if grey:
                behind = f"{max(e.n for e in grey.values())} {kind} controls"
                break
        zero = {(n, 0.0): UNSTEERED for n, _ in cells}
        return Panel(quantity, title, cells | zero, grey | (zero if grey else {}), behind)
    if not table.effects:
        return None
    changes = {
        c: UNSTEERED if c == table.base(c[0]) else table.effect(quantity, c, table.base(c[0]))
        for c in table.effects
    }
    known = {c: e for c, e in changes.items() if e is not None}
    steered = any(e is not UNSTEERED for e in known.values())
    return Panel(quantity, title, known) if steered else None


def reach_of(e: Estimate) -> tuple[float, float]:
    """What is drawn of an estimate: its interval, or where that says nothing its mean."""
    return (e.low, e.high) if e.has_interval else (e.mean, e.mean)


def common_reach(ends: Iterable[tuple[float, float]], least: float) -> tuple[float, float]:
    """One axis for all pictures of a kind, so that behaviours can be compared; holds ±least."""
    found = list(ends)
    return min([-least, *(low for low, _ in found)]), max([least, *(high for _, high in found)])


def reaches(
    groups: Iterable[Sequence[Sweep]],
) -> dict[tuple[Variant, str], tuple[float, float]]:
    """Variant and quantity -> the axis of all its pictures, whatever the behaviour."""
    found = {}
    for group in groups:
        every = [panel for sweep in group for panel in panels_of(sweep)]
        for quantity in {panel.quantity for panel in every}:
            some = [panel.reach() for panel in every if panel.quantity == quantity]
            least = group[0].test.scale.change if quantity == SCORE else LEAST_LOGITS
            found[group[0].variant, quantity] = common_reach(some, least)
    return found


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from low to high."""
    span = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(span))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= span)
    first = math.ceil(low / step - 1e-9)
    return [n * step + 0.0 for n in range(first, math.floor(high / step + 1e-9) + 1)]


def data_of(panel: Panel, layers: Sequence[int], strengths: Sequence[float]) -> dict[str, object]:
    """A panel for the page's script: per layer and strength mean, low, high (5 digits)."""

    def grid(cells: Mapping[Cell, Estimate]) -> dict[str, list[list[float | None] | None]]:
        return {
            str(n): [None if (e := cells.get((n, s))) is None else numbers_of(e) for s in strengths]
            for n in layers
        }

    # of controls the ends are those of their draws, however few
    grey = {cell: replace(e, n=max(e.n, FEWEST)) for cell, e in panel.band.items()}
    more = {"band": grid(grey)} if grey else {}
    return {"quantity": panel.quantity, "title": panel.title, "digits": panel.digits} | {
        "cells": grid(panel.cells),
        **more,
    }


def numbers_of(e: Estimate) -> list[float | None]:
    """Mean, low and high to 5 digits; ``None`` for the ends of an interval that says nothing."""
    if not e.has_interval and e is not UNSTEERED:
        return [five(e.mean), None, None]
    return [five(e.mean), five(e.low), five(e.high)]


def five(value: float) -> float:
    """A number to 5 digits after the point, without a minus before zero."""
    return round(value, 5) + 0.0
