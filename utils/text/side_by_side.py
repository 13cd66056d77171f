"""Open-ended answers under different strengths beside one another, for the terminal."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping

NARROW, WIDE = 24, 44


def side_by_side(question: str, answers: Mapping[str, str]) -> str:
    """One question and its answers, a column each, as plain text.

    Args:
        question: stands above them.
        answers: title of the column -> answer.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    room = shutil.get_terminal_size((100, 24)).columns // max(1, len(answers)) - 2
    column = min(WIDE, max(NARROW, room))
    table = Table(box=box.SIMPLE_HEAD, title=Text(question), title_justify="left", pad_edge=False)
    for title in answers:
        table.add_column(title, width=column, overflow="fold")
    # Text: an answer may hold what rich would take for markup
    table.add_row(*(Text(answer) for answer in answers.values()))
    file = io.StringIO()
    width = (column + 2) * len(answers) + 2
    Console(file=file, width=max(40, width), color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().strip().splitlines())
