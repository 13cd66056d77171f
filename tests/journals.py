"""Journals of a made-up sweep, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.files.paths import Paths
from utils.ranks import Ranks
from utils.sweeps.journal import Cell, Journal, Schema, journal_line, read_journal

KEY = "k" * 64
CELLS: Sequence[Cell] = ((1, 0.5),)
HEADER = {"key": KEY, "cells": [[1, 0.5]]}


def journal_in(root: Path, cells: Sequence[Cell] = CELLS) -> Journal:
    """The journal of a sweep of one cell and a thousand questions whose values may be anything."""
    known = [*CELLS, *cells]
    return Journal(
        Paths(root, root), "calm", KEY, cells, Ranks(), Schema(known, 1000, lambda _value: True)
    )


def journal_path(root: Path) -> Path:
    return Paths(root, root).journal("calm", KEY)


def values_in(path: Path) -> dict[int, Any]:
    """The value of each question of a journal of one cell."""
    _, entries = read_journal(path)
    return {q: row[0] for e in entries for q, row in zip(e["questions"], e["values"], strict=True)}


def write_journal(path: Path, header: Any, entries: Sequence[Any]) -> None:
    """A journal with right checksums, whatever it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(journal_line, [header, *entries])))
