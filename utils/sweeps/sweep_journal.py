"""The journals of one sweep, one a rank: which questions are finished, and their values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.paths import Cell, Paths
from utils.ranks import Ranks
from utils.sweeps.journal import Journal, damaged, read_journal


@dataclass(frozen=True)
class Schema:
    """What the journals of a sweep may hold.

    Attributes:
        cells: all cells of the sweep.
        questions: how many there are.
        is_value: whether something is the value of one question and cell.
    """

    cells: Collection[Cell]
    questions: int
    is_value: Callable[[Any], bool]

    def is_header(self, header: Any, key: str) -> bool:
        if not isinstance(header, dict) or header.get("key") != key:
            return False
        found = header.get("cells")
        return isinstance(found, list) and all(
            isinstance(cell, list) and tuple(cell) in self.cells for cell in found
        )

    def is_entry(self, entry: Any, columns: int) -> bool:
        """Whether it is a batch of questions, each with so many values."""
        if not isinstance(entry, dict):
            return False
        numbers, values = entry.get("questions"), entry.get("values")
        if not isinstance(numbers, list) or not isinstance(values, list):
            return False
        return len(numbers) == len(values) and all(
            type(number) is int
            and 0 <= number < self.questions
            and isinstance(row, list)
            and len(row) == columns
            and all(map(self.is_value, row))
            for number, row in zip(numbers, values, strict=True)
        )


def distinct_cells(cells: Iterable[Cell]) -> list[Cell | None]:
    """What is computed for some cells: each one, and once what is not steered (``None``)."""
    return list(dict.fromkeys(cell if cell[1] else None for cell in cells))


def _read(parts: Iterable[Path], key: str, schema: Schema) -> tuple[Any, dict[int, list[Any]]]:
    """The header that all parts share, and the values of every finished question.

    Raises:
        UserError: a part is damaged, or whole and yet holds what no sweep wrote.
    """
    header: Any = None
    found: dict[int, list[Any]] = {}
    for path in parts:
        own, entries = read_journal(path)
        if own is not None and not schema.is_header(own, key):
            raise damaged(path, "at line 1: it is of another sweep")
        header = own if header is None else header
        # A part with another header was left behind by a run that had other cells to do.
        for number, entry in enumerate(entries if own == header else [], 2):
            if not schema.is_entry(entry, len(distinct_cells(map(tuple, header["cells"])))):
                raise damaged(path, f"at line {number}: no results of this sweep")
            found |= dict(zip(entry["questions"], entry["values"], strict=True))
    return header, found


class SweepJournal:
    """What is finished of one sweep, on all ranks; a context manager.

    Args:
        paths: where the files lie.
        behavior: whose sweep it is.
        key: hash of everything that the values depend on.
        cells: what is to be computed, if no unfinished run says otherwise.
        ranks: the processes that share the work.
        schema: what its files may hold.

    Attributes:
        cells: what the values stand for. A journal that a killed run left behind has cells of its
            own: more, if it was killed while it wrote its files; fewer, if one was lost since.
        finished: numbers of the questions that were finished before.

    Raises:
        UserError: on entry, if another process is at the same sweep or a file is damaged.
    """

    def __init__(
        self,
        paths: Paths,
        behavior: str,
        key: str,
        cells: Sequence[Cell],
        ranks: Ranks,
        schema: Schema,
    ) -> None:
        self.paths, self.behavior, self.key, self.ranks = paths, behavior, key, ranks
        self.schema = schema
        proposed = {"key": key, "cells": [list(cell) for cell in cells]}

        def begin() -> tuple[Any, list[int]]:
            header, found = _read(self._parts(), key, schema)
            return header or proposed, sorted(found)

        self._header, finished = ranks.from_main(begin)
        self.finished = frozenset(finished)
        self.cells: list[Cell] = [(int(n), float(m)) for n, m in self._header["cells"]]
        self._own = Journal(paths.journal(behavior, key, ranks.index), self._header)

    def _parts(self) -> list[Path]:
        return self.paths.all_journals(self.behavior, self.key)

    def __enter__(self) -> SweepJournal:
        self._own.__enter__()
        if self._own.header != self._header:
            self._own.restart(self._header)
        return self

    def append(self, questions: Sequence[int], values: Sequence[Any]) -> None:
        """Add a batch of finished questions; it is on disk when this returns."""
        self._own.append({"questions": list(questions), "values": list(values)})

    def collect(self, count: int) -> list[list[Any]]:
        """The values of all questions, of all ranks, in order; call on the main rank.

        Raises:
            UserError: some are missing: the ranks do not see one another's files.
        """
        _, found = _read(self._parts(), self.key, self.schema)
        missing = [number for number in range(count) if number not in found]
        if missing:
            raise UserError(
                f"{len(missing)} of {count} questions are missing in {self._own.path.parent}: "
                "all processes must write to the same --artifacts_dir, on a shared file system"
            )
        return [found[number] for number in range(count)]

    def remove(self) -> None:
        """Delete the files of all ranks: everything in them now stands in finished artefacts."""
        for path in reversed(self._parts()):
            path.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._own.__exit__(None, None, None)
