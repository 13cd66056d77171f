"""The figures of plot_results.py: from score tables to pictures with their numbers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from behaviors import Behavior
from utils.data.kinds_of_test import Test
from utils.drawing.category_plots import category_figure
from utils.drawing.files import write_numbers
from utils.drawing.line_plots import line_figure, stacked_figure
from utils.drawing.panels import Line, Panel
from utils.figures.category_figures import behavior_plot, category_plot, verdicts
from utils.figures.score_panels import (
    CHANGE,
    SCORE,
    Rows,
    ScorePanels,
    counted_from,
    known,
    line_of,
    strength_cells,
    strength_colors,
    strength_label,
)
from utils.files.names import MULTIPLIER, Variant, other_unit
from utils.files.paths import Paths
from utils.scores.tables import (
    ScoreTable,
    extremes,
    model_name,
    variant_label,
)
from utils.stats import Estimate
from utils.text.number_tables import tex_table, text_table
from utils.text.numbers import signed


class Figures:
    """Draws figures, each with its numbers beside it.

    Args:
        test: what was measured.
        base: what the results of all figures have in common; its unit is the figures'.
        paths: where to write.
    """

    def __init__(self, test: Test, base: Variant, paths: Paths) -> None:
        self.test, self.base, self.paths = test, base, paths
        self.panels = ScorePanels(test)
        self.unit, self.other = base.unit, other_unit(base.unit)

    def _stem(self, kind: str, variant: Variant, layer: int | None = None) -> str:
        """A figure's name; those of multipliers have the names that they had before doses."""
        kind += "" if self.unit == MULTIPLIER else f"_{self.unit}s"
        return f"{kind}_{variant.stem(layer)}"

    def _note(
        self,
        shown: Sequence[Estimate],
        layer: int | None = None,
        missing_are: str = "without a score",
    ) -> str:
        """Model, layer and number of questions, with a score and without, of every figure."""
        totals = _range([e.n + e.missing for e in shown])
        parts = [model_name(self.base), f"{totals} questions"]
        missing = [e.missing for e in shown]
        if layer is not None:
            parts.insert(1, f"layer {layer}")
        if any(missing):
            parts[-1] += f", {_range(missing)} of them {missing_are}"
        if self.base.both_orders:
            parts.append("both orders of the choices")
        parts.append("95 % intervals over questions, of changes paired")
        return "; ".join(parts)

    def _title(self, text: str) -> str:
        # The questions are named where they are not the behaviour's own.
        if self.test.of_behavior:
            return text
        return f"{text}: {self.test.title}" if text else self.test.title

    def multipliers(self, behavior: Behavior, tables: Sequence[ScoreTable], layer: int) -> None:
        """Change and score against strength at one layer, a line per variant."""
        panels, rows = self.panels.over_strengths(tables, layer)
        if not panels:
            return
        path = self.paths.figure(f"{self.unit}s_{self.base.plain().stem(layer)}", behavior.id)
        scores = [(keys, e) for keys, e in rows if keys[-1] == SCORE]
        title = self._title(f"{behavior.name}, layer {layer}")
        note = self._note([e for _, e in scores], layer)
        stacked_figure(panels, path, title=title, note=note)
        ticks = list(dict.fromkeys(keys[1] for keys, _ in scores))
        cells = {(keys[0], keys[1]): estimate for keys, estimate in scores}
        labels = list(dict.fromkeys(keys[0] for keys, _ in scores))
        lines = [(label, [cells.get((label, t)) for t in ticks]) for label in labels]
        tex = tex_table(self.unit, [f"${t}$" for t in ticks], lines)
        header = ["variant", self.unit, self.other, "quantity"]
        write_numbers(path, text_table(header, rows), tex)

    def all_multipliers(
        self, shown: Sequence[tuple[Behavior, Sequence[ScoreTable]]], layer: int
    ) -> None:
        """Change against strength at one layer, a panel per behaviour."""
        found = [(b, ts, *self.panels.over_strengths(ts, layer)) for b, ts in shown]
        found = [each for each in found if each[2]]
        if len(found) < 2:
            return
        rows: Rows = [([b.id, *keys], e) for b, _, _, each in found for keys, e in each]
        changing = any(keys[-1] == CHANGE for keys, _ in rows)
        panels = []
        for behavior, tables, (panel, *_), _ in found:
            if changing == (panel.reference == 0.0):
                panels.append(replace(panel, title=behavior.name, height=1.0))
                if changing:
                    panels[-1].y_label = self.panels.change_name(tables)
                panels[-1].aside = self.panels.level_text(tables[0], [layer]) if changing else ""
        path = self.paths.figure(f"{self.unit.upper()}S_{self.base.plain().stem(layer)}")
        title = self._title(f"Steered at layer {layer}")
        note = self._note([e for keys, e in rows if keys[-1] == SCORE], layer)
        line_figure(panels, path, title=title, note=note)
        write_numbers(
            path, text_table(["behavior", "variant", self.unit, self.other, "quantity"], rows)
        )

    def all_changes(self, shown: Sequence[tuple[Behavior, ScoreTable]], layer: int) -> None:
        """Change of every behaviour's score at one layer, a point per strength."""
        plot, rows = behavior_plot(shown, layer, self.panels)
        if not rows:
            return
        path = self.paths.figure(self._stem("CHANGES", self.base, layer))
        note = self._note([e for _, e in rows], layer)
        category_figure(plot, self._title(f"Steered at layer {layer}"), path, note=note)
        write_numbers(path, text_table(["behavior", self.unit, self.other], rows))

    def layers(self, behavior: Behavior, table: ScoreTable) -> None:
        """Change and score against layer, a line per strength."""
        panels, rows = self.panels.over_layers(table)
        path = self.paths.figure(self._stem("LAYER_SWEEP", table.variant), behavior.id)
        note = self._note([e for keys, e in rows if keys[-1] == SCORE])
        stacked_figure(panels, path, title=self._title(behavior.name), note=note)
        write_numbers(path, text_table(["layer", self.unit, self.other, "quantity"], rows))

    def variants(self, behavior: Behavior, tables: Sequence[ScoreTable]) -> None:
        """Change against layer, a line per variant, a panel per sign of the strength.

        Shows another layer's vector at every layer, vectors moved from base to chat, and
        finetuned weights beside the plain model's own vectors.
        """
        swept = [t for t in tables if len(t.layers) > 1]
        panels, rows = [], []
        for strength in _ends(swept) if len(swept) > 1 else []:
            lines = []
            for table in swept:
                changes = layer_changes(table, strength)
                if changes:
                    label = variant_label(table.variant)
                    lines.append(line_of(label, changes))
                    rows += [
                        ([label, f"{n:g}", *strength_cells(table, (int(n), strength))], e)
                        for n, e in changes
                    ]
            if lines:
                title = f"{behavior.name}, {self.unit} {signed(strength)}"
                panels.append(self._over_layers(lines, swept, title))
        if panels:
            stem = self._stem("VARIANTS", self.base.plain())
            path = self.paths.figure(stem, behavior.id)
            line_figure(panels, path, title=self._title(""), note=self._note([e for _, e in rows]))
            write_numbers(path, text_table(["variant", "layer", self.unit, self.other], rows))

    def _over_layers(self, lines: list[Line], tables: Sequence[ScoreTable], title: str) -> Panel:
        panel = self.panels.changes(lines, "layer", counted_from(tables), title)
        return replace(panel, whole_x=True, y_label=self.panels.change_name(tables))

    def sweeps(self, shown: Sequence[tuple[Behavior, ScoreTable]]) -> None:
        """Change against layer of all behaviours, a panel per behaviour, a line per sign."""
        panels: list[Panel] = []
        rows: Rows = []
        every = [table for _, table in shown]
        colors = strength_colors(_ends(every))
        for behavior, table in shown:
            lines = []
            for strength in _ends(every):
                changes = layer_changes(table, strength)
                if changes:
                    lines.append(
                        line_of(strength_label(strength, every), changes, colors[strength])
                    )
                    rows += [
                        ([behavior.id, f"{n:g}", *strength_cells(table, (int(n), strength))], e)
                        for n, e in changes
                    ]
            if lines:
                panel = self._over_layers(lines, every, behavior.name)
                panel.aside = self.panels.level_text(table, table.layers)
                panels.append(panel)
        if panels:
            path = self.paths.figure(self._stem("LAYER_SWEEPS", shown[0][1].variant))
            line_figure(panels, path, title=self._title(""), note=self._note([e for _, e in rows]))
            write_numbers(path, text_table(["behavior", "layer", self.unit, self.other], rows))

    def orders(self, behavior: Behavior, table: ScoreTable, layer: int) -> None:
        """What answers say and their letters told apart, against strength at one layer."""
        panels, rows = self.panels.effects(table, layer)
        if not panels:
            return
        path = self.paths.figure(self._stem("orders", table.variant, layer), behavior.id)
        title = self._title(f"{behavior.name}, layer {layer}")
        note = self._note([e for _, e in rows], layer, "in one order only")
        note += ". Content: towards the matching answer; letter: towards (A)"
        stacked_figure(panels, path, title=title, note=note)
        write_numbers(path, text_table(["effect", self.unit, self.other, "quantity"], rows))

    def categories(self, behavior: Behavior, table: ScoreTable, layer: int) -> None:
        """Change of every category at one layer, a point per strength; better, worse or same."""
        content = category_plot(table, layer, self.panels)
        path = self.paths.figure(self._stem("categories", table.variant, layer), behavior.id)
        title = self._title(f"{behavior.name}, layer {layer}")
        note = self._note(content.means, layer)
        category_figure(content.plot, title, path, note=f"{note}. {content.explained}")
        header = ["category", self.unit, self.other, "quantity"]
        tex = None if table.base(layer) is None else verdicts(table, layer)
        write_numbers(path, text_table(header, content.rows), tex)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _ends(tables: Sequence[ScoreTable]) -> list[float]:
    return extremes([s for t in tables for s in t.swept_strengths])


def layer_changes(table: ScoreTable, strength: float) -> list[tuple[float, Estimate]]:
    """(layer, paired change) where both were measured."""
    return known((n, table.steered_change((n, strength))) for n in table.layers)
