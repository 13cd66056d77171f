"""All open-ended answers of one behaviour and layer on one page, every strength under its question.

The page is Markdown, the answers are not: each stands in a fence that it cannot leave, so that
whatever a model writes is shown as text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.data.evaluation import read_results
from utils.figures.album import Album, Job
from utils.files.names import MULTIPLIER, Cell, Variant
from utils.files.paths import Paths
from utils.scores.cells import Selection, cells_of
from utils.scores.loops import marked
from utils.scores.summary import ends_properly
from utils.text.number_tables import one_line
from utils.text.numbers import signed

WIDTH = 88


def page(title: str, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """A page of answers.

    Args:
        title: text of the page's head.
        rows: what an answer was given under -> the rows of its results, of the same questions.
    """
    parts = ["# Answers", fenced(title)]
    first = next(iter(rows.values()))
    for number, row in enumerate(first):
        parts += [f"## Question {number + 1}", fenced(str(row["question"]))]
        for strength, found in rows.items():
            answer = str(found[number]["model_output"])
            notes = [f"{len(answer.split())} words"]
            if not ends_properly(found[number]):
                notes.append("no end within the limit")
            parts += [f"**{strength}** ({', '.join(notes)})", fenced(marked(answer, whole=True))]
    return ("\n\n".join(parts) + "\n").encode()


def fenced(text: str) -> str:
    """Text in a Markdown fence that is longer than any in it, wrapped to a page's width."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        plain = one_line(line.expandtabs(4))
        lines += textwrap.wrap(plain, WIDTH, break_on_hyphens=False, drop_whitespace=False) or [""]
    runs = re.findall("`+", text)
    fence = "`" * max(3, 1 + max(map(len, runs), default=0))
    return "\n".join([f"{fence}text", *(line.rstrip() for line in lines), fence])


def write_pages(
    behavior: str,
    variant: Variant,
    cells: Sequence[Cell],
    questions: Sequence[str],
    album: Album[Paths],
) -> None:
    """Write the page of each layer, with all strengths that there are results of.

    Args:
        behavior, variant: whose results.
        cells: those that were asked for: their layers have pages.
        questions: results of others than these are left out.
        album: what writes it, where there is anything new.

    Raises:
        UserError: a damaged result, or a page in place that shows results which are gone.
    """
    found = cells_of(variant, album.paths.results_of(behavior))
    jobs = []
    for layer in sorted({layer for layer, _ in cells}):
        rows = {}
        for cell in sorted(cell for cell in found if cell[0] == layer):
            selection = Selection(behavior, variant, frozenset(found), (cell,))
            read = read_results(album.paths.result(selection.at(cell)))
            if [str(row.get("question")) for row in read] == list(questions):
                rows[cell] = read
        if rows:
            jobs.append(_job(Selection(behavior, variant, frozenset(rows), tuple(rows)), rows))
    album.draw(album.pending(jobs), lambda aside: aside)


def _job(selection: Selection, rows: Mapping[Cell, Sequence[Mapping[str, Any]]]) -> Job[Paths]:
    """The page of the one layer of some cells."""
    behavior, variant, layer = selection.behavior, selection.variant, selection.cells[0][0]
    kind = "answers" if variant.unit == MULTIPLIER else f"answers_{variant.unit}s"
    stem = f"{kind}_{variant.stem(layer)}"
    title = f"{behavior}, layer {layer}\n{variant.stem()}"
    titled = {
        f"{variant.unit} {signed(strength)}" if strength else "unsteered": found
        for (_, strength), found in rows.items()
    }

    def write(aside: Paths) -> None:
        place: Path = aside.figure(stem, behavior, ".md")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(page(title, titled))

    hashes = {selection.item(c): found.sha256[:16] for c, found in rows.items()}  # type: ignore[attr-defined]
    return Job(stem, {selection.group: hashes}, write, behavior)
