"""Both orders of a question's choices: what a letter does to an answer, told from what it says.

A question is asked a second time with the texts of its two choices exchanged, and the letters of
its answers with them. Letters, white space and everything outside the two texts stay as they are,
so that exchanging twice gives the question back byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from utils.data.items import ABItem, Items, choice_spans, with_letter
from utils.data.rows import Row
from utils.text.listing import shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
LETTERS = ("A", "B")
ORDER = "order"
"""The field of a row that says in which order its question was asked."""
PUBLISHED, EXCHANGED = ORDERS = ("published", "exchanged")
# Texts that mean something else, or nothing, at the other letter.
_NAMES_A_PLACE = re.compile(
    r"\([A-Z]\)"
    r"|\b(?:options?|answers?|choices?) [A-Z]\b"
    r"|\b[A-Z] (?:and|or|nor) [A-Z]\b"
    r"|\b(?i:the former|the latter)\b"
    r"|\b(?i:(?:all|none|both|neither|either|any|each|one)(?: of)? the (?:above|below))\b"
    r"|\b(?i:(?:all|none|both|neither|either|any|each)(?: of)?(?: the| these| those)?"
    r" (?:answers|options|choices))\b"
    r"|\b(?i:(?:first|second|last|other|previous|preceding|next|following|above)"
    r" (?:answer|option|choice))\b"
    r"|\b(?i:(?:answer|option|choice) (?:above|below|before|after))\b"
)
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True)
class Kept:
    """A question that is asked in its published order only.

    Attributes:
        number: which one, counted from 1.
        reason: why, for people.
    """

    number: int
    reason: str


def why_kept(item: ABItem) -> str | None:
    """Why the choices of a question cannot be exchanged; ``None`` if they can."""
    spans = choice_spans(item.question)
    if not spans:
        return "its choices are not lines that begin with (A) and (B)"
    if len(spans) > 2:
        return f"it has {len(spans)} choices"
    if not {item.matching, item.other} <= set(LETTERS) or [s[0] for s in spans] != [*LETTERS]:
        return "its answers are not A and B"
    texts = [item.question[slice(*_text(item.question, span))] for span in spans]
    if texts[0] == texts[1]:
        return "both choices say the same"
    if any(_NAMES_A_PLACE.search(text) for text in texts):
        return "a choice names a letter or a place"
    return None


def exchanged(item: ABItem) -> ABItem:
    """A question with the texts of its choices exchanged, and the letters of its answers.

    The fields of its row say the same.

    Raises:
        ValueError: it has to be kept, see :func:`why_kept`.
    """
    reason = why_kept(item)
    if reason is not None:
        raise ValueError(reason)
    question = item.question
    (a, b), (c, d) = (_text(question, span) for span in choice_spans(question))
    turned = question[:a] + question[c:d] + question[b:c] + question[a:b] + question[d:]
    letters = {item.names.matching: item.other, item.names.other: item.matching}
    row = dict(item.row)
    row |= {name: with_letter(str(row[name]), x) for name, x in letters.items() if name in row}
    row |= {item.names.question: turned} if item.names.question in row else {}
    return replace(item, question=turned, matching=item.other, other=item.matching, row=row)


def both_orders(items: Sequence[ABItem]) -> tuple[list[ABItem | None], list[Kept]]:
    """Every question in the other order, ``None`` where it is kept; and which are, and why."""
    reasons = [why_kept(item) for item in items]
    kept = [Kept(n, reason) for n, reason in enumerate(reasons, 1) if reason is not None]
    pairs = zip(items, reasons, strict=True)
    return [exchanged(item) if reason is None else None for item, reason in pairs], kept


@dataclass(frozen=True)
class Asked(Generic[T]):
    """The questions of a file as they are put to a model.

    Attributes:
        items: one for each prompt; in both orders an exchanged question directly follows its
            published form.
        numbers: which question of the file each is, counted from 1; ``None``: one after another.
        kept: those asked in their published order only, of both orders.
        inputs: what the record of a result is to say of the orders.
    """

    items: Items[T]
    numbers: Sequence[int] | None = None
    kept: Sequence[Kept] = ()
    inputs: dict[str, Any] = field(default_factory=dict)

    def told(self, what: str) -> str:
        """How many were kept and why, for people; empty for questions asked once.

        Args:
            what: the plural of what is asked.
        """
        if self.numbers is None:
            return ""
        count = len(set(self.numbers))
        if not self.kept:
            return f"all {count} {what} in both orders"
        reasons = shortened((f"item {k.number}: {k.reason}" for k in self.kept), "; ")
        return f"{len(self.kept)} of {count} {what} in the published order only ({reasons})"


def ask_in_both_orders(items: Items[ABItem]) -> Asked[ABItem]:
    """Every question, directly followed by its exchanged form where it has one."""
    turned, kept = both_orders(items)
    found, numbers = [], []
    for number, forms in enumerate(zip(items, turned, strict=True), 1):
        for form, order in zip(forms, ORDERS, strict=True):
            if form is not None:
                found.append(replace(form, row=dict(form.row) | {ORDER: order}))
                numbers.append(number)
    inputs = {"both_orders": {"kept": [k.number for k in kept]}}
    return Asked(Items(found, items.sha256), numbers, kept, inputs)


def is_exchanged(row: Row) -> bool:
    """Whether a row is of the exchanged order; a row that does not say is of the published one."""
    return row.get(ORDER) == EXCHANGED


def question_count(rows: Sequence[Row]) -> int:
    """How many questions some rows are of."""
    return sum(not is_exchanged(row) for row in rows)


def question_means(values: NDArray[np.float64], rows: Sequence[Row]) -> NDArray[np.float64]:
    """The mean of each question over the orders that it was asked in, shape (questions,).

    Args:
        values: one for each row.
        rows: an exchanged one directly follows the published one of its question.

    Raises:
        ValueError: a row of an order that is none, or exchanged without its published form.
    """
    # --help does without it
    import numpy as np

    second = np.array([is_exchanged(row) for row in rows], dtype=bool)
    alone = second & np.concatenate([[True], second[:-1]])
    for number, row in enumerate(rows, 1):
        if row.get(ORDER, PUBLISHED) not in ORDERS or alone[number - 1]:
            raise ValueError(f"row {number}: no question stands before it in the published order")
    if not second.any():
        return values
    question = np.cumsum(~second) - 1
    return np.bincount(question, weights=values) / np.bincount(question)


def _text(question: str, span: tuple[str, int, int]) -> tuple[int, int]:
    """Where a choice's own text lies: no white space around it, nothing after a blank line."""
    _, start, end = span
    whole = question[start:end]
    start += len(whole) - len(whole.lstrip())
    blank = _BLANK_LINE.search(question, start, end)
    text = question[start : blank.start() if blank else end]
    return start, start + len(text.rstrip())
