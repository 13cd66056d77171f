"""Tables for the terminal: plain text, 80 columns where the cells leave room."""

from __future__ import annotations

import io
from collections.abc import Sequence

WIDTH = 80


def plain_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1, title: str = ""
) -> str:
    """Columns side by side; a cell that is too wide for 80 columns is broken, none is cut.

    Args:
        header: of the columns.
        rows: the cells, as many in each row as there are columns.
        texts: so many columns at the left are texts; the others are numbers, flush right.
        title: stands above.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left")
    table.show_edge = False
    table.padding = (0, 1, 0, 0)
    for number, name in enumerate(header):
        right = number >= texts
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows:
        # Text: a behaviour's id may hold what rich would take for markup
        table.add_row(*map(Text, row))
    file = io.StringIO()
    Console(file=file, width=WIDTH, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().strip("\n").splitlines())
