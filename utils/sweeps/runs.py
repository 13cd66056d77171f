"""Putting a model through a test: prompts, one run over all cells, result rows.

Each measure gives, for a batch of questions and for every cell, one JSON value. The values are
what a sweep journals; :func:`result_row` turns one into a row of a result file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict, cast

from transformers import PreTrainedTokenizerBase

from utils.data.evaluation import LETTERS, LetterTest, OpenTest, Test
from utils.data.items import ABItem, OpenItem
from utils.data.rows import ResultRow
from utils.prompts.checks import Prompt
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


class Run(Protocol):
    """A run over all cells of some questions.

    Attributes:
        batches: questions that are computed together.
        rounding: of a 16-bit model, as measured before the run.
    """

    batches: list[list[int]]
    rounding: Rounding | None

    @property
    def alone(self) -> int:
        """How many cells were computed one by one so far."""

    def measure(
        self, batch: Sequence[int], advance: Advance = _nowhere
    ) -> Sequence[Sequence[Value]]:
        """JSON values [question of the batch][cell].

        Args:
            batch: one of ``batches``.
            advance: called with the questions finished since the last call, parts of them too.
        """


class LetterRun:
    """A :data:`LetterValue` for every cell."""

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
    def alone(self) -> int:
        return self._grid.alone


class OpenRun:
    """An :class:`OpenValue` for every cell."""

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


def start_run(
    test: Test,
    wrapper: LlamaWrapper,
    prompts: Sequence[Prompt],
    cells: Sequence[Steer | None],
    settings: Settings,
) -> Run:
    """Begin a run; ``None`` among the cells is the unsteered model."""
    if isinstance(test, OpenTest):
        return OpenRun(wrapper, cast(Sequence[OpenPrompt], prompts), cells, settings)
    return LetterRun(wrapper, cast(Sequence[LetterPrompt], prompts), cells, settings)


def is_broken(value: Value) -> bool:
    """Whether a cell's value is no result: the model's numbers were NaN."""
    return isinstance(value, list) and None in value


def is_value(test: Test, value: object) -> bool:
    """Whether a journal's value is one that a run of this test gives."""
    if isinstance(test, LetterTest):
        if not isinstance(value, list) or len(value) != len(LETTERS):
            return False
        return all(p is None or (type(p) is float and 0 <= p <= 1 + 1e-6) for p in value)
    if not isinstance(value, dict) or type(value.get("near_tie")) is not bool:
        return False
    tokens = value.get("tokens")
    return isinstance(tokens, list) and all(type(token) is int and token >= 0 for token in tokens)


def result_row(
    test: Test,
    item: ABItem | OpenItem,
    prompt: Prompt,
    value: Value,
    tokenizer: PreTrainedTokenizerBase,
    ends: Collection[int] = (),
) -> ResultRow:
    """One row of a result file; ``ends`` are the tokens at which answers end."""
    if isinstance(test, LetterTest):
        a_prob, b_prob = cast(list[float], value)
        return test.row(item.row, a_prob, b_prob)
    tokens = cast(OpenValue, value)["tokens"]
    # the end of a turn need not be a token that the tokenizer calls special
    own = [token for token in tokens if token not in ends]
    answer = str(tokenizer.decode(own, skip_special_tokens=True)).strip()
    raw = str(tokenizer.decode([*prompt.ids, *tokens], skip_special_tokens=False))
    return {"question": item.question, "model_output": answer, "raw_model_output": raw}
