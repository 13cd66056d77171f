"""The figures of plot_results.py: from score tables to pictures with their numbers beside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from behaviors import Behavior
from utils.artifacts import write_bytes
from utils.evaluation import Test
from utils.paths import Paths, ResultName
from utils.plotting import CategoryLine, Line, Panel, category_figure, line_figure
from utils.score_tables import VARIANT_PARTS, ScoreTable, variant_label
from utils.stats import Estimate
from utils.tables import tex_table, text_table

Rows = list[tuple[list[str], Estimate]]
CELL = ("layer", "multiplier", "behavior")


def signed(multiplier: float) -> str:
    """A multiplier as it is shown: with a sign, and a true minus."""
    return f"{multiplier:+g}".replace("-", "\N{MINUS SIGN}") if multiplier else "0"


class Figures:
    """Draws figures and keeps the list of what was written.

    Args:
        test: what was measured.
        base: the parts of the results' names that all figures share.
        paths: where to write.
    """

    def __init__(self, test: Test, base: ResultName, paths: Paths) -> None:
        self.test, self.base, self.paths = test, base, paths
        self.written: list[Path] = []

    def _write(
        self, stem: str, behavior: str | None, panels: list[Panel], header: list[str], rows: Rows
    ) -> Path:
        path = self.paths.figure(stem, behavior)
        # One panel is titled itself; several are of different things, on the same questions.
        line_figure(panels, path, self._title("") if len(panels) > 1 else "")
        self._write_text(path, ".txt", text_table(header, rows))
        self.written.append(path)
        return path

    def _write_text(self, path: Path, suffix: str, data: bytes) -> None:
        write_bytes(path.with_suffix(suffix), data)
        self.written.append(path.with_suffix(suffix))

    def _title(self, text: str) -> str:
        # The questions are named where they are not the behaviour's own.
        if self.test.type in ("ab", "open_ended"):
            return text
        return f"{text}: {self.test.title}" if text else self.test.title

    def multipliers(self, behavior: Behavior, tables: Sequence[ScoreTable], layer: int) -> None:
        """Score against multiplier at one layer, a line per variant; also as a ``.tex`` table."""
        panel, rows = self._multiplier_panel(behavior, tables, layer)
        if not panel.lines:
            return
        panel = replace(panel, title=self._title(f"{behavior.name}, layer {layer}"))
        name = replace(self.base, layer=layer)
        stem = f"multipliers_{name.stem(without=('multiplier', 'behavior', *VARIANT_PARTS))}"
        header = ["variant", "multiplier"]
        path = self._write(stem, behavior.id, [panel], header, rows)
        ticks = list(dict.fromkeys(keys[1] for keys, _ in rows))
        cells = {(keys[0], keys[1]): estimate for keys, estimate in rows}
        lines = [(line.label, [cells.get((line.label, t)) for t in ticks]) for line in panel.lines]
        tex = tex_table("multiplier", [f"${t}$" for t in ticks], lines)
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
                rows += [([label, f"{m:g}"], e) for m, e in known]
        panel = Panel(
            lines,
            "multiplier",
            self.test.score_name,
            behavior.name,
            x_ticks=ticks if len(ticks) <= 7 else [],
        )
        return panel, rows

    def all_multipliers(
        self, shown: Sequence[tuple[Behavior, Sequence[ScoreTable]]], layer: int
    ) -> None:
        """Score against multiplier at one layer, a panel per behaviour."""
        panels, rows = [], []
        for behavior, tables in shown:
            panel, found = self._multiplier_panel(behavior, tables, layer)
            if panel.lines:
                panels.append(panel)
                rows += [([behavior.id, *keys], e) for keys, e in found]
        if len(panels) > 1:
            name = replace(self.base, layer=layer)
            stem = f"MULTIPLIERS_{name.stem(without=('multiplier', 'behavior', *VARIANT_PARTS))}"
            self._write(stem, None, panels, ["behavior", "variant", "multiplier"], rows)

    def layers(self, behavior: Behavior, table: ScoreTable) -> None:
        """Score against layer, a line per multiplier."""
        lines, rows = [], []
        for multiplier in table.swept_multipliers:
            points = [(n, table.score((n, multiplier))) for n in table.layers]
            known = [(n, e) for n, e in points if e is not None]
            label = f"multiplier {signed(multiplier)}"
            lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
            rows += [([str(n), f"{multiplier:g}"], e) for n, e in known]
        title = self._title(behavior.name)
        panel = Panel(lines, "layer", self.test.score_name, title, whole_x=True)
        stem = f"LAYER_SWEEP_{table.name.stem(without=CELL)}"
        self._write(stem, behavior.id, [panel], ["layer", "multiplier"], rows)

    def variants(self, behavior: Behavior, tables: Sequence[ScoreTable]) -> None:
        """Change against layer, a line per variant, a panel per sign of the multiplier.

        Shows another layer's vector at every layer, vectors moved from base to chat, and
        finetuned weights beside the plain model's own vectors.
        """
        swept = [t for t in tables if len(t.layers) > 1]
        panels, rows = [], []
        for multiplier in extremes(swept) if len(swept) > 1 else []:
            lines = []
            for table in swept:
                known = changes(table, multiplier)
                if known:
                    label = variant_label(table.name)
                    lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
                    rows += [([label, str(n), f"{multiplier:g}"], e) for n, e in known]
            title = f"{behavior.name}, multiplier {signed(multiplier)}"
            panel = Panel(lines, "layer", "change in score", title, whole_x=True)
            panels.append(replace(panel, reference=0.0))
        if panels:
            stem = f"VARIANTS_{self.base.stem(without=(*CELL, *VARIANT_PARTS))}"
            self._write(stem, behavior.id, panels, ["variant", "layer", "multiplier"], rows)

    def sweeps(self, shown: Sequence[tuple[Behavior, ScoreTable]]) -> None:
        """Change against layer of all behaviours, a panel per behaviour, a line per sign."""
        panels, rows = [], []
        for behavior, table in shown:
            lines = []
            for multiplier in extremes([t for _, t in shown]):
                known = changes(table, multiplier)
                if known:
                    label = f"multiplier {signed(multiplier)}"
                    lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
                    rows += [([behavior.id, str(n), f"{multiplier:g}"], e) for n, e in known]
            if lines:
                panel = Panel(lines, "layer", "change in score", behavior.name, whole_x=True)
                panels.append(replace(panel, reference=0.0))
        if panels:
            stem = f"LAYER_SWEEPS_{shown[0][1].name.stem(without=CELL)}"
            self._write(stem, None, panels, ["behavior", "layer", "multiplier"], rows)

    def categories(self, behavior: Behavior, table: ScoreTable, layer: int) -> None:
        """Score of every category at one layer, a point per multiplier; better, worse or same."""
        names = sorted(set(table.categories or []))
        multipliers = [m for n, m in sorted(table.scores) if n == layer]
        lines, rows = [], []
        for multiplier in multipliers:
            found = [(c, table.score((layer, multiplier), c)) for c in names]
            known = {c: e for c, e in found if e is not None}
            lines.append(CategoryLine(signed(multiplier), known))
            rows += [([c, f"{multiplier:g}"], e) for c, e in known.items()]
            mean = table.score((layer, multiplier))
            if mean is not None:
                rows.append((["mean over categories", f"{multiplier:g}"], mean))
        name = replace(table.name, layer=layer)
        stem = f"categories_{name.stem(without=('multiplier', 'behavior'))}"
        path = self.paths.figure(stem, behavior.id)
        title = self._title(f"{behavior.name}, layer {layer}")
        category_figure(names, lines, self.test.score_name, title, path)
        self.written.append(path)
        self._write_text(path, ".txt", text_table(["category", "multiplier"], rows))
        if (layer, 0.0) in table.scores:
            self._write_text(path, ".tex", self._verdicts(table, layer, names, multipliers))

    def _verdicts(
        self, table: ScoreTable, layer: int, names: list[str], multipliers: list[float]
    ) -> bytes:
        """Categories that got better, worse or stayed the same against multiplier 0."""
        lines = [
            r"\begin{tabular}{rccrrr}",
            r"\toprule",
            r"multiplier & mean over categories & change & better & worse & same \\",
            r"\midrule",
        ]
        for multiplier in multipliers:
            mean = table.score((layer, multiplier))
            change = table.change((layer, multiplier), (layer, 0.0))
            each = [table.change((layer, multiplier), (layer, 0.0), c) for c in names]
            better = sum(e is not None and e.low > 0 for e in each)
            worse = sum(e is not None and e.high < 0 for e in each)
            if mean is not None and change is not None:
                lines.append(
                    rf"${multiplier:g}$ & {mean.mean:.3f} & ${change.mean:+.3f}$ "
                    rf"[{change.low:+.3f}, {change.high:+.3f}] & {better} & {worse} & "
                    rf"{len(names) - better - worse} \\"
                )
        return ("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n").encode()


def extremes(tables: Sequence[ScoreTable]) -> list[float]:
    """-1 and +1 where they were measured, else the lowest and highest multiplier."""
    steered = sorted({m for t in tables for m in t.swept_multipliers if m})
    if not steered:
        return []
    return [m for m in (-1.0, 1.0) if m in steered] or list(
        dict.fromkeys([steered[0], steered[-1]])
    )


def changes(table: ScoreTable, multiplier: float) -> list[tuple[int, Estimate]]:
    """(layer, change against multiplier 0) where both were measured."""
    points = [(n, table.change((n, multiplier), (n, 0.0))) for n in table.layers]
    return [(n, e) for n, e in points if e is not None]
