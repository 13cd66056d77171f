"""The table at the end of prompting_with_steering.py: what steering changed, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.data.evaluation import read_results
from utils.files.paths import Cell, Paths
from utils.scores.tables import extremes
from utils.sweeps.sweep import Sweep
from utils.text.numbers import signed, true_minus
from utils.text.terminal_tables import plain_table

MOST_ROWS, BEST = 40, 3


def changes_table(sweeps: Sequence[Sweep], paths: Paths) -> str:
    """Mean scores without steering and their changes with it, a row for each layer.

    Of many behaviours and layers, those three layers of each that change most.
    """
    scores = [(sweep.behavior, mean_scores(sweep, paths)) for sweep in sweeps]
    strengths = extremes(sorted({s for _, found in scores for _, s in found}))
    rows = [
        (behavior, layer, found)
        for behavior, found in scores
        for layer in sorted({n for n, _ in found})
    ]
    if not rows:
        return ""
    notes = []
    if len(rows) > MOST_ROWS and strengths:
        rows = [row for row in rows if row[1] in _best(row[2], strengths)]
        notes.append(f"(the {BEST} layers of each that change most; ./plot_results.py has all)")
    lacking = [(n, 0.0) not in found for _, n, found in rows]
    if strengths and any(lacking):
        notes.append("(scores, not changes, where there is no result at 0 to compare with)")
    unit, test = sweeps[0].variant.unit, sweeps[0].test
    header = ["behaviour", "layer", "unsteered", *(f"{unit} {signed(s)}" for s in strengths)]
    cells = [
        [behavior, str(layer), *_row(found, layer, strengths)] for behavior, layer, found in rows
    ]
    title = f"mean {test.score_name} and its change"
    return "\n".join([plain_table(header, cells, title=title), *notes])


def mean_scores(sweep: Sweep, paths: Paths) -> dict[Cell, float]:
    """Mean score of every cell asked for that has a result, and of its layer without steering."""
    wanted = dict.fromkeys([*sweep.cells, *((layer, 0.0) for layer, _ in sweep.cells)])
    places = {cell: sweep.path(cell, paths) for cell in wanted}
    return {
        cell: float(sweep.test.scores(read_results(path), path.name).mean())
        for cell, path in places.items()
        if path.exists()
    }


def _best(found: Mapping[Cell, float], strengths: Sequence[float]) -> list[int]:
    def effect(layer: int) -> float:
        base = found.get((layer, 0.0))
        values = [found[layer, s] for s in strengths if (layer, s) in found]
        if base is None:
            return max(values, default=0.0) - min(values, default=0.0)
        return max((abs(value - base) for value in values), default=0.0)

    return sorted({n for n, _ in found}, key=effect, reverse=True)[:BEST]


def _row(found: Mapping[Cell, float], layer: int, strengths: Sequence[float]) -> list[str]:
    base = found.get((layer, 0.0))
    texts = ["-" if base is None else f"{base:.3f}"]
    for strength in strengths:
        value = found.get((layer, strength))
        if value is None:
            texts.append("-")
        elif base is None:
            texts.append(f"{value:.3f}")
        else:
            texts.append(true_minus(f"{value - base:+.4f}"))
    return texts
