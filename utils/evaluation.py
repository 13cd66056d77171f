"""What a test is: where its questions lie, what its rows look like, how it is scored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.artifacts import read_json, verify
from utils.data import ABFields, answer_letter
from utils.errors import UserError
from utils.paths import Paths
from utils.stats import matching_share

LETTERS = ("A", "B")


@dataclass(frozen=True)
class LetterTest:
    """A test in which the model chooses between (A) and (B).

    Attributes:
        type: its value of ``--type``.
        data: the file of its questions, for a behaviour.
        fields: the names of the question and of the two answers in that file.
        score_name: what its score is called in plots and tables.
    """

    type: str
    data: Callable[[Paths, str], Path]
    fields: ABFields
    score_name: str

    def row(self, item: Mapping[str, Any], a_prob: float, b_prob: float) -> dict[str, Any]:
        """One row of a result file (the fields as they are in the question's file)."""
        question = {"question": item[self.fields.question]}
        answers = {name: item[name] for name in (self.fields.matching, self.fields.other)}
        extra = {name: item[name] for name in self.fields.extra}
        return question | answers | {"a_prob": a_prob, "b_prob": b_prob} | extra

    def scores(self, rows: Sequence[Mapping[str, Any]], where: str) -> NDArray[np.float64]:
        """P(matching) / (P(A) + P(B)) of every row, shape (rows,).

        Raises:
            UserError: a row without the fields or with values that are no probabilities.
        """
        values = []
        for number, row in enumerate(rows, 1):
            try:
                a, b = float(row["a_prob"]), float(row["b_prob"])
                letter = answer_letter(row[self.fields.matching])
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{where}, row {number}: no result of type {self.type}") from error
            if not (0 <= a <= 1 and 0 <= b <= 1):
                raise UserError(f"{where}, row {number}: {a} and {b} are no probabilities")
            values.append(matching_share(a, b, letter))
        return np.array(values, dtype=np.float64)

    def within_ab(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
        """Which rows have A or B as their matching letter, shape (rows,)."""
        return np.array([answer_letter(row[self.fields.matching]) in LETTERS for row in rows])

    def beyond_ab(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Number of rows whose matching letter is neither A nor B; each counts 0."""
        return int((~self.within_ab(rows)).sum())


AB = LetterTest(
    type="ab",
    data=lambda paths, behavior: paths.test_data(behavior, "ab"),
    fields=ABFields(),
    score_name="P(matching answer)",
)

TESTS = {test.type: test for test in (AB,)}


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of one result file, this toolkit's or a published one.

    Raises:
        UserError: not the bytes that were recorded, not JSON, or no list of rows.
    """
    verify(path)
    rows = read_json(path)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no list of result rows")
    return rows
