"""The items of one data file as a check sees them: every fault is noted, none ends the reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from utils.data.items import ABFields, answer_letter, split_choices
from utils.data_checks.report import Finding, Severity, items_text
from utils.errors import UserError
from utils.files.contents import read_json


@dataclass(frozen=True)
class Item:
    """One item, whole or not.

    Attributes:
        number: its place in the file, from 1.
        question: the user's turn, or ``None`` if it has none.
        stem: the question without its choices, white space and case levelled.
        choices: letter and text of each choice, levelled; empty if they cannot be parsed.
        matching: letter of the matching (or correct) answer, or ``None``.
        other: letter of the other answer, or ``None``.
        frame: both answers without their letters.
    """

    number: int
    question: str | None = None
    stem: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    matching: str | None = None
    other: str | None = None
    frame: tuple[str, str] = ("", "")

    @property
    def key(self) -> tuple[object, ...]:
        """The same for two items that ask the same, in whatever order the choices come."""
        if self.choices:
            return (self.stem, frozenset(text for _, text in self.choices))
        return (_level(self.question or ""),)

    @property
    def answer(self) -> str | None:
        """What the matching answer says: the text of its choice, else its letter."""
        return dict(self.choices).get(self.matching or "", self.matching)


@dataclass(frozen=True)
class DataFile:
    """One file of a data folder.

    Attributes:
        behavior: the row of the report that it belongs to.
        name: path below the data folder.
        names: its fields; ``None`` for open-ended questions, which have ``question`` only.
        items: its items that are JSON objects.
        faults: what is wrong with its form or with the form of single items.
    """

    behavior: str
    name: str
    names: ABFields | None
    items: tuple[Item, ...]
    faults: tuple[Finding, ...] = ()

    def finding(self, severity: Severity, message: str, items: Iterable[int] = ()) -> Finding:
        """A finding about this file."""
        return Finding(severity, self.behavior, self.name, message, tuple(sorted(set(items))))


def read_data_file(path: Path, name: str, behavior: str, names: ABFields | None) -> DataFile:
    """Read one file; whatever is wrong with it becomes a finding."""
    file = DataFile(behavior, name, names, ())
    try:
        rows = read_json(path)
    except UserError as error:
        return _failed(file, str(error).removeprefix(f"{path} "))
    if not isinstance(rows, list):
        return _failed(file, "must hold a JSON list of objects")
    if not rows:
        return _failed(file, "is an empty list")
    faults: dict[str, list[int]] = {}
    for number, row in enumerate(rows, 1):
        for fault in _faults(row, names):
            faults.setdefault(fault, []).append(number)
    return replace(
        file,
        items=tuple(_item(n, r, names) for n, r in enumerate(rows, 1) if isinstance(r, dict)),
        faults=tuple(
            file.finding("error", f"{fault}: {items_text(numbers)}", numbers)
            for fault, numbers in faults.items()
        ),
    )


def _failed(file: DataFile, message: str) -> DataFile:
    return replace(file, faults=(file.finding("error", message),))


def _faults(row: Any, names: ABFields | None) -> Iterator[str]:
    if not isinstance(row, dict):
        yield "not a JSON object"
        return
    texts = ("question",) if names is None else (names.question, *names.extra)
    answers = () if names is None else (names.matching, names.other)
    for name in (*texts, *answers):
        if name not in row:
            yield f"missing field {name}"
        elif not isinstance(row[name], str):
            yield f"{name} is not a text"
        elif not row[name].strip():
            yield f"{name} is empty"
        elif not _encodable(row[name]):
            yield f"{name} holds half a character (a lone surrogate)"
        elif name in answers and answer_letter(row[name]) is None:
            yield f'{name} has no letter (it must begin with one in brackets, such as "(A)")'
    letters = [answer_letter(row.get(name)) for name in answers]
    if letters and letters[0] is not None and letters[0] == letters[1]:
        yield "both answers have the same letter"


def _item(number: int, row: dict[str, Any], names: ABFields | None) -> Item:
    question = row.get("question" if names is None else names.question)
    if not isinstance(question, str) or not question.strip() or not _encodable(question):
        question = None
    # An open-ended question has no choices, whatever its lines begin with.
    stem, choices = (question or "", ()) if names is None else split_choices(question or "")
    levelled = tuple((letter, _level(text)) for letter, text in choices)
    if names is None:
        return Item(number, question, _level(stem))
    answers = row.get(names.matching), row.get(names.other)
    matching, other = (answer_letter(answer) for answer in answers)
    frame = (_frame(answers[0], matching), _frame(answers[1], other))
    return Item(number, question, _level(stem), levelled, matching, other, frame)


def _frame(answer: Any, letter: str | None) -> str:
    return "" if letter is None else str(answer).replace(f"({letter})", "()", 1)


def _level(text: str) -> str:
    return " ".join(text.casefold().split())


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
