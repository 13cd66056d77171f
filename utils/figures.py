"""The figures of plot_results.py: from score tables to pictures with their numbers beside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from behaviors import Behavior
from utils.cells import CELL_PARTS, VARIANT_PARTS
from utils.durable import write_bytes
from utils.evaluation import Test
from utils.paths import MULTIPLIER, Paths, ResultName, other_unit
from utils.plotting import CategoryLine, Line, Panel, category_figure, line_figure
from utils.score_tables import ScoreTable, extremes, model_name, variant_label
from utils.stats import Estimate
from utils.tables import tex_table, text_table

Rows = list[tuple[list[str], Estimate]]
CELL = (*CELL_PARTS, "behavior")


def signed(strength: float) -> str:
    """A multiplier or dose as it is shown: with a sign, and a true minus."""
    return f"{strength:+g}".replace("-", "\N{MINUS SIGN}") if strength else "0"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


class Figures:
    """Draws figures and keeps the list of what was written.

    Args:
        test: what was measured.
        base: the parts of the results' names that all figures share; its unit is the figures'.
        paths: where to write.
    """

    def __init__(self, test: Test, base: ResultName, paths: Paths) -> None:
        self.test, self.base, self.paths = test, base, paths
        self.unit, self.other = base.unit, other_unit(base.unit)
        self.written: list[Path] = []

    def _stem(self, kind: str, name: ResultName, without: tuple[str, ...]) -> str:
        """A figure's name; those of multipliers have the names that they had before doses."""
        kind += "" if self.unit == MULTIPLIER else f"_{self.unit}s"
        return f"{kind}_{name.stem(without=without)}"

    def _strength(self, table: ScoreTable, cell: tuple[int, float]) -> list[str]:
        """A cell's strength in both units, as a table's two columns."""
        other = 0.0 if cell[1] == 0 else table.converted.get(cell)
        return [f"{cell[1]:g}", "-" if other is None else f"{other:.4g}"]

    def _line_label(self, strength: float, tables: Sequence[ScoreTable]) -> str:
        """A strength, and what it is in the other unit, which differs from layer to layer."""
        found = [v for t in tables for (_, s), v in t.converted.items() if s == strength]
        label = f"{self.unit} {signed(strength)}"
        if not strength or not found:
            return label
        low, high = _short(min(map(abs, found))), _short(max(map(abs, found)))
        sign = "\N{MULTIPLICATION SIGN}" if self.other == MULTIPLIER else f"{self.other} "
        return f"{label} ({sign}{low} to {high})"

    def _write(
        self, stem: str, behavior: str | None, panels: list[Panel], header: list[str], rows: Rows
    ) -> Path:
        path = self.paths.figure(stem, behavior)
        # One panel is titled itself; several are of different things, on the same questions.
        title = self._title("") if len(panels) > 1 else ""
        line_figure(panels, path, title=title, note=self._note([e for _, e in rows]))
        self._write_text(path, ".txt", text_table(header, rows))
        self.written.append(path)
        return path

    def _write_text(self, path: Path, suffix: str, data: bytes) -> None:
        write_bytes(path.with_suffix(suffix), data)
        self.written.append(path.with_suffix(suffix))

    def _note(self, shown: Sequence[Estimate]) -> str:
        """Model and number of questions, with a score and without, of every figure."""
        counts = sorted({e.n for e in shown})
        questions = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        most = max(e.missing for e in shown)
        without = f" (up to {most} more without a score)" if most else ""
        return (
            f"{model_name(self.base)}; {questions} questions{without}; "
            "95 % intervals over questions"
        )

    def _title(self, text: str) -> str:
        # The questions are named where they are not the behaviour's own.
        if self.test.type in ("ab", "open_ended"):
            return text
        return f"{text}: {self.test.title}" if text else self.test.title

    def multipliers(self, behavior: Behavior, tables: Sequence[ScoreTable], layer: int) -> None:
        """Score against strength at one layer, a line per variant; also as a ``.tex`` table."""
        panel, rows = self._multiplier_panel(behavior, tables, layer)
        if not panel.lines:
            return
        panel = replace(panel, title=self._title(f"{behavior.name}, layer {layer}"))
        name = replace(self.base, layer=layer)
        stem = f"{self.unit}s_{name.stem(without=('strength', 'behavior', *VARIANT_PARTS))}"
        header = ["variant", self.unit, self.other]
        path = self._write(stem, behavior.id, [panel], header, rows)
        ticks = list(dict.fromkeys(keys[1] for keys, _ in rows))
        cells = {(keys[0], keys[1]): estimate for keys, estimate in rows}
        lines = [(line.label, [cells.get((line.label, t)) for t in ticks]) for line in panel.lines]
        tex = tex_table(self.unit, [f"${t}$" for t in ticks], lines)
        self._write_text(path, ".tex", tex)

    def _multiplier_panel(
        self, behavior: Behavior, tables: Sequence[ScoreTable], layer: int
    ) -> tuple[Panel, Rows]:
        lines, rows = [], []
        ticks = sorted({m for t in tables for n, m in t.scores if n == layer})
        for table in tables:
            label = variant_label(table.name)
            points = [(m, table.score((layer, m))) for m in ticks]
            known = [(m, e) for m, e in points if e is not None]
            if known:
                lines.append(Line(label, [m for m, _ in known], [e for _, e in known]))
                rows += [([label, *self._strength(table, (layer, m))], e) for m, e in known]
        factors = {t.factor(layer) for t in tables if any(n == layer for n, _ in t.scores)}
        factor = factors.pop() if len(factors) == 1 else None
        panel = Panel(
            lines,
            self.unit,
            self.test.score_name,
            behavior.name,
            x_ticks=ticks if len(ticks) <= 7 else [],
            second=None if factor is None else (self.other, factor),
        )
        return panel, rows

    def all_multipliers(
        self, shown: Sequence[tuple[Behavior, Sequence[ScoreTable]]], layer: int
    ) -> None:
        """Score against strength at one layer, a panel per behaviour."""
        panels, rows = [], []
        for behavior, tables in shown:
            panel, found = self._multiplier_panel(behavior, tables, layer)
            if panel.lines:
                panels.append(panel)
                rows += [([behavior.id, *keys], e) for keys, e in found]
        if len(panels) > 1:
            name = replace(self.base, layer=layer)
            without = ("strength", "behavior", *VARIANT_PARTS)
            stem = f"{self.unit.upper()}S_{name.stem(without=without)}"
            self._write(stem, None, panels, ["behavior", "variant", self.unit, self.other], rows)

    def all_changes(self, shown: Sequence[tuple[Behavior, ScoreTable]], layer: int) -> None:
        """Change of every behaviour's score at one layer, a point per strength."""
        strengths = sorted({s for _, t in shown for n, s in t.scores if n == layer and s})
        lines, rows = [], []
        for strength in strengths:
            cell, base = (layer, strength), (layer, 0.0)
            found = [(b, t, t.change(cell, base)) for b, t in shown]
            known = [(b, t, e) for b, t, e in found if e is not None]
            lines.append(CategoryLine(signed(strength), {b.name: e for b, _, e in known}))
            rows += [([b.id, *self._strength(t, cell)], e) for b, t, e in known]
        if not rows:
            return
        stem = self._stem("CHANGES", replace(self.base, layer=layer), ("strength", "behavior"))
        path = self.paths.figure(stem)
        names = [b.name for b, _ in shown]
        label = f"change of {self.test.score_name} against no steering"
        title = self._title(f"Steered at layer {layer}")
        note = self._note([e for _, e in rows])
        category_figure(names, lines, label, title, path, self.unit, reference=0.0, note=note)
        self.written.append(path)
        self._write_text(path, ".txt", text_table(["behavior", self.unit, self.other], rows))

    def layers(self, behavior: Behavior, table: ScoreTable) -> None:
        """Score against layer, a line per strength."""
        lines, rows = [], []
        for strength in table.swept_strengths:
            points = [(n, table.score((n, strength))) for n in table.layers]
            known = [(n, e) for n, e in points if e is not None]
            label = self._line_label(strength, [table])
            lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
            rows += [([str(n), *self._strength(table, (n, strength))], e) for n, e in known]
        title = self._title(behavior.name)
        panel = Panel(lines, "layer", self.test.score_name, title, whole_x=True)
        stem = self._stem("LAYER_SWEEP", table.name, CELL)
        self._write(stem, behavior.id, [panel], ["layer", self.unit, self.other], rows)

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
                known = changes(table, strength)
                if known:
                    label = variant_label(table.name)
                    lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
                    rows += [
                        ([label, str(n), *self._strength(table, (n, strength))], e)
                        for n, e in known
                    ]
            title = f"{behavior.name}, {self.unit} {signed(strength)}"
            panel = Panel(lines, "layer", "change in score", title, whole_x=True)
            panels.append(replace(panel, reference=0.0))
        if panels:
            stem = self._stem("VARIANTS", self.base, (*CELL, *VARIANT_PARTS))
            header = ["variant", "layer", self.unit, self.other]
            self._write(stem, behavior.id, panels, header, rows)

    def sweeps(self, shown: Sequence[tuple[Behavior, ScoreTable]]) -> None:
        """Change against layer of all behaviours, a panel per behaviour, a line per sign."""
        panels, rows = [], []
        every = [table for _, table in shown]
        for behavior, table in shown:
            lines = []
            for strength in _ends(every):
                known = changes(table, strength)
                if known:
                    label = self._line_label(strength, every)
                    lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
                    rows += [
                        ([behavior.id, str(n), *self._strength(table, (n, strength))], e)
                        for n, e in known
                    ]
            if lines:
                panel = Panel(lines, "layer", "change in score", behavior.name, whole_x=True)
                panels.append(replace(panel, reference=0.0))
        if panels:
            stem = self._stem("LAYER_SWEEPS", shown[0][1].name, CELL)
            self._write(stem, None, panels, ["behavior", "layer", self.unit, self.other], rows)

    def categories(self, behavior: Behavior, table: ScoreTable, layer: int) -> None:
        """Score of every category at one layer, a point per strength; better, worse or same."""
        names = sorted(set(table.categories or []))
        strengths = [s for n, s in sorted(table.scores) if n == layer]
        lines, rows = [], []
        for strength in strengths:
            found = [(c, table.score((layer, strength), c)) for c in names]
            known = {c: e for c, e in found if e is not None}
            lines.append(CategoryLine(signed(strength), known))
            shown = self._strength(table, (layer, strength))
            rows += [([c, *shown], e) for c, e in known.items()]
            mean = table.score((layer, strength))
            if mean is not None:
                rows.append((["mean over categories", *shown], mean))
        stem = self._stem("categories", replace(table.name, layer=layer), ("strength", "behavior"))
        path = self.paths.figure(stem, behavior.id)
        title = self._title(f"{behavior.name}, layer {layer}")
        note = self._note([e for _, e in rows])
        category_figure(names, lines, self.test.score_name, title, path, self.unit, note=note)
        self.written.append(path)
        self._write_text(path, ".txt", text_table(["category", self.unit, self.other], rows))
        if (layer, 0.0) in table.scores:
            self._write_text(path, ".tex", self._verdicts(table, layer, names, strengths))

    def _verdicts(
        self, table: ScoreTable, layer: int, names: list[str], strengths: list[float]
    ) -> bytes:
        """Categories that got better, worse or stayed the same against strength 0."""
        lines = [
            r"\begin{tabular}{rccrrr}",
            r"\toprule",
            rf"{self.unit} & mean over categories & change & better & worse & same \\",
            r"\midrule",
        ]
        for strength in strengths:
            mean = table.score((layer, strength))
            change = table.change((layer, strength), (layer, 0.0))
            each = [table.change((layer, strength), (layer, 0.0), c) for c in names]
            better = sum(e is not None and e.low > 0 for e in each)
            worse = sum(e is not None and e.high < 0 for e in each)
            if mean is not None and change is not None:
                lines.append(
                    rf"${strength:g}$ & {mean.mean:.3f} & ${change.mean:+.3f}$ "
                    rf"[{change.low:+.3f}, {change.high:+.3f}] & {better} & {worse} & "
                    rf"{len(names) - better - worse} \\"
                )
        return ("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n").encode()


def _ends(tables: Sequence[ScoreTable]) -> list[float]:
    return extremes([s for t in tables for s in t.swept_strengths])


def changes(table: ScoreTable, strength: float) -> list[tuple[int, Estimate]]:
    """(layer, change against strength 0) where both were measured."""
    points = [(n, table.change((n, strength), (n, 0.0))) for n in table.layers]
    return [(n, e) for n, e in points if e is not None]
