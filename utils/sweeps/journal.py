"""The journal of a sweep: which questions are finished, and their values; a file for each rank.

A killed run goes on where it stood. One JSON line a batch of questions, each with a checksum;
the first line is a header. A line that was cut off by a kill is dropped and computed again; any
other damage is an error, because a journal is data that will end up in a result.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.file_system import append, sync, writing
from utils.files.json_files import NOT_JSON
from utils.files.locks import lock
from utils.files.names import Cell
from utils.files.paths import Paths
from utils.ranks import Ranks


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged {what}; delete it to start the sweep again")


def journal_line(value: Any) -> bytes:
    """A header or an entry as it stands in a journal.

    Raises:
        ValueError: JSON cannot hold it.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _decode(line: bytes) -> Any:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if f"{zlib.crc32(text):08x}".encode() != checksum:
        raise ValueError("checksum")
    return json.loads(text)


def _values(data: bytes, path: Path) -> tuple[list[Any], int]:
    """The whole lines of a journal, and how many bytes they are."""
    lines = data.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(_decode(line))
        except NOT_JSON as error:
            raise _damaged(path, f"at line {number}") from error
    return values, sum(map(len, lines))


def read_journal(path: Path) -> tuple[Any, list[Any]]:
    """Header and entries of a journal that nobody writes to; ``None`` and none if it is empty.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    values, _ = _values(data, path)
    return (values[0], values[1:]) if values else (None, [])


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
            raise _damaged(path, "at line 1: it is of another sweep")
        header = own if header is None else header
        # A part with another header was left behind by a run that had other cells to do.
        for number, entry in enumerate(entries if own == header else [], 2):
            if not schema.is_entry(entry, len(distinct_cells(map(tuple, header["cells"])))):
                raise _damaged(path, f"at line {number}: no results of this sweep")
            found |= dict(zip(entry["questions"], entry["values"], strict=True))
    return header, found


class Journal:
    """What is finished of one sweep, on all ranks; a context manager.

    Args:
        paths: where the files lie.
        behavior: whose sweep it is.
        key: hash of everything that the values depend on.
        cells: what is to be computed, if no unfinished run says otherwise.
        ranks: the processes that share the work.
        schema: what its files may hold.

    Attributes:
        path: this rank's file, locked inside the ``with`` block.
        cells: what the values stand for. A journal that a killed run left behind has cells of its
            own: more, if it was killed while it wrote its files; fewer, if one was lost since.
        finished: numbers of the questions that were finished before.

    Raises:
        UserError: a file is damaged; on entry, if another process is at the same sweep.
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
        self._paths, self._behavior, self._key, self._schema = paths, behavior, key, schema
        self.path = paths.journal(behavior, key, ranks.index)
        proposed = {"key": key, "cells": [list(cell) for cell in cells]}

        def begin() -> tuple[Any, list[int]]:
            header, found = self._read()
            return header or proposed, sorted(found)

        self._header, finished = ranks.from_main(begin)
        self.finished = frozenset(finished)
        self.cells: list[Cell] = [(int(n), float(m)) for n, m in self._header["cells"]]

    def _parts(self) -> list[Path]:
        return self._paths.all_journals(self._behavior, self._key)

    def _read(self) -> tuple[Any, dict[int, list[Any]]]:
        return _read(self._parts(), self._key, self._schema)

    def __enter__(self) -> Journal:
        self._file = lock(self.path, "at work on the same sweep")
        try:
            self._go_on()
        except BaseException:
            self._file.close()
            raise
        return self

    def _go_on(self) -> None:
        """Drop a line that was cut off, and a part that an older run left with other cells."""
        with writing(self.path):
            self._file.seek(0)
            values, length = _values(self._file.readall(), self.path)
            ours = values[:1] == [self._header]
            self._file.truncate(length if ours else 0)
        if not ours:
            self._write(self._header)

    def _write(self, value: Any) -> None:
        with writing(self.path):
            append(self._file, journal_line(value))
            sync(self._file.fileno())

    def append(self, questions: Sequence[int], values: Sequence[Any]) -> None:
        """Add a batch of finished questions; it is on disk when this returns.

        Raises:
            UserError: it cannot be written; those before it are kept.
        """
        self._write({"questions": list(questions), "values": list(values)})

    def collect(self, count: int) -> list[list[Any]]:
        """The values of all questions, of all ranks, in order; call on the main rank.

        Raises:
            UserError: some are missing: the ranks do not see one another's files.
        """
        _, found = self._read()
        missing = [number for number in range(count) if number not in found]
        if missing:
            raise UserError(
                f"{len(missing)} of {count} questions are missing in {self.path.parent}: "
                "all processes must write to the same --artifacts_dir, on a shared file system"
            )
        return [found[number] for number in range(count)]

    def remove(self) -> None:
        """Delete the files of all ranks: everything in them now stands in finished artefacts."""
        for path in reversed(self._parts()):
            path.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def run_journalled(
    cells: Sequence[Cell],
    ranks: Ranks,
    *,
    start: Callable[[list[Cell]], Journal],
    measure: Callable[[Journal], object],
    write: Callable[[Journal], tuple[list[Path], list[str]]],
) -> tuple[list[Path], list[str]]:
    """Compute and write cells, journal by journal: one that was begun holds only some of them.

    Args:
        cells: what is pending.
        ranks: the processes that share the work.
        start: opens the journal of the cells that are left, or the one that was begun.
        measure: journals this rank's share.
        write: writes a journal's cells, on the main rank.

    Returns:
        The files written, and a line for each cell that failed.
    """
    written: list[Path] = []
    failures: list[str] = []
    left = list(cells)
    while left:
        with start(left) as journal:
            measure(journal)
            ranks.wait()
            if ranks.is_main:
                made, failed = write(journal)
                journal.remove()
                written += made
                failures += failed
        left = [cell for cell in left if cell not in journal.cells]
    return written, failures
