"""What the figures of scores show: from score tables to panels, and rows of their texts.

Where the question is a change, the panel shows the change: its interval is that of the same
questions with and without steering, many times narrower than that of a score.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from utils.data.kinds_of_test import Test
from utils.drawing.palette import COLORS
from utils.drawing.panels import Line, Panel
from utils.files.names import MULTIPLIER, Cell, other_unit
from utils.scores.tables import ScoreTable, variant_label
from utils.stats import Estimate
from utils.text.numbers import signed

Rows = list[tuple[list[str], Estimate]]
SCORE, CHANGE, EFFECT = "score", "change", "effect"
EFFECTS = ("content", "letter")
# At one half, a probability changes by a fourth as much.
LOGITS = 0.2
LEVEL_HEIGHT, SHARE_HEIGHT = 0.55, 0.35
FEW_TICKS = 7
# From the strongest on; grey is no steering.
NEGATIVE = (COLORS[0], COLORS[5], "#a9d6f2")
POSITIVE = (COLORS[1], COLORS[4], "#f3cf86")
UNSTEERED = "#777777"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def strength_cells(table: ScoreTable, cell: Cell) -> list[str]:
    """A cell's strength in both units, as a table's two columns."""
    other = 0.0 if cell[1] == 0 else table.converted.get(cell)
    return [f"{cell[1]:g}", "-" if other is None else f"{other:.4g}"]


def strength_label(strength: float, tables: Sequence[ScoreTable], layer: int | None = None) -> str:
    """A strength, and what it is in the other unit, which differs from layer to layer."""
    unit = tables[0].variant.unit
    other = other_unit(unit)
    label = f"{unit} {signed(strength)}"
    found = [
        abs(v)
        for t in tables
        for (n, s), v in t.converted.items()
        if s == strength and layer in (None, n)
    ]
    if not strength or not found:
        return label
    low, high = _short(min(found)), _short(max(found))
    sign = "\N{MULTIPLICATION SIGN}" if other == MULTIPLIER else f"{other} "
    return f"{label} ({sign}{low if low == high else f'{low} to {high}'})"


def strength_colors(strengths: Iterable[float]) -> dict[float, str]:
    """Blue against the vector, orange with it, paler where weaker, grey without."""
    some = sorted(set(strengths))
    ordered = {
        NEGATIVE: [s for s in some if s < 0],
        POSITIVE: [s for s in reversed(some) if s > 0],
    }
    colors = {
        s: palette[min(i, len(palette) - 1)]
        for palette, found in ordered.items()
        for i, s in enumerate(found)
    }
    return colors | ({0.0: UNSTEERED} if 0.0 in some else {})


def known(points: Iterable[tuple[float, Estimate | None]]) -> list[tuple[float, Estimate]]:
    return [(x, e) for x, e in points if e is not None]


def line_of(
    label: str, points: Iterable[tuple[float, Estimate | None]], color: str | None = None
) -> Line:
    """A line through the points that there are."""
    found = known(points)
    return Line(label, [x for x, _ in found], [e for _, e in found], color)


def missing_share(e: Estimate) -> Estimate:
    """The share of questions without a score, of the questions of a score; no interval."""
    share = e.missing / (e.n + e.missing)
    return Estimate(share, share, share, 0)


def counted_from(tables: Sequence[ScoreTable]) -> str:
    """What changes are counted from, for an axis."""
    found = {t.base_strength for t in tables if t.base_strength is not None}
    if found <= {0.0}:
        return "unsteered"
    names = [f"{tables[0].variant.unit} {signed(s)}" if s else "unsteered" for s in sorted(found)]
    return " or ".join(names)


def measured(table: ScoreTable, cell: Cell, quantity: str) -> Estimate | None:
    """A score, or its paired change (0 of the cell that changes are counted from)."""
    return table.score(cell) if quantity == SCORE else table.change(cell, table.base(cell[0]))


class ScorePanels:
    """The panels of one test's scores.

    Args:
        test: what was measured.
    """

    def __init__(self, test: Test) -> None:
        self.test, self.scale = test, test.scale

    def change_name(self, tables: Sequence[ScoreTable]) -> str:
        """The axis of figures that show nothing but changes."""
        return f"change of {self.test.score_name} against {counted_from(tables)}"

    def changes(self, lines: list[Line], x_label: str, base: str, title: str = "") -> Panel:
        reach = self.scale.change
        return Panel(
            lines,
            x_label,
            f"change against {base}",
            title,
            reference=0.0,
            least=(-reach, reach),
        )

    def levels(self, lines: list[Line], x_label: str, title: str = "") -> Panel:
        """Scores, on an axis of all that are possible."""
        return Panel(
            lines,
            x_label,
            self.test.score_name,
            title,
            reference=self.scale.chance,
            least=self.scale.level,
            height=LEVEL_HEIGHT,
        )

    def without_score(self, levels: Panel) -> list[Panel]:
        """The share of questions without a score, if there are any."""
        if not any(e.missing for line in levels.lines for e in line.y):
            return []
        lines = [
            Line(line.label, line.x, [missing_share(e) for e in line.y], line.color)
            for line in levels.lines
        ]
        panel = Panel(lines, levels.x_label, "share unscored", x_ticks=levels.x_ticks)
        panel.least, panel.height, panel.whole_x = (0, 1), SHARE_HEIGHT, levels.whole_x
        return [panel]

    def over_layers(self, table: ScoreTable) -> tuple[list[Panel], Rows]:
        """Change and score against layer, a line per strength."""
        colors = strength_colors(table.swept_strengths)
        rows: Rows = []
        panels = {}
        for quantity in (CHANGE, SCORE):
            lines = []
            for strength in table.swept_strengths:
                cells = [(n, strength) for n in table.layers]
                measure = table.score if quantity == SCORE else table.steered_change
                points = [(float(cell[0]), measure(cell)) for cell in cells]
                line = line_of(strength_label(strength, [table]), points, colors.get(strength))
                if line.x:
                    lines.append(line)
                rows += [
                    ([f"{n:g}", *strength_cells(table, (int(n), strength)), quantity], e)
                    for n, e in known(points)
                ]
            panels[quantity] = lines
        level = self.levels(panels[SCORE], "layer")
        level.intervals = not panels[CHANGE]
        shown = [level]
        if panels[CHANGE]:
            shown = [self.changes(panels[CHANGE], "layer", counted_from([table])), level]
        shown += self.without_score(level)
        for panel in shown:
            panel.whole_x = True
        return shown, rows

    def over_strengths(self, tables: Sequence[ScoreTable], layer: int) -> tuple[list[Panel], Rows]:
        """Change and score against strength at one layer, a line per variant; none if no scores."""
        unit = tables[0].variant.unit
        ticks = sorted({m for t in tables for n, m in t.scores if n == layer})
        lines: dict[str, list[Line]] = {SCORE: [], CHANGE: []}
        rows: Rows = []
        for quantity, found in lines.items():
            for table in tables:
                label = variant_label(table.variant)
                points = [(m, measured(table, (layer, m), quantity)) for m in ticks]
                line = line_of(label, points)
                # what changes are counted from is no change
                if len(line.x) > (quantity == CHANGE):
                    found.append(line)
                rows += [
                    ([label, *strength_cells(table, (layer, m)), quantity], e)
                    for m, e in known(points)
                    if line in found
                ]
        if not lines[SCORE]:
            return [], []
        level = self.levels(lines[SCORE], unit)
        shown = [level, *self.without_score(level)]
        if lines[CHANGE]:
            shown.insert(0, self.changes(lines[CHANGE], unit, counted_from(tables)))
        for panel in shown:
            panel.x_ticks = ticks if len(ticks) <= FEW_TICKS else []
        shown[0].second = second_axis(tables, layer)
        return shown, rows

    def effects(self, table: ScoreTable, layer: int) -> tuple[list[Panel], Rows]:
        """Content and letter effect against strength at one layer: their changes, and they."""
        base = table.base(layer)
        cells = sorted(cell for cell in table.effects if cell[0] == layer)
        starts = {EFFECT: None} if base is None or len(cells) < 2 else {CHANGE: base, EFFECT: None}
        rows: Rows = []
        panels = []
        for quantity, start in starts.items():
            lines = []
            for name in EFFECTS:
                found = known((cell[1], table.effect(name, cell, start)) for cell in cells)
                lines.append(line_of(name, found))
                rows += [
                    ([name, *strength_cells(table, (layer, s)), quantity], e) for s, e in found
                ]
            of = f"change against {counted_from([table])}" if start else "effect"
            panel = Panel(lines, table.variant.unit, f"{of}, logits", reference=0.0)
            panel.least = (-LOGITS, LOGITS)
            panel.x_ticks = [s for _, s in cells] if len(cells) <= FEW_TICKS else []
            panels.append(panel)
        panels[0].second = second_axis([table], layer)
        return (panels, rows) if rows else ([], [])

    def level_text(self, table: ScoreTable, layers: Sequence[int]) -> str:
        """Where changes are counted from, and the share without a score, as a short text."""
        base = table.base(layers[0])
        level = None if base is None else table.score(base)
        if base is None or level is None:
            return ""
        name = "unsteered" if base[1] == 0 else f"at {signed(base[1])}"
        texts = [f"{name} {level.mean:.{self.scale.digits}f}"]
        scores = [table.score(cell) for cell in table.scores if cell[0] in layers]
        shares = [100 * missing_share(e).mean for e in scores if e is not None]
        if any(shares):
            low, high = round(min(shares)), round(max(shares))
            texts.append(f"{low} to {high} % no score" if low < high else f"{low} % no score")
        return "; ".join(texts)


def second_axis(tables: Sequence[ScoreTable], layer: int) -> tuple[str, float] | None:
    """The other unit and its factor, if that is the same for all."""
    factors = {t.factor(layer) for t in tables if any(n == layer for n, _ in t.scores)}
    factor = factors.pop() if len(factors) == 1 else None
    return None if factor is None else (other_unit(tables[0].variant.unit), factor)
