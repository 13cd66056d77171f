"""What a check of a data folder found: findings, one row of numbers a behaviour, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from utils.text.terminal_tables import plain_table

Severity = Literal["error", "warning"]
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One fault of one file.

    Attributes:
        behavior: the row of the table that it belongs to.
        file: path below the data folder.
        message: what was found, with the first few items.
        items: all items concerned, counted from 1.
    """

    severity: Severity
    behavior: str
    file: str
    message: str
    items: tuple[int, ...] = ()


@dataclass(frozen=True)
class Lengths:
    """Words of the matching choice against those of the other one.

    Attributes:
        matching: mean words of the choice that matches the behaviour.
        other: mean words of the other one.
        longer: number of items whose matching choice has more words.
        shorter: number of items whose matching choice has fewer words.
        p_value: two-sided sign test of longer against shorter.
    """

    matching: float
    other: float
    longer: int
    shorter: int
    p_value: float


@dataclass(frozen=True)
class Split:
    """One file of A/B items in numbers (0 items: the file could not be used)."""

    items: int = 0
    a_share: float | None = None
    beyond: int = 0
    lengths: Lengths | None = None


@dataclass(frozen=True)
class Row:
    """One behaviour; a split is ``None`` where the file does not exist.

    Attributes:
        letters: the letters that occur in answers; ``X!`` where the tokenizer does not keep X.
        repeats: items that repeat an earlier one of their file.
        leaks: items of the tests that stand in the contrast pairs too.
        near: pairs of near-duplicates, within and across files.
    """

    behavior: str
    generate: Split | None
    test: Split | None
    open_ended: int | None
    letters: str
    repeats: int
    leaks: int
    near: int


@dataclass(frozen=True)
class Report:
    """All rows and findings of one data folder."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    def lines(self) -> list[str]:
        """The findings, errors first, those of one behaviour together."""
        order = [row.behavior for row in self.rows]
        found = sorted(
            self.findings, key=lambda f: (f.severity != "error", order.index(f.behavior), f.file)
        )
        return [f"{f.severity}: {f.file}: {f.message}" for f in found]

    def table(self) -> str:
        """One line a behaviour, columns aligned.

        A pair such as ``50 / 51`` is generate / test. Words are those of the contrast pairs, or
        of the test where there are none: matching against other choice, how often the matching
        one is longer and shorter, and the sign test's p.
        """
        header = [*(title for title, _ in _COLUMNS), "errors", "warnings"]
        rows = [
            [cell(row) for _, cell in _COLUMNS]
            + [self._count(row, found) for found in (self.errors, self.warnings)]
            for row in self.rows
        ]
        return plain_table(header, rows)

    def _count(self, row: Row, findings: Sequence[Finding]) -> str:
        return str(sum(finding.behavior == row.behavior for finding in findings))


def some(parts: Sequence[object]) -> str:
    """The first few, and how many more there are."""
    shown = ", ".join(map(str, parts[:SHOWN]))
    more = len(parts) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def items_text(numbers: Sequence[int]) -> str:
    """``item 3`` or ``items 3, 4, 5, 6, 7 and 12 more``."""
    return f"item{'s' if len(numbers) != 1 else ''} {some(numbers)}"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _both(row: Row, show: Callable[[Split], str]) -> str:
    return " / ".join("-" if s is None else show(s) for s in (row.generate, row.test))


def _share(split: Split) -> str:
    return "-" if split.a_share is None else f"{100 * split.a_share:.1f}"


def _lengths(row: Row, show: Callable[[Lengths], str]) -> str:
    split = row.generate or row.test
    return "-" if split is None or split.lengths is None else show(split.lengths)


_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("behavior", lambda r: r.behavior),
    ("generate", lambda r: _or_dash(r.generate and r.generate.items)),
    ("test", lambda r: _or_dash(r.test and r.test.items)),
    ("open", lambda r: _or_dash(r.open_ended)),
    ("A %", lambda r: _both(r, _share)),
    ("beyond A/B", lambda r: _both(r, lambda s: str(s.beyond))),
    ("letters", lambda r: r.letters or "-"),
    ("repeats", lambda r: str(r.repeats)),
    ("leaks", lambda r: str(r.leaks)),
    ("near", lambda r: str(r.near)),
    ("words", lambda r: _lengths(r, lambda n: f"{n.matching:.1f} / {n.other:.1f}")),
    ("longer/shorter", lambda r: _lengths(r, lambda n: f"{n.longer} / {n.shorter}")),
    ("p", lambda r: _lengths(r, lambda n: f"{n.p_value:.2g}")),
)
