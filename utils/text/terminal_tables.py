"""Tables for the terminal: plain text, 80 columns where the cells leave room."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Mapping, Sequence

WIDTH = 80
GAP = 2
NARROW, WIDE = 24, 44
# Texts may be broken into pieces of this length, where that brings a table down to its width.
SHORTEST = 12


def plain_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    align: str = "",
    title: str = "",
    widths: Sequence[int] | None = None,
) -> str:
    """Columns side by side; nothing is cut, and no number is broken.

    Args:
        header: of the columns.
        rows: the cells, as many in each row as there are columns.
        align: a letter for each column: ``l`` for texts, ``r`` for numbers, flush right. By
            default the first column holds texts.
        title: stands above.
        widths: of the columns; by default as wide as their cells, or where that is wider than 80
            columns and it helps, with headings and texts broken.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    align = align or "l".ljust(len(header), "r")
    if widths is None:
        widths = _widths([*zip(header, *rows, strict=True)], align)
    table = Table(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left")
    table.show_edge = table.pad_edge = False
    table.padding = (0, 1, 0, 0)
    for name, side, width in zip(header, align, widths, strict=True):
        table.add_column(
            Text(name), justify="right" if side == "r" else "left", overflow="fold", width=width
        )
    for row in rows:
        # Text: a behaviour's id or an answer may hold what rich would take for markup
        table.add_row(*(Text(_at_hyphens(c, w)) for c, w in zip(row, widths, strict=True)))
    file = io.StringIO()
    whole = sum(widths) + GAP * (len(widths) - 1)
    Console(file=file, width=whole, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().strip("\n").splitlines())


def _at_hyphens(text: str, width: int) -> str:
    """A name of one word, broken behind its hyphens where its column is narrower than it is."""
    if len(text) <= width or " " in text.strip():
        return text
    lines = [""]
    for part in re.split("(?<=-)", text):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def side_by_side(question: str, answers: Mapping[str, str]) -> str:
    """One question and its answers, a column each, as wide as the terminal has room for.

    Args:
        question: stands above them.
        answers: title of the column -> answer.
    """
    if not answers:
        return question
    room = shutil.get_terminal_size((100, 24)).columns // max(1, len(answers)) - GAP
    widths = [min(WIDE, max(NARROW, room))] * len(answers)
    cells = [*answers.values()]
    return plain_table([*answers], [cells], align="l" * len(cells), title=question, widths=widths)


def _widths(columns: Sequence[Sequence[str]], align: str) -> list[int]:
    """Widths of the columns, each its heading and cells.

    Those of the whole cells, if they fit or cannot be made to; else the widest give most.
    """
    from rich.cells import cell_len

    widths, least = [], []
    for (heading, *cells), side in zip(columns, align, strict=True):
        longest = max(map(cell_len, cells), default=0)
        word = max(map(cell_len, heading.split()), default=0)
        widths.append(max(longest, cell_len(heading)))
        least.append(max(word, min(longest, SHORTEST) if side == "l" else longest))
    room = WIDTH - GAP * (len(columns) - 1)
    while sum(least) <= room < sum(widths):
        slack = [width - some for width, some in zip(widths, least, strict=True)]
        widths[slack.index(max(slack))] -= 1
    return widths
