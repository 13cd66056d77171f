"""Both orders of a question's choices: what a letter does to an answer, told from what it says.

A question is asked a second time with the texts of its two choices exchanged, and the letters of
its answers with them. Letters, white space and everything outside the two texts stay as they are,
so that exchanging twice gives the question back byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from utils.data.items import ABItem, choice_spans

LETTERS = ("A", "B")
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

    Raises:
        ValueError: it has to be kept, see :func:`why_kept`.
    """
    reason = why_kept(item)
    if reason is not None:
        raise ValueError(reason)
    question = item.question
    (a, b), (c, d) = (_text(question, span) for span in choice_spans(question))
    turned = question[:a] + question[c:d] + question[b:c] + question[a:b] + question[d:]
    return replace(item, question=turned, matching=item.other, other=item.matching)


def both_orders(items: Sequence[ABItem]) -> tuple[list[ABItem | None], list[Kept]]:
    """Every question in the other order, ``None`` where it is kept; and which are, and why."""
    reasons = [why_kept(item) for item in items]
    kept = [Kept(n, reason) for n, reason in enumerate(reasons, 1) if reason is not None]
    pairs = zip(items, reasons, strict=True)
    return [exchanged(item) if reason is None else None for item, reason in pairs], kept


def _text(question: str, span: tuple[str, int, int]) -> tuple[int, int]:
    """Where a choice's own text lies: no white space around it, nothing after a blank line."""
    _, start, end = span
    whole = question[start:end]
    start += len(whole) - len(whole.lstrip())
    blank = _BLANK_LINE.search(question, start, end)
    text = question[start : blank.start() if blank else end]
    return start, start + len(text.rstrip())
