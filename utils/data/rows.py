"""Rows of result files: as this toolkit writes them, and as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict


class ABRow(TypedDict):
    """A question of a behaviour's A/B test, and the probabilities of its two letters."""

    question: str
    answer_matching_behavior: str
    answer_not_matching_behavior: str
    a_prob: float
    b_prob: float


class KnowledgeRow(TypedDict):
    """A question of TruthfulQA or MMLU, and the probabilities of its two letters."""

    question: str
    correct: str
    incorrect: str
    a_prob: float
    b_prob: float
    category: str


class OpenRow(TypedDict):
    """A question and a free answer, without special tokens and with the prompt and all of them."""

    question: str
    model_output: str
    raw_model_output: str


class Judged(TypedDict):
    """What the judge adds to a row: a score from 0 to 10, or ``None`` where there is none."""

    score: float | None
    judge_reply: str | None
    judge_turned_down: NotRequired[str]


class ScoredRow(OpenRow, Judged):
    """A free answer and what the judge said of it."""


LetterRow = ABRow | KnowledgeRow
ResultRow = LetterRow | OpenRow
Row = Mapping[str, object]
"""A row that was read: anything may be in it, until a test has scored it."""
