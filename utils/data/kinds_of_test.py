"""What a kind of test is: its questions, what its rows look like, how it is scored and shown.

Which tests there are: :mod:`utils.data.evaluation`; how a model is put through one:
:mod:`utils.sweeps.runs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from utils.data.items import (
    ABFields,
    ABItem,
    Items,
    OpenItem,
    answer_letter,
    load_ab_items,
    load_open_items,
)
from utils.data.orders import LETTERS, ORDER, is_exchanged, question_means
from utils.data.rows import LetterRow, Row
from utils.errors import UserError
from utils.files.paths import Paths
from utils.text.printable import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utils.prompts.format import LetterPrompt, OpenPrompt, PromptFormat


@dataclass(frozen=True)
class Scale:
    """What scores there can be, and how they are shown.

    Attributes:
        level: lowest and highest possible score, both shown always.
        change: changes up to this size, either way, are shown on an axis of no less.
        chance: the score of a coin; ``None`` where there is none.
        digits: of a score in a figure's text.
    """

    level: tuple[float, float]
    change: float
    chance: float | None
    digits: int


@dataclass(frozen=True, kw_only=True)
class KindOfTest:
    """What all kinds of test have.

    Attributes:
        type: its name in the names of results.
        title: what it is called in plots and tables.
        made_by: how to get the file of its questions.
        score_name: what its score is called in plots and tables.
        of_behavior: its questions are each behaviour's own.
        full_form_of: the type that a flag of its own changes into this one.
        free_text: whether answers are texts; else probabilities of letters.
        judged: whether scores come from a judge, into files of their own.
        scale: of the scores.
    """

    free_text: ClassVar[bool]
    judged: ClassVar[bool]
    scale: ClassVar[Scale]

    type: str
    title: str
    made_by: str
    score_name: str
    of_behavior: bool = False
    full_form_of: str | None = None

    def letters(self, rows: Sequence[Row]) -> list[str | None]:
        """The letter of the matching answer of every row; ``None`` where answers have none."""
        return [None] * len(rows)

    def within_ab(self, rows: Sequence[Row]) -> list[bool]:
        """Which rows have A or B as their matching letter, or need no letter."""
        return [True] * len(rows)

    def beyond_ab(self, rows: Sequence[Row]) -> int:
        """Number of rows whose matching letter is neither A nor B; each counts 0."""
        return self.within_ab(rows).count(False)

    def categories(self, rows: Sequence[Row]) -> list[str] | None:
        """The category of every row; ``None`` for a test without categories."""
        return None


@dataclass(frozen=True, kw_only=True)
class LetterTest(KindOfTest):
    """A test in which the model chooses between (A) and (B).

    Attributes:
        data: the file of its questions, for a behaviour.
        fields: the names of the question and of the two answers in that file.
    """

    free_text = False
    judged = False
    scale = Scale((0, 1), 0.05, 0.5, 3)

    data: Callable[[Paths, str], Path]
    fields: ABFields

    def load(self, paths: Paths, behavior: str, limit: int | None) -> Items[ABItem]:
        """The questions, every one checked.

        Raises:
            UserError: see :func:`utils.data.items.load_ab_items`.
        """
        path = self.data(paths, behavior)
        return load_ab_items(path, made_by=self.made_by, names=self.fields, limit=limit)

    def prompts(
        self, items: Sequence[ABItem | OpenItem], prompt_format: PromptFormat
    ) -> Sequence[LetterPrompt]:
        """One prompt for each question.

        Raises:
            UserError: the tokenizer merges or splits an answer's letter.
        """
        return [prompt_format.letter_prompt(item.question, LETTERS) for item in items]

    def row(self, item: Row, a_prob: float, b_prob: float) -> LetterRow:
        """One row of a result file (the fields as they are in the question's file)."""
        question = {"question": item[self.fields.question]}
        answers = {name: item[name] for name in (self.fields.matching, self.fields.other)}
        extra = {name: item[name] for name in self.fields.extra}
        extra |= {ORDER: item[ORDER]} if ORDER in item else {}
        row = question | answers | {"a_prob": a_prob, "b_prob": b_prob} | extra
        return cast(LetterRow, row)

    def scores(self, rows: Sequence[Row], where: str) -> NDArray[np.float64]:
        """P(matching) / (P(A) + P(B)) of every question, the mean of both orders if it has both.

        Returns:
            Shape (questions,).

        Raises:
            UserError: a row without the fields, with values that are no probabilities, or in the
                exchanged order without the published one.
        """
        # numpy, which --help does without
        import numpy as np

        from utils.stats import matching_share

        values = []
        for number, row in enumerate(rows, 1):
            try:
                a, b = (float(cast(float, row[name])) for name in ("a_prob", "b_prob"))
                letter = answer_letter(row[self.fields.matching])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise UserError(f"{where}, row {number}: no result of type {self.type}") from error
            if not (0 <= a <= 1 and 0 <= b <= 1):
                raise UserError(f"{where}, row {number}: {a} and {b} are no probabilities")
            values.append(matching_share(a, b, letter))
        try:
            return question_means(np.array(values, dtype=np.float64), rows)
        except ValueError as error:
            raise UserError(f"{where}, {error}") from error

    def categories(self, rows: Sequence[Row]) -> list[str] | None:
        if "category" not in self.fields.extra:
            return None
        return [str(row.get("category", "")) for row in rows if not is_exchanged(row)]

    def letters(self, rows: Sequence[Row]) -> list[str | None]:
        return [answer_letter(row[self.fields.matching]) for row in rows]

    def within_ab(self, rows: Sequence[Row]) -> list[bool]:
        return [letter in LETTERS for letter in self.letters(rows)]


@dataclass(frozen=True, kw_only=True)
class OpenTest(KindOfTest):
    """A test in which the model answers freely; a judge scores the answers later."""

    free_text = True
    judged = True
    scale = Scale((0, 10), 1.0, None, 1)

    def data(self, paths: Paths, behavior: str) -> Path:
        return paths.test_data(behavior, "open_ended")

    def load(self, paths: Paths, behavior: str, limit: int | None) -> Items[OpenItem]:
        """The questions, every one checked.

        Raises:
            UserError: see :func:`utils.data.items.load_open_items`.
        """
        return load_open_items(self.data(paths, behavior), made_by=self.made_by, limit=limit)

    def prompts(
        self, items: Sequence[ABItem | OpenItem], prompt_format: PromptFormat
    ) -> Sequence[OpenPrompt]:
        """One prompt for each question."""
        return [prompt_format.open_prompt(item.question) for item in items]

    def scores(self, rows: Sequence[Row], where: str) -> NDArray[np.float64]:
        """The judge's score of every row, shape (rows,); NaN where it is missing.

        Raises:
            UserError: a row that has not been judged, or whose score is none from 0 to 10.
        """
        import numpy as np

        values = []
        for number, row in enumerate(rows, 1):
            if "score" not in row:
                raise UserError(f"{where}, row {number}: no score; judge it with ./scoring.py")
            score = row["score"]
            if score is None:
                values.append(np.nan)
                continue
            if (
                isinstance(score, bool)
                or not isinstance(score, int | float)
                or not 0 <= score <= 10
            ):
                raise UserError(
                    f"{where}, row {number}: the score must be a number from 0 to 10, or null "
                    f"where it is missing, not {printable(repr(score), 40)}"
                )
            values.append(float(score))
        return np.array(values, dtype=np.float64)


Test = LetterTest | OpenTest
