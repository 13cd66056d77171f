"""The numbers of a figure as text: a tab-separated ``.txt`` and a ``.tex`` table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from utils.stats import Estimate
from utils.text.numbers import formatted, six_digits

_IN_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\N{MINUS SIGN}": "$-$",
    }
    | {character: rf"\{character}" for character in "{}$&#%_"}
)
_BREAKS = "\x7f\x85\u2028\u2029"
COLUMNS = ("mean", "low95", "high95", "n")


def tab_separated(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Lines of fields below a header; a field is one line without tabs."""
    lines = ("\t".join(map(one_line, fields)) + "\n" for fields in [header, *rows])
    return "".join(lines).encode()


def text_table(header: Sequence[str], rows: Sequence[tuple[Sequence[str], Estimate]]) -> bytes:
    """Tab-separated lines: the keys of a point, its mean, interval and number of questions.

    Too few questions have no interval: dashes. Where any point lacks scores, a last column says
    how many.
    """
    lacking = any(e.missing for _, e in rows)
    lines = []
    for keys, e in rows:
        lines.append([*keys, *estimate_cells(e), *([str(e.missing)] if lacking else [])])
    return tab_separated([*header, *COLUMNS, *(["missing"] if lacking else [])], lines)


def estimate_cells(e: Estimate) -> list[str]:
    """A point under ``COLUMNS``."""
    interval = [six_digits(e.low), six_digits(e.high)] if e.has_interval else ["-", "-"]
    return [six_digits(e.mean), *interval, str(e.n)]


def one_line(text: str) -> str:
    """A text as a field of a table: tabs, line breaks and control characters as codes."""
    return "".join(c if ord(c) >= 0x20 and c not in _BREAKS else repr(c)[1:-1] for c in text)


def tex_text(text: str) -> str:
    """A text of the user's as LaTeX sets it, character for character."""
    return one_line(text).translate(_IN_TEX)


def tabular(columns: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A LaTeX tabular; all cells are LaTeX.

    Args:
        columns: how each is set, such as ``lcc``.
        header, rows: the cells.
    """
    above, *below = (" & ".join(cells) + r" \\" for cells in [header, *rows])
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    lines = [begin, r"\toprule", above, r"\midrule", *below, r"\bottomrule", end]
    return ("\n".join(lines) + "\n").encode()


def tex_table(
    corner: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Estimate | None]]]
) -> bytes:
    """A LaTeX tabular with one cell a point: mean and, small, its interval.

    Args:
        corner: head of the first column, a text.
        columns: heads of the others, LaTeX.
        rows: each with its label, a text, and its points.
    """
    cells = ([tex_text(label), *map(_tex_cell, points)] for label, points in rows)
    return tabular("l" + "c" * len(columns), [tex_text(corner), *columns], cells)


def _tex_cell(e: Estimate | None) -> str:
    return "--" if e is None else formatted(e.mean, ".3f") + tex_interval(e)


def tex_interval(e: Estimate) -> str:
    """What stands behind a mean, small: its interval, if it has one."""
    low, high = (formatted(value, ".3f") for value in (e.low, e.high))
    return rf" {{\scriptsize [{low}, {high}]}}" if e.has_interval else ""
