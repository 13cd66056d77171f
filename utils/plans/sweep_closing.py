"""What prompting_with_steering.py writes and prints of its sweeps when they have run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from utils.data.evaluation import read_results
from utils.data.orders import question_count
from utils.errors import UserError
from utils.files.paths import Paths
from utils.ranks import rank

if TYPE_CHECKING:
    from utils.sweeps.sweep import Sweep


def write_answers(
    sweeps: list[Sweep], paths: Paths, *, overwrite: bool
) -> tuple[list[Path], list[str]]:
    """Pages with all open-ended answers; those written, and why others were not."""
    if not sweeps[0].test.free_text or rank() != 0:
        return [], []
    from utils.figures.album import Album
    from utils.figures.answer_pages import write_pages

    album, refused = Album[Paths](paths, overwrite=overwrite), []
    for sweep in sweeps:
        try:
            questions = [item.question for item in sweep.items]
            write_pages(sweep.behavior, sweep.variant, sweep.cells, questions, album)
        except UserError as error:
            refused.append(str(error))
    return album.written, refused


def report(sweeps: list[Sweep], paths: Paths, answers: int, written: list[Path]) -> None:
    test = sweeps[0].test
    for sweep in sweeps:
        places = {sweep.path(cell, paths) for cell in sweep.cells}
        made = len(places & set(written))
        print(f"{sweep.behavior}: {len(places)} cells, {made} of them made now")
        if sweep.told:
            print(f"  {sweep.told}")
        if sweep.near_ties:
            print(
                f"  in {sweep.near_ties} answers two tokens were within rounding of each other: "
                "another batch size may give another text there"
            )
        if sweep.rounding is not None:
            print(f"  {sweep.rounding}")
        if sweep.alone:
            print(f"  {sweep.alone} of {sweep.computed} cells computed alone (slow)")
        rows = [item.row for item in sweep.items]
        beyond = test.beyond_ab(rows)
        if beyond:
            print(
                f"  {beyond} of {question_count(rows)} questions have a matching letter beyond A "
                "and B and count 0\n  (plot_results.py --without_beyond_ab leaves them out)"
            )
    if not test.judged:
        from utils.plans.sweep_report import changes_table

        print(changes_table(sweeps, paths))
    for sweep in sweeps if test.free_text else []:
        print_answers(sweep, paths, answers)


def print_answers(sweep: Sweep, paths: Paths, count: int) -> None:
    """The first answers of one behaviour, a table for each layer and question."""
    from utils.scores.loops import marked
    from utils.text.terminal_tables import side_by_side

    for layer in sorted({layer for layer, _ in sweep.cells}):
        strengths = sorted(s for n, s in sweep.cells if n == layer)
        places = {s: sweep.path((layer, s), paths) for s in strengths}
        rows = {s: read_results(path) for s, path in places.items() if path.exists()}
        for number in range(min(count, len(sweep.items))):
            titles = {s: f"{sweep.variant.unit} {s:+g}" if s else "unsteered" for s in rows}
            answers = {
                titles[s]: marked(str(found[number]["model_output"]), whole=False)
                for s, found in rows.items()
            }
            title = f"{sweep.behavior}, layer {layer}: {sweep.items[number].question}"
            print(f"\n{side_by_side(title, answers)}\n")
