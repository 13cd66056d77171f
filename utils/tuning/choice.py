"""Which cell to steer at: the largest effect that the budgets allow, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from utils.files.names import Cell
from utils.tuning.budgets import KINDS, ROLLOUT, Budgets, needed
from utils.tuning.cells import TunedCell

MOST_SECOND, NEAREST = 20, 3
LATE_SHARE = 0.2
ALPHA = 0.05


@dataclass(frozen=True)
class Rules:
    """What a cell must keep to be chosen.

    Attributes:
        budgets: of damage.
        first_late: the first layer too late to be chosen; those of the last fifth change the next
            token rather than what the model means (Arditi et al. 2024, arXiv 2406.11717).
    """

    budgets: Budgets
    first_late: int

    def may(self, cell: TunedCell) -> bool:
        """Whether a cell could be chosen, its damage aside."""
        return cell.layer < self.first_late and not cell.broken

    def sure(self, cell: TunedCell) -> bool:
        """Whether a cell could be chosen and its effect lies above 0, all cells counted in.

        Each cell's own interval would not do: of 100 cells without any effect some lie above 0.
        """
        above = self.may(cell) and cell.effect.has_interval and cell.effect.low > 0
        return above and cell.p is not None and cell.p <= ALPHA

    def keeps(self, cell: TunedCell) -> bool:
        """Whether a cell may be chosen, by all that was measured of it."""
        return self.may(cell) and not self.budgets.exceeded(cell.damages)


def first_late_layer(layers: int, *, late_too: bool) -> int:
    """The first of the last fifth of a model's layers; all may be chosen under ``late_too``."""
    return layers if late_too else int(layers * (1 - LATE_SHARE))


def front(cells: Sequence[TunedCell]) -> list[TunedCell]:
    """Those that no other beats: none has as much effect for as little KL and more of either.

    In ascending order of KL.
    """
    found: list[TunedCell] = []
    for cell in sorted(cells, key=lambda c: (c.kl, -c.effect.mean, c.cell)):
        best = found[-1] if found else None
        same = best is not None and (best.kl, best.effect.mean) == (cell.kl, cell.effect.mean)
        if best is None or cell.effect.mean > best.effect.mean or same:
            found.append(cell)
    return found


def second_stage(cells: Sequence[TunedCell], rules: Rules) -> list[TunedCell]:
    """At most 20 cells that are worth a closer look: on the front, and beside it.

    The front of those that have a sure effect and keep the first stage's budgets, the largest
    effects first; then their neighbours, one layer or one strength away, in the same order.
    """
    sound = [cell for cell in cells if rules.keeps(cell) and rules.sure(cell)]
    best = sorted(front(sound), key=lambda c: (-c.effect.mean, c.cell))
    layers = sorted({c.layer for c in cells})
    strengths = sorted({c.strength for c in cells})

    def beside(cell: TunedCell) -> list[TunedCell]:
        row, column = layers.index(cell.layer), strengths.index(cell.strength)
        places = [
            (abs(layers.index(c.layer) - row), abs(strengths.index(c.strength) - column))
            for c in sound
        ]
        return [c for c, place in zip(sound, places, strict=True) if sum(place) == 1]

    wanted = [*best, *(near for cell in best for near in beside(cell))]
    return list({c.cell: c for c in wanted}.values())[:MOST_SECOND]


def choose(cells: Sequence[TunedCell], rules: Rules) -> TunedCell | None:
    """The cell to steer at, of those that both stages have measured; ``None``: do not steer.

    The largest of the effects that are sure; and of those within one standard error of it
    the least damage along answers (one-standard-error rule: Breiman et al. 1984).
    """
    sure = [cell for cell in cells if rules.keeps(cell) and rules.sure(cell)]
    if not sure:
        return None
    best = max(sure, key=lambda c: (c.effect.mean, -c.kl))
    near = [c for c in sure if c.effect.mean >= best.effect.mean - best.error]
    return min(near, key=lambda c: (_along_answers(c), c.kl, c.cell))


def _along_answers(cell: TunedCell) -> float:
    found = cell.damages.get(ROLLOUT)
    return math.inf if found is None else found


def nearest(cells: Sequence[TunedCell], rules: Rules) -> list[TunedCell]:
    """The three cells with a sure effect that are least over budget."""
    over_budget = [c for c in cells if rules.sure(c) and not rules.keeps(c)]

    def over(cell: TunedCell) -> tuple[float, float, Cell]:
        found = {n: d for n, d in cell.damages.items() if d is not None}
        most = max((rules.budgets.excess(n, d) for n, d in found.items()), default=0.0)
        return most, cell.kl, cell.cell

    return sorted(over_budget, key=over)[:NEAREST]


def would_need(cell: TunedCell, rules: Rules) -> str:
    """The budgets under which a cell could have been chosen, as the flag takes them."""
    found = [(n, cell.damages[n]) for n in KINDS if n in rules.budgets.exceeded(cell.damages)]
    return " ".join(needed(name, damage) for name, damage in found if damage is not None)
