"""Effects of a vector beside those of its controls, and how probable they are by chance.

Where both signs of a strength were measured the effect is T = (c(+m) - c(-m)) / 2, half of what
lies between them; with one sign it is the change against the unsteered model at that strength.
c is the mean over questions, so T of every control follows from the means in the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files.contents import read_json, read_record, read_verified
from utils.files.names import Cell
from utils.permutation import p_of_largest, p_value
from utils.scores.control_rows import CONTENT, QUANTITIES
from utils.stats import Estimate, mean_of_changes
from utils.vectors.control_names import kind_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Controls:
    """The file of one cell.

    Attributes:
        vector: what was steered with.
        questions: change of each question under the vector, by quantity, shape (questions,); NaN
            where there is none.
        means: name of a control -> its mean change by quantity; NaN where it broke the model.
        kept: questions that were asked in their published order only.
        sha256: of the vector, where the file's record tells.
    """

    vector: str
    questions: Mapping[str, Floats]
    means: Mapping[str, Mapping[str, float]]
    kept: int
    sha256: str | None = None

    @classmethod
    def read(cls, path: Path) -> Controls:
        """From a file.

        Raises:
            UserError: missing, not the bytes that were recorded, or no file of controls.
        """
        content = read_json(read_verified(path))
        try:
            own, *rows = content["rows"]
            questions = {
                name: np.array([_number(row[name]) for row in content["questions"]])
                for name in QUANTITIES
            }
            means = {r["vector"]: {name: _number(r[name]) for name in QUANTITIES} for r in rows}
            inputs = (read_record(path) or {}).get("inputs")
            sha256 = inputs.get("vector") if isinstance(inputs, dict) else None
            return cls(own["vector"], questions, means, len(content["kept"]), sha256)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} holds no effects of controls") from error

    def estimate(self, quantity: str) -> Estimate | None:
        """Mean change under the vector; ``None`` if no question has one."""
        return _estimate(self.questions[quantity])

    def draws(self, kind: str, quantity: str) -> Floats:
        """Mean changes under the controls of a kind; (controls,)."""
        found = [row[quantity] for name, row in self.means.items() if kind_of(name) == kind]
        return np.array(found, dtype=np.float64)


@dataclass(frozen=True)
class Effect:
    """What a vector does at one layer and strength, and what its controls do.

    Attributes:
        strength: without a sign where both signs were measured, else the one that was.
        both: whether both signs were measured.
        controls: of the strengths that were, put together.
    """

    layer: int
    strength: float
    both: bool
    controls: Controls

    def p(self, kind: str, quantity: str = CONTENT) -> float | None:
        """See :func:`utils.permutation.p_value`."""
        own = self.controls.estimate(quantity)
        draws = self.controls.draws(kind, quantity)
        return None if own is None else p_value(own.mean, draws)

    def broken(self, kind: str) -> int:
        """Controls of a kind under which an answer was NaN; each counts as larger."""
        return int(np.isnan(self.controls.draws(kind, CONTENT)).sum())


def read_controls(places: Mapping[Cell, Path]) -> dict[Cell, Controls]:
    """The files of some cells that are there."""
    return {cell: Controls.read(path) for cell, path in places.items() if path.exists()}


def effects_of(cells: Mapping[Cell, Controls]) -> list[Effect]:
    """The effects of all layers and strengths of one vector, both signs put together."""
    found = []
    for layer, size in sorted({(layer, abs(strength)) for layer, strength in cells}):
        signs = [cells.get((layer, sign * size)) for sign in (1, -1)]
        plus, minus = signs
        if plus is not None and minus is not None:
            found.append(Effect(layer, size, True, _half_between(plus, minus)))
        elif plus is not None:
            found.append(Effect(layer, size, False, plus))
        elif minus is not None:
            found.append(Effect(layer, -size, False, minus))
    return found


def p_max(effects: Sequence[Effect], quantity: str = CONTENT) -> float | None:
    """p of the largest effect over layers by shuffled controls, which are one draw at all layers.

    Args:
        effects: of one vector and strength, a layer each.
        quantity: which.

    Returns:
        ``None`` for one layer, fewer than 19 draws that all layers have, or an unknown effect.
    """
    names = [[name for name in e.controls.means if kind_of(name) == "shuffled"] for e in effects]
    shared = [name for name in (names or [[]])[0] if all(name in own for own in names)]
    own = [e.controls.estimate(quantity) for e in effects]
    known = [e.mean for e in own if e is not None]
    if len(effects) < 2 or len(known) < len(effects):
        return None
    draws = [[e.controls.means[name][quantity] for e in effects] for name in shared]
    return p_of_largest(np.array(known), np.array(draws).reshape(len(shared), len(effects)))


def _half_between(plus: Controls, minus: Controls) -> Controls:
    """(c(+m) - c(-m)) / 2 of every question, and of the controls that both have."""
    questions = {name: (plus.questions[name] - minus.questions[name]) / 2 for name in QUANTITIES}
    means = {
        name: {q: (row[q] - minus.means[name][q]) / 2 for q in QUANTITIES}
        for name, row in plus.means.items()
        if name in minus.means
    }
    return Controls(plus.vector, questions, means, plus.kept, plus.sha256)


def _estimate(values: Floats) -> Estimate | None:
    known = values[~np.isnan(values)]
    return mean_of_changes(known, None) if known.size else None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
