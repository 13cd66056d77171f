"""What plot_results.py shows of categories and of behaviours side by side: paired changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from behaviors import Behavior
from utils.drawing.category_plots import CategoryLine, DotPlot
from utils.figures.score_panels import (
    CHANGE,
    SCORE,
    Rows,
    ScorePanels,
    counted_from,
    strength_cells,
    strength_colors,
    strength_label,
)
from utils.scores.question_groups import Row, rows_of
from utils.scores.tables import ScoreTable
from utils.stats import FEWEST, Estimate
from utils.text.number_tables import tabular
from utils.text.numbers import formatted


@dataclass(frozen=True)
class CategoryContent:
    """A figure of categories and what stands beside it.

    Attributes:
        plot: what is drawn.
        rows: of the figure's text.
        means: scores over all categories, of every strength.
        explained: how categories were pooled, and why.
    """

    plot: DotPlot
    rows: Rows
    means: list[Estimate]
    explained: str


def by_effect(names: Sequence[str], lines: Sequence[CategoryLine]) -> list[str]:
    """Names in the order of the change at the highest strength, the largest first."""
    highest = lines[-1].points if lines else {}
    least = Estimate(float("-inf"), 0, 0, 0)
    return sorted(names, key=lambda name: (-highest.get(name, least).mean, name))


def category_plot(table: ScoreTable, layer: int, panels: ScorePanels) -> CategoryContent:
    """Changes of categories, small ones pooled; scores where there is nothing to compare with."""
    groups = rows_of(table.categories or [])
    strengths = sorted(s for n, s in table.scores if n == layer)
    base = table.base(layer)
    quantity = SCORE if base is None else CHANGE
    shown = [s for s in strengths if base is None or s != table.base_strength]
    colors = strength_colors(shown)
    rows = _score_rows(table, layer, strengths)
    lines = []
    for strength in shown:
        cell = (layer, strength)
        points = {}
        for group in groups:
            e = _measure(table, cell, group.categories)
            if e is not None:
                points[_label(group)] = e
                rows.append(([group.name, *strength_cells(table, cell), quantity], e))
        label = strength_label(strength, [table], layer)
        lines.append(CategoryLine(label, points, colors.get(strength)))
    scale = panels.scale
    plot = DotPlot(
        by_effect([_label(group) for group in groups], lines),
        lines,
        panels.test.score_name if base is None else panels.change_name([table]),
        reference=scale.chance if base is None else 0.0,
        least=scale.level if base is None else (-scale.change, scale.change),
        beside=_levels(table, layer, groups),
        beside_title="" if base is None else counted_from([table]),
    )
    means = [e for s in strengths if (e := table.score((layer, s))) is not None]
    return CategoryContent(plot, rows, means, _explained(table, groups))


def _measure(
    table: ScoreTable, cell: tuple[int, float], categories: Sequence[str]
) -> Estimate | None:
    base = table.base(cell[0])
    if base is None:
        return table.score(cell, categories)
    return table.change(cell, base, categories)


def _score_rows(table: ScoreTable, layer: int, strengths: Sequence[float]) -> Rows:
    """Scores of the categories themselves, and their mean; too few questions have no interval."""
    rows: Rows = []
    for strength in strengths:
        keys = [*strength_cells(table, (layer, strength)), SCORE]
        for name in sorted(set(table.categories or [])):
            e = table.score((layer, strength), [name])
            if e is not None:
                rows.append(([name, *keys], e))
        mean = table.score((layer, strength))
        if mean is not None:
            rows.append((["mean over categories", *keys], mean))
    return rows


def _label(row: Row) -> str:
    return f"{row.name} ({row.questions})"


def _levels(table: ScoreTable, layer: int, groups: Sequence[Row]) -> Mapping[str, str]:
    base = table.base(layer)
    if base is None:
        return {}
    found = {_label(group): table.score(base, group.categories) for group in groups}
    return {label: f"{e.mean:.2f}" for label, e in found.items() if e is not None}


def _level(table: ScoreTable, layer: int) -> str:
    base = table.base(layer)
    level = None if base is None else table.score(base)
    return "" if level is None else f"{level.mean:.2f}"


def _explained(table: ScoreTable, groups: Sequence[Row]) -> str:
    text = "In brackets: number of questions"
    pooled = sum(len(group.categories) for group in groups if len(group.categories) > 1)
    if pooled:
        text += f"; {pooled} categories of fewer than {FEWEST} questions each are pooled"
    return f"{text}."


def behavior_plot(
    shown: Sequence[tuple[Behavior, ScoreTable]], layer: int, panels: ScorePanels
) -> tuple[DotPlot, Rows]:
    """Changes of every behaviour at one layer, a point per strength."""
    strengths = sorted({s for _, t in shown for n, s in t.scores if n == layer})
    colors = strength_colors(strengths)
    tables = [table for _, table in shown]
    lines, rows = [], []
    for strength in strengths:
        cell = (layer, strength)
        found = [(b, t, t.steered_change(cell)) for b, t in shown]
        changes = [(b, t, e) for b, t, e in found if e is not None]
        if changes:
            label = strength_label(strength, tables, layer)
            points = {b.name: e for b, _, e in changes}
            lines.append(CategoryLine(label, points, colors.get(strength)))
            rows += [([b.id, *strength_cells(t, cell)], e) for b, t, e in changes]
    levels = {b.name: _level(t, layer) for b, t in shown}
    reach = panels.scale.change
    plot = DotPlot(
        by_effect([b.name for b, _ in shown], lines),
        lines,
        panels.change_name(tables),
        reference=0.0,
        least=(-reach, reach),
        beside=levels,
        beside_title=counted_from(tables),
    )
    return plot, rows


def verdicts(table: ScoreTable, layer: int) -> bytes:
    """LaTeX: rows of the figure that got better, worse or stayed the same; those too small."""
    base = table.base(layer)
    groups = rows_of(table.categories or [])
    rows = []
    for strength in sorted(s for n, s in table.scores if n == layer):
        cell = (layer, strength)
        mean, change = table.score(cell), table.change(cell, base)
        each = [table.change(cell, base, group.categories) for group in groups]
        sure = [e for e in each if e is not None and e.has_interval]
        better, worse = sum(e.low > 0 for e in sure), sum(e.high < 0 for e in sure)
        if mean is not None and change is not None:
            counts = (better, worse, len(sure) - better - worse, len(each) - len(sure))
            low, high = (formatted(end, "+.3f") for end in (change.low, change.high))
            effect = f"${formatted(change.mean, '+.3f')}$ [{low}, {high}]"
            rows.append([f"${strength:g}$", f"{mean.mean:.3f}", effect, *map(str, counts)])
    header = [table.variant.unit, "mean over categories", "change"]
    return tabular("rccrrrr", [*header, "better", "worse", "same", "too few"], rows)
