"""The journals of one sweep, one a rank: which questions are finished, and their values."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.journal import Journal, read_journal
from utils.paths import Paths
from utils.ranks import Ranks

Cell = tuple[int, float]


def _read(parts: Iterable[Path]) -> tuple[Any, dict[int, list[Any]]]:
    """The header that all parts share, and the values of every finished question."""
    header: Any = None
    found: dict[int, list[Any]] = {}
    for path in parts:
        own, entries = read_journal(path)
        header = own if header is None else header
        # A part with another header was left behind by a run that had other cells to do.
        for entry in entries if own == header else []:
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

    Attributes:
        cells: what the values stand for. A journal that a killed run left behind has cells of its
            own: more, if it was killed while it wrote its files; fewer, if one was lost since.
        finished: numbers of the questions that were finished before.

    Raises:
        UserError: on entry, if another process is at the same sweep or a file is damaged.
    """

    def __init__(
        self, paths: Paths, behavior: str, key: str, cells: Sequence[Cell], ranks: Ranks
    ) -> None:
        self.paths, self.behavior, self.key, self.ranks = paths, behavior, key, ranks
        proposed = {"key": key, "cells": [list(cell) for cell in cells]}

        def begin() -> tuple[Any, list[int]]:
            header, found = _read(self._parts())
            return header or proposed, sorted(found)

        self._header, finished = ranks.from_main(begin)
        self.finished = frozenset(finished)
        self.cells: list[Cell] = [(int(n), float(m)) for n, m in self._header["cells"]]
        self._own = Journal(paths.journal(behavior, key, ranks.index), self._header)

    def _parts(self) -> list[Path]:
        return self.paths.all_journals(self.behavior, self.key)

    def __enter__(self) -> "SweepJournal":
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
        _, found = _read(self._parts())
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
