"""The table at the end of prompting_with_steering.py: what steering changed, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from utils.data.evaluation import read_results
from utils.data.rows import Row
from utils.files.names import Cell
from utils.files.paths import Paths
from utils.scores.order_effects import effects_of_rows
from utils.scores.tables import extremes
from utils.sweeps.sweep import Sweep
from utils.text.numbers import signed
from utils.text.terminal_tables import WIDTH, plain_table

MOST_ROWS, BEST = 40, 3


def changes_table(sweeps: Sequence[Sweep], paths: Paths) -> str:
    """Mean scores without steering and their changes with it, a row for each layer.

    Of many behaviours and layers, those three layers of each that change most. In both orders of
    the choices also the change of the content effect, in logits.
    """
    read = {sweep.behavior: read_cells(sweep, paths) for sweep in sweeps}
    scores = {s.behavior: mean_scores(s, read[s.behavior], paths) for s in sweeps}
    shown = {
        behavior: extremes(sorted({s for _, s in found})) for behavior, found in scores.items()
    }
    rows = [(b, layer) for b, found in scores.items() for layer in sorted({n for n, _ in found})]
    if not rows:
        return ""
    notes = []
    if len(rows) > MOST_ROWS and any(shown.values()):
        rows = [(b, layer) for b, layer in rows if layer in _best(scores[b], shown[b])]
        notes.append(f"(the {BEST} layers of each that change most; ./plot_results.py has all)")
    if any(shown[b] and (layer, 0.0) not in scores[b] for b, layer in rows):
        notes.append("(scores, not changes, where there is no result at 0 to compare with)")
    unit, test = sweeps[0].variant.unit, sweeps[0].test
    header = ["behaviour", "layer", "unsteered"]
    cells = [
        [behavior, str(layer), _unsteered(scores[behavior], layer)] for behavior, layer in rows
    ]
    if len({tuple(strengths) for strengths in shown.values()}) > 1:
        # each behaviour's own, as tune.py has chosen them
        header.insert(2, f"{unit}s")
        for row, (behavior, _) in zip(cells, rows, strict=True):
            row.insert(2, ", ".join(map(signed, shown[behavior])) or "-")
        places = ["lowest", "highest"][: max(map(len, shown.values()))]
    else:
        places = [f"{unit} {signed(s)}" for s in shown[rows[0][0]]]
    header += places
    for row, (behavior, layer) in zip(cells, rows, strict=True):
        row += _changes(scores[behavior], layer, shown[behavior], len(places))
    title = f"mean {test.score_name} and its change"
    table = plain_table(header, cells, title=title)
    if sweeps[0].variant.both_orders:
        contents = {s.behavior: mean_contents(s, read[s.behavior]) for s in sweeps}
        for row, (behavior, layer) in zip(cells, rows, strict=True):
            row += _changes(contents[behavior], layer, shown[behavior], len(places))
        header += [f"content {place.removeprefix(f'{unit} ')}" for place in places]
        wider = plain_table(header, cells, title=f"{title}; content: the same in logits")
        fits = all(len(line) <= WIDTH for line in wider.splitlines())
        table = wider if fits else table
    return "\n".join([table, *notes])


def read_cells(sweep: Sweep, paths: Paths) -> dict[Cell, Sequence[Row]]:
    """The result of every cell asked for that has one, and of its layer without steering."""
    wanted = dict.fromkeys([*sweep.cells, *((layer, 0.0) for layer, _ in sweep.cells)])
    places = {cell: sweep.path(cell, paths) for cell in wanted}
    return {cell: read_results(path) for cell, path in places.items() if path.exists()}


def mean_scores(
    sweep: Sweep, read: Mapping[Cell, Sequence[Row]], paths: Paths
) -> dict[Cell, float]:
    """Mean score of every cell."""
    return {
        cell: float(sweep.test.scores(rows, sweep.path(cell, paths).name).mean())
        for cell, rows in read.items()
    }


def mean_contents(sweep: Sweep, read: Mapping[Cell, Sequence[Row]]) -> dict[Cell, float]:
    """Mean content effect of every cell, in logits; none where no question has one."""
    found = {c: effects_of_rows(rows, sweep.test.letters(rows)) for c, rows in read.items()}
    known = {c: e.content[~np.isnan(e.content)] for c, e in found.items()}
    return {c: float(values.mean()) for c, values in known.items() if values.size}


def _best(found: Mapping[Cell, float], strengths: Sequence[float]) -> list[int]:
    def effect(layer: int) -> float:
        base = found.get((layer, 0.0))
        values = [found[layer, s] for s in strengths if (layer, s) in found]
        if base is None:
            return max(values, default=0.0) - min(values, default=0.0)
        return max((abs(value - base) for value in values), default=0.0)

    return sorted({n for n, _ in found}, key=effect, reverse=True)[:BEST]


def _unsteered(found: Mapping[Cell, float], layer: int) -> str:
    base = found.get((layer, 0.0))
    return "-" if base is None else f"{base:.3f}"


def _changes(
    found: Mapping[Cell, float], layer: int, strengths: Sequence[float], columns: int
) -> list[str]:
    """Changes at these strengths, of which there may be fewer than columns."""
    base = found.get((layer, 0.0))
    texts = []
    for strength in strengths:
        value = found.get((layer, strength))
        if value is None:
            texts.append("-")
        elif base is None:
            texts.append(f"{value:.3f}")
        else:
            texts.append(signed(value - base, "+.4f"))
    return texts + ["-"] * (columns - len(texts))
