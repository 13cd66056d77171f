"""Putting a model through a test: prompts, one run over all cells, result rows.

Each run gives, for a batch of questions and for every cell, one JSON value. The values are what a
sweep journals; :meth:`Run.row` turns one into a row of a result file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from utils.data.items import ABItem, OpenItem
from utils.data.kinds_of_test import LETTERS, LetterTest, OpenTest, Test
from utils.data.rows import ResultRow
from utils.prompts.end_tokens import answer_text
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer
from utils.steering.self_check import Rounding

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper

# Below this distance of the two best logits rounding may decide between two tokens; in 16 bits,
# below what rounding was seen to move a logit by.
NEAR_TIE = 1e-4


Advance = Callable[[float], object]
LetterValue = list[float | None]
"""[P(A), P(B)]; ``None`` in place of NaN, which JSON does not have."""


class OpenValue(TypedDict):
    """The tokens of an answer, and whether rounding may have decided one of them."""

    tokens: list[int]
    near_tie: bool


Value = LetterValue | OpenValue
"""What a sweep journals of one question and cell."""


def _nowhere(_questions: float) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Settings:
    """What decides how much is computed together, and how long answers may get."""

    batch_tokens: int | None = None
    batch_rows: int | None = None
    max_new_tokens: int = 100


class Run(ABC):
    """A run of one kind of test over all cells of some questions.

    Args:
        wrapper: the model.
        prompts: one for each question.
        cells: ``None`` among them is the unsteered model.
        settings: how much is computed together.

    Attributes:
        batches: questions that are computed together.
        rounding: of a 16-bit model, as measured before the run.
        alone: how many cells were computed one by one so far.
    """

    batches: list[list[int]]
    rounding: Rounding | None
    alone: int

    @abstractmethod
    def __init__(
        self,
        wrapper: LlamaWrapper,
        prompts: Sequence[Any],
        cells: Sequence[Steer | None],
        settings: Settings,
    ) -> None: ...

    @abstractmethod
    def measure(self, batch: Sequence[int], advance: Advance = _nowhere) -> list[list[Any]]:
        """JSON values [question of the batch][cell].

        Args:
            batch: one of ``batches``.
            advance: called with the questions finished since the last call, parts of them too.
        """

    @staticmethod
    @abstractmethod
    def is_value(value: Any) -> bool:
        """Whether a journal's value is one that such a run gives."""

    @staticmethod
    def is_broken(_value: Any) -> bool:
        """Whether a value is no result: the model's numbers were NaN."""
        return False

    @staticmethod
    def is_near_tie(_value: Any) -> bool:
        """Whether rounding may have decided between two tokens."""
        return False

    @staticmethod
    @abstractmethod
    def row(
        test: Any, item: Any, prompt: Any, value: Any, tokenizer: Any, ends: Collection[int]
    ) -> ResultRow:
        """One row of a result file; ``ends`` are the tokens at which answers end."""


class LetterRun(Run):
    """[P(A), P(B)] for every cell; ``None`` in place of NaN, which JSON does not have."""

    def __init__(
        self,
        wrapper: LlamaWrapper,
        prompts: Sequence[LetterPrompt],
        cells: Sequence[Steer | None],
        settings: Settings,
    ) -> None:
        steers = [cell for cell in cells if cell is not None]
        self._grid = LetterGrid(wrapper, prompts, steers, budget=settings.batch_tokens)
        self.batches, self.rounding = self._grid.batches, self._grid.rounding
        place = iter(range(1, len(cells) + 1))
        self._columns = [0 if cell is None else next(place) for cell in cells]

    def measure(self, batch: Sequence[int], advance: Advance = _nowhere) -> list[list[LetterValue]]:
        found = self._grid.probabilities(batch)[:, self._columns]
        advance(len(batch))
        return [
            [[None if math.isnan(p) else p for p in cell] for cell in cells]
            for cells in found.tolist()
        ]

    @property
    def alone(self) -> int:  # type: ignore[override]
        return self._grid.alone

    @staticmethod
    def is_value(value: Any) -> bool:
        whole = isinstance(value, list) and len(value) == len(LETTERS)
        return whole and all(p is None or (type(p) is float and 0 <= p <= 1 + 1e-6) for p in value)

    @staticmethod
    def is_broken(value: Any) -> bool:
        return None in value

    @staticmethod
    def row(
        test: LetterTest,
        item: ABItem,
        prompt: LetterPrompt,
        value: Any,
        tokenizer: Any,
        ends: Collection[int],
    ) -> ResultRow:
        return test.row(item.row, *value)


class OpenRun(Run):
    """The tokens of an answer for every cell, and how near a tie came to deciding them."""

    def __init__(
        self,
        wrapper: LlamaWrapper,
        prompts: Sequence[OpenPrompt],
        cells: Sequence[Steer | None],
        settings: Settings,
    ) -> None:
        self._grid = GreedyGrid(
            wrapper,
            prompts,
            cells,
            max_new_tokens=settings.max_new_tokens,
            rows=settings.batch_rows,
        )
        self.batches, self.rounding = self._grid.batches, self._grid.rounding
        moved = 0.0 if self.rounding is None else self.rounding.absolute
        self._near = max(NEAR_TIE, moved)
        self.alone = 0

    def measure(self, batch: Sequence[int], advance: Advance = _nowhere) -> list[list[OpenValue]]:
        found = self._grid.answers(batch, advance)
        if self._grid.is_alone(batch):
            self.alone += sum(map(len, found))
        return [
            [{"tokens": list(a.tokens), "near_tie": a.margin < self._near} for a in answers]
            for answers in found
        ]

    @staticmethod
    def is_value(value: Any) -> bool:
        if not isinstance(value, dict) or type(value.get("near_tie")) is not bool:
            return False
        tokens = value.get("tokens")
        return isinstance(tokens, list) and all(
            type(token) is int and token >= 0 for token in tokens
        )

    @staticmethod
    def is_near_tie(value: Any) -> bool:
        return bool(value["near_tie"])

    @staticmethod
    def row(
        test: OpenTest,
        item: OpenItem,
        prompt: OpenPrompt,
        value: Any,
        tokenizer: Any,
        ends: Collection[int],
    ) -> ResultRow:
        answer = answer_text(tokenizer, value["tokens"], ends)
        raw = str(tokenizer.decode([*prompt.ids, *value["tokens"]], skip_special_tokens=False))
        return {"question": item.question, "model_output": answer, "raw_model_output": raw}


def run_of(test: Test) -> type[Run]:
    """What puts a model through a test."""
    return OpenRun if test.free_text else LetterRun
