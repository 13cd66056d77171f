"""The two stages of a choice, and the report on the test: the same measures, other questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from utils.data.evaluation import LetterTest
from utils.data.items import ABItem
from utils.files.names import Cell
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.stats import Estimate, matching_share, mean_of_scores
from utils.steering.one_pass import Steer
from utils.tuning.budgets import KNOWLEDGE, LOOPS, ROLLOUT
from utils.tuning.cells import Answered, Floats, Signed, TunedCell, measured, steer_of, worst
from utils.tuning.measuring import UNSTEERED, Bench
from utils.tuning.splits import Question
from utils.vectors.dose import SteeringVector


@dataclass(frozen=True)
class Knowledge:
    """Questions with a right answer, on which steering should change nothing."""

    test: LetterTest
    items: Sequence[ABItem]
    prompts: Sequence[LetterPrompt]


@dataclass(frozen=True)
class Ground:
    """On what cells are measured.

    Attributes:
        name: of the journals.
        questions: asked in both orders.
        prompts: of all questions in the published, then of all in the exchanged order.
        neutral: prompts whose next token is held against the unsteered model's.
        answered: prompts that are answered.
        knowledge: see :class:`Knowledge`.
    """

    name: str
    questions: Sequence[Question]
    prompts: Sequence[LetterPrompt]
    neutral: Sequence[OpenPrompt]
    answered: Sequence[OpenPrompt]
    knowledge: Knowledge


@dataclass(frozen=True)
class Work:
    """What is steered, and how it is compared.

    Attributes:
        bench: measures.
        vectors: of each layer.
        signed: which signs of a strength are steered.
        unit: of strengths.
    """

    bench: Bench
    vectors: Mapping[int, SteeringVector]
    signed: Signed
    unit: str

    def steer(self, cell: Cell) -> Steer:
        return steer_of(self.vectors, cell, self.unit)


def first_stage(
    work: Work, ground: Ground, grid: Sequence[Cell]
) -> tuple[list[TunedCell], Answered]:
    """Effect, letters and divergence of the next token, of every cell."""
    cells = work.signed.cells(grid)
    found = work.bench.letters(f"{ground.name} questions", ground.prompts, cells, work.steer)
    count = len(ground.questions)
    probabilities: Floats = np.stack([found[:count], found[count:]], axis=1)
    answered = Answered(ground.questions, probabilities, cells)
    kl = work.bench.next_kl(f"{ground.name} neutral prompts", ground.neutral, cells, work.steer)
    tuned = [
        measured(answered, kl, work.vectors[cell[0]], cell, work.signed, work.unit) for cell in grid
    ]
    return tuned, answered


def second_stage(work: Work, ground: Ground, tuned: Sequence[TunedCell]) -> list[TunedCell]:
    """Add divergence along answers, loops and knowledge to some cells."""
    if not tuned:
        return []
    bench, knowledge = work.bench, ground.knowledge
    cells = work.signed.cells([t.cell for t in tuned])
    answers = bench.rollouts(f"{ground.name} answers", ground.answered, cells, work.steer)
    found = bench.letters(f"{ground.name} knowledge", knowledge.prompts, cells, work.steer)
    knows = {cell: _share_right(knowledge, found[:, i]) for i, cell in enumerate(cells)}
    closer = []
    for cell in tuned:
        places = [(cell.layer, sign * cell.strength) for sign in work.signed.signs]
        distinct = [answers[p].distinct / answers[UNSTEERED].distinct for p in places]
        damages = {
            ROLLOUT: worst([answers[p].p95 for p in places]),
            KNOWLEDGE: worst([knows[UNSTEERED] - knows[p] for p in places]),
            LOOPS: worst(distinct, least=True),
        }
        closer.append(replace(cell, damages={**cell.damages, **damages}))
    return closer


def _share_right(knowledge: Knowledge, probabilities: Floats) -> float:
    """Mean over questions of P(correct) / (P(A) + P(B)); probabilities (questions, 2)."""
    pairs = zip(probabilities.tolist(), knowledge.items, strict=True)
    return float(np.mean([matching_share(a, b, item.matching) for (a, b), item in pairs]))


@dataclass(frozen=True)
class Level:
    """Content logit difference and score at one strength, not a change of them."""

    strength: float
    content: Estimate
    score: Estimate


def levels(answered: Answered, cell: TunedCell, signed: Signed) -> list[Level]:
    """What the questions give at -m, 0 and +m, as far as they are steered."""
    found = []
    for sign in sorted({0, *signed.signs}):
        place = (cell.layer, sign * cell.strength) if sign else UNSTEERED
        content, scores = answered.content(place), answered.scores(place)
        found.append(
            Level(
                sign * cell.strength + 0.0,
                mean_of_scores(content, None),
                mean_of_scores(scores, (0.0, 1.0)),
            )
        )
    return found
