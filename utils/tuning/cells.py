"""Cells of a layers x strengths grid: what steering does there, and what it breaks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.files.names import DOSE, Cell
from utils.scores.order_effects import order_effects
from utils.stats import Estimate, matching_share, mean_of_changes
from utils.steering.one_pass import Steer
from utils.tuning.budgets import KL, LETTERS
from utils.tuning.splits import Question
from utils.vectors.dose import SteeringVector

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TunedCell:
    """A layer, a strength (above 0), and what was measured there.

    Where both signs are steered, damage is that of the worse one.

    Attributes:
        layer, strength: where and how strongly, in the unit of the run.
        multiplier, dose: the strength in both units; no dose where H is not known.
        effect: change of the content logit difference, see :func:`effects`; NaN where the model
            breaks.
        error: standard error of the effect over questions.
        p: of the effect if nothing moved, all cells among which it was found counted in; ``None``
            where a cell was not chosen among others.
        score: the same change of the behaviour score.
        damages: kind of damage -> how much; ``None`` where it was not measured.
    """

    layer: int
    strength: float
    multiplier: float
    dose: float | None
    effect: Estimate
    error: float
    score: Estimate
    damages: Mapping[str, float | None] = field(default_factory=dict)
    p: float | None = None

    @property
    def cell(self) -> Cell:
        return self.layer, self.strength

    @property
    def broken(self) -> bool:
        return math.isnan(self.effect.mean) or any(
            found is not None and math.isnan(found) for found in self.damages.values()
        )

    @property
    def kl(self) -> float:
        found = self.damages[KL]
        assert found is not None
        return found

    def recorded(self) -> dict[str, Any]:
        """For JSON; what is not a number is ``None``."""
        place = {"layer": self.layer, "multiplier": self.multiplier, "dose": self.dose}
        found = place | {"effect": estimate(self.effect), "score": estimate(self.score)}
        found |= {} if self.p is None else {"p": self.p}
        return found | {name: finite(damage) for name, damage in self.damages.items()}


def estimate(found: Estimate) -> dict[str, float | int | None]:
    """An estimate for JSON."""
    return {n: finite(getattr(found, n)) for n in ("mean", "low", "high")} | {"n": found.n}


def finite(number: float | None) -> float | None:
    """A number that JSON has."""
    return None if number is None or not math.isfinite(number) else float(number)


@dataclass(frozen=True)
class Signed:
    """Which signs of a strength are steered, and which two of the three cells are compared."""

    direction: str

    @property
    def signs(self) -> tuple[int, ...]:
        return {"both": (1, -1), "pos": (1,), "neg": (-1,)}[self.direction]

    def cells(self, grid: Sequence[Cell]) -> list[Cell]:
        """What is computed for some cells: each with its signs, unsteered first."""
        return [(0, 0.0), *((n, sign * s) for n, s in grid for sign in self.signs)]

    def change(self, found: Mapping[int, Floats]) -> Floats:
        """What steering changes at one cell, question by question, shape (questions,).

        +m against -m, halved; or +m against 0; or 0 against -m. So what goes the right way is
        above 0 in every case.

        Args:
            found: sign (0: unsteered) -> a value for each question.
        """
        if self.direction == "both":
            return (found[1] - found[-1]) / 2
        return found[1] - found[0] if self.direction == "pos" else found[0] - found[-1]


def steer_of(vectors: Mapping[int, SteeringVector], cell: Cell, unit: str) -> Steer:
    """What is added in a (steered) cell."""
    layer, strength = cell
    vector = vectors[layer]
    return Steer(layer, vector.multiplier(strength, unit) * vector.vector)


@dataclass(frozen=True)
class Answered:
    """P(A) and P(B) of questions in both orders.

    Attributes:
        questions: what was asked.
        probabilities: shape (questions, 2 orders, cells, 2 letters), the unsteered cell first.
        cells: what the columns are.
    """

    questions: Sequence[Question]
    probabilities: Floats
    cells: Sequence[Cell]

    def of(self, cell: Cell) -> Floats:
        """Shape (questions, 2 orders, 2 letters)."""
        found: Floats = self.probabilities[:, :, self.cells.index(cell)]
        return found

    def content(self, cell: Cell) -> Floats:
        """The content effect of each question (:mod:`utils.scores.order_effects`)."""
        found = self.of(cell)
        matching = [q.published.matching for q in self.questions]
        return order_effects(found[:, 0], found[:, 1], matching).content

    def scores(self, cell: Cell) -> Floats:
        """P(matching) / (P(A) + P(B)) of each question, mean of both orders."""
        orders = []
        for (first, second), q in zip(self.of(cell).tolist(), self.questions, strict=True):
            shares = (
                matching_share(first[0], first[1], q.published.matching),
                matching_share(second[0], second[1], q.exchanged.matching),
            )
            orders.append(sum(shares) / 2)
        return np.array(orders)

    def letters(self, cell: Cell) -> float:
        """Mean of P(A) + P(B)."""
        return float(self.of(cell).sum(axis=-1).mean())


def content_changes(answered: Answered, cell: Cell, signed: Signed) -> Floats:
    """Change of the content logit difference of each question in one cell, (questions,)."""
    places = _places(cell, signed)
    return signed.change({sign: answered.content(place) for sign, place in places.items()})


def _places(cell: Cell, signed: Signed) -> dict[int, Cell]:
    """Sign -> the cell as it is steered; 0: unsteered."""
    layer, strength = cell
    return {0: (0, 0.0)} | {sign: (layer, sign * strength) for sign in signed.signs}


def effects(answered: Answered, cell: Cell, signed: Signed) -> tuple[Estimate, float, Estimate]:
    """Change of content with its standard error, and change of the score, in one cell."""
    content = content_changes(answered, cell, signed)
    places = _places(cell, signed)
    scores = signed.change({sign: answered.scores(place) for sign, place in places.items()})
    error = float(content.std(ddof=1) / np.sqrt(len(content))) if len(content) > 1 else math.inf
    return mean_of_changes(content, None), error, mean_of_changes(scores, 1.0)


def measured(
    answered: Answered,
    kl: Mapping[Cell, float],
    vector: SteeringVector,
    cell: Cell,
    signed: Signed,
    unit: str,
) -> TunedCell:
    """A cell after the first stage.

    Args:
        answered: the questions of the choice (or of the test).
        kl: of every signed cell, mean over neutral prompts.
        vector: of the cell's layer.
        cell: layer and strength.
        signed: which signs are steered.
        unit: of the strength.
    """
    layer, strength = cell
    effect, error, score = effects(answered, cell, signed)
    places = [(layer, sign * strength) for sign in signed.signs]
    unsteered = answered.letters((0, 0.0))
    damages: dict[str, float | None] = {
        KL: worst([kl[place] for place in places]),
        LETTERS: worst([answered.letters(p) / unsteered for p in places], least=True),
    }
    multiplier = vector.multiplier(strength, unit)
    # a dose that was asked for stays that number: files are named after it
    dose = strength if unit == DOSE else vector.dose(multiplier)
    return TunedCell(layer, strength, multiplier, dose, effect, error, score, damages)


def worst(found: Sequence[float], *, least: bool = False) -> float:
    """The worse of some damages; NaN if any is."""
    return float(np.min(found) if least else np.max(found))
