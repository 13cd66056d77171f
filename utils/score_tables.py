"""Scores read from result files: by behaviour, layer, multiplier and system prompt."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.evaluation import LetterTest, read_results
from utils.paths import Paths, ResultName
from utils.stats import Estimate, bootstrap_mean

Cell = tuple[int, float]


@dataclass
class ScoreTable:
    """The scores of one behaviour under one system prompt.

    Attributes:
        name: what all the files have in common (layer and multiplier are to be replaced).
        scores: cell -> score of every question, shape (questions,).
        beyond_ab: questions whose matching letter is neither A nor B (each counts 0).
        missing: cells that were asked for and have no file.
    """

    name: ResultName
    scores: dict[Cell, NDArray[np.float64]] = field(default_factory=dict)
    beyond_ab: int = 0
    missing: list[Cell] = field(default_factory=list)

    @property
    def layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.scores})

    @property
    def multipliers(self) -> list[float]:
        return sorted({multiplier for _, multiplier in self.scores})

    @property
    def swept_multipliers(self) -> list[float]:
        """The multipliers that were measured at the largest number of layers."""
        count = Counter(multiplier for _, multiplier in self.scores)
        return sorted(m for m, layers in count.items() if layers == max(count.values()))

    def score(self, cell: Cell) -> Estimate | None:
        values = self.scores.get(cell)
        return None if values is None else bootstrap_mean(values)

    def change(self, cell: Cell, base: Cell) -> Estimate | None:
        """Change of the score from ``base`` to ``cell``, paired question by question."""
        if cell not in self.scores or base not in self.scores:
            return None
        return bootstrap_mean(self.scores[cell] - self.scores[base])


def discover_cells(
    name: ResultName, paths: Paths, layers: list[int] | None, multipliers: list[float] | None
) -> list[Cell]:
    """The cells to show: those for which there is a result, and all that were asked for."""
    parts = ("layer", "multiplier")
    stem = name.stem(without=parts)
    found = [n for n in paths.results_of(name.behavior) if n.stem(without=parts) == stem]
    if layers is None and multipliers is None:
        return sorted((n.layer, n.multiplier) for n in found)
    chosen_layers = layers if layers is not None else sorted({n.layer for n in found})
    at_layers = {n.multiplier for n in found if n.layer in chosen_layers}
    chosen = multipliers if multipliers is not None else sorted(at_layers)
    return [(layer, multiplier) for layer in chosen_layers for multiplier in chosen]


def load_scores(
    name: ResultName,
    cells: Iterable[Cell],
    test: LetterTest,
    paths: Paths,
    *,
    without_beyond_ab: bool = False,
) -> ScoreTable:
    """Read the files of one behaviour, each under its exact name.

    Args:
        name: layer and multiplier are replaced by those of each cell.
        cells: what to read; a cell without a file is noted as missing.
        test: how a row is scored.
        paths: where the files lie.
        without_beyond_ab: leave out questions whose matching letter is neither A nor B.

    Raises:
        UserError: a damaged file, or cells that were measured on different questions.
    """
    table = ScoreTable(name)
    questions: list[Any] | None = None
    for cell in cells:
        path = paths.result(replace(name, layer=cell[0], multiplier=cell[1]))
        if not path.exists():
            table.missing.append(cell)
            continue
        rows = read_results(path)
        asked = [row.get("question", row.get("prompt")) for row in rows]
        if questions is None:
            questions = asked
        elif asked != questions:
            raise UserError(f"{path} was measured on other questions than the cells before it")
        scores = test.scores(rows, str(path))
        table.beyond_ab = test.beyond_ab(rows)
        if without_beyond_ab:
            scores = scores[test.within_ab(rows)]
            if not scores.size:
                raise UserError(f"{path}: no question has A or B as its matching letter")
        table.scores[cell] = scores
    return table
