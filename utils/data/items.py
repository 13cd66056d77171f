"""Reading and checking contrast pairs and A/B test questions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from utils.errors import UserError
from utils.files.contents import read_contents, read_json
from utils.files.json_files import check_writable

T = TypeVar("T")
_CHOICE = re.compile(r"^[ \t]*\(([A-Z])\)", re.MULTILINE)
_MARKER = "choices:"
_LETTER = re.compile(r"\s*\(([A-Z])\)")


class Items(list[T]):
    """What was read from a file, and the SHA-256 of the very bytes that it was read from."""

    def __init__(self, items: Iterable[T], sha256: str) -> None:
        super().__init__(items)
        self.sha256 = sha256


@dataclass(frozen=True)
class ABFields:
    """The names of the fields that one kind of A/B file uses."""

    question: str = "question"
    matching: str = "answer_matching_behavior"
    other: str = "answer_not_matching_behavior"
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class ABItem:
    """One question with two answers that differ only in the letter.

    Attributes:
        question: the text of the user's turn, choices included.
        matching: letter of the answer that shows the behaviour (or is correct).
        other: letter of the answer that does not.
        row: the item's own fields as they go into a result row.
        names: what the fields of ``row`` are called.
    """

    question: str
    matching: str
    other: str
    row: Mapping[str, object]
    names: ABFields = ABFields()


@dataclass(frozen=True)
class OpenItem:
    """One question to be answered freely.

    Attributes:
        question: the text of the user's turn.
        row: the item's own fields as they go into a result row.
    """

    question: str
    row: Mapping[str, object]


def answer_letter(answer: object) -> str | None:
    """The letter of an answer such as ``"(A)"`` or ``" (B) Yes"``; ``None`` if it has none."""
    match = _LETTER.match(answer) if isinstance(answer, str) else None
    return match[1] if match else None


def with_letter(answer: str, letter: str) -> str:
    """An answer behind another letter; everything else in it stays."""
    match = _LETTER.match(answer)
    assert match is not None, answer
    return f"{answer[: match.start(1)]}{letter}{answer[match.end(1) :]}"


def load_rows(path: Path, *, made_by: str) -> Items[dict[str, Any]]:
    """Read a JSON list of objects.

    Raises:
        UserError: missing (the message says how to get it), not JSON, no list, or empty.
    """
    if not path.exists():
        raise UserError(f"missing data file {path}\n{made_by}")
    contents = read_contents(path)
    rows = read_json(contents)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} must hold a JSON list of objects")
    if not rows:
        raise UserError(f"{path} is empty: it must hold at least one item")
    return Items(rows, contents.sha256)


def load_ab_items(
    path: Path, *, made_by: str, names: ABFields = ABFields(), limit: int | None = None
) -> Items[ABItem]:
    """Read contrast pairs or A/B tests and check every item.

    Args:
        path: a JSON list of objects with the fields of ``names``.
        made_by: what to tell the user if the file is missing.
        limit: keep the first ``limit`` items only.

    Raises:
        UserError: naming the file, the item and the fault.
    """
    rows = load_rows(path, made_by=made_by)
    items = [
        _checked_item(row, names, where=f"{path}, item {number}")
        for number, row in enumerate(rows, 1)
    ]
    return Items(items[:limit], rows.sha256)


def _checked_item(row: dict[str, Any], names: ABFields, where: str) -> ABItem:
    wanted = (names.question, names.matching, names.other, *names.extra)
    missing = [name for name in wanted if name not in row]
    if missing:
        raise UserError(f"{where}: missing field {', '.join(missing)}")
    question = row[names.question]
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{where}: {names.question} must be a text that is not empty")
    kept = {name: row[name] for name in wanted}
    check_writable(kept, where)
    matching, other = answer_letter(row[names.matching]), answer_letter(row[names.other])
    for name, letter in ((names.matching, matching), (names.other, other)):
        if letter is None:
            raise UserError(
                f'{where}: {name} must begin with a letter in brackets such as "(A)", '
                f"it is {row[name]!r}"
            )
    if matching == other:
        raise UserError(f"{where}: both answers are ({matching})")
    assert matching is not None and other is not None
    return ABItem(question, matching, other, kept, names)


def load_open_items(path: Path, *, made_by: str, limit: int | None = None) -> Items[OpenItem]:
    """Read open-ended questions and check every one.

    Raises:
        UserError: naming the file, the item and the fault.
    """
    items, rows = [], load_rows(path, made_by=made_by)
    for number, row in enumerate(rows, 1):
        question = row.get("question")
        if not isinstance(question, str) or not question.strip():
            raise UserError(f"{path}, item {number}: question must be a text that is not empty")
        kept = {"question": question}
        check_writable(kept, f"{path}, item {number}")
        items.append(OpenItem(question, kept))
    return Items(items[:limit], rows.sha256)


def choice_spans(question: str) -> list[tuple[str, int, int]]:
    """Letter, start and end of the text of each choice, the white space around it included.

    A choice begins at the start of a line, as ``(A) text``, and may run over several lines. The
    choices begin at the last such ``(A)``; there must be at least two, each with a text and a
    letter of its own, else there are none.
    """
    starts = list(_CHOICE.finditer(question))
    first = max((i for i, m in enumerate(starts) if m[1] == "A"), default=len(starts))
    starts = starts[first:]
    ends = [*(m.start() for m in starts[1:]), len(question)]
    spans = [(m[1], m.end(), end) for m, end in zip(starts, ends, strict=False)]
    if len(spans) < 2 or len({letter for letter, _, _ in spans}) < len(spans):
        return []
    return spans if all(question[a:b].strip() for _, a, b in spans) else []


def split_choices(question: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The question before its choices, and letter and text of each, see :func:`choice_spans`.

    Where there are no choices the whole text is the question.
    """
    spans = choice_spans(question)
    if not spans:
        return question, ()
    stem = question[: question.rindex("(", 0, spans[0][1])].rstrip()
    if stem.casefold().endswith(_MARKER):
        stem = stem[: -len(_MARKER)].rstrip()
    return stem, tuple((letter, question[a:b].strip()) for letter, a, b in spans)
