"""Figures of a vector's effects before the grey band of its controls, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from behaviors import Behavior
from utils.drawing.files import write_numbers
from utils.figures.album import Job
from utils.files.contents import combined_digest, read_measured
from utils.files.names import DOSE, Cell, Variant, format_strength, other_unit
from utils.files.paths import Paths, record_path
from utils.files.subsets import part, ranges
from utils.scores.control_effects import Controls, Effect, effects_of, read_controls
from utils.scores.control_report import (
    HEADER,
    band,
    by_strength,
    effect_rows,
    strength_text,
    strongest,
)
from utils.scores.control_rows import CONTENT, LETTER
from utils.scores.tables import model_name
from utils.stats import Estimate
from utils.text.number_tables import tab_separated

if TYPE_CHECKING:
    from utils.drawing.panels import Band

# Drawn in grey: what went through the same pipeline before what did not.
BEHIND = ("shuffled", "random")
FEW_TICKS = 7


@dataclass(frozen=True)
class ControlPlan:
    """The controls of one behaviour that are to be shown.

    Attributes:
        variant: whose; its unit is that of strengths.
        cells: what was read.
        hashes: cell -> hash of its files.
        whole: all cells that there are.
        factors: layer -> what a strength is multiplied by to have it in the other unit.
    """

    behavior: Behavior
    variant: Variant
    cells: Mapping[Cell, Controls]
    hashes: Mapping[Cell, str]
    whole: frozenset[Cell]
    factors: Mapping[int, float]

    @property
    def effects(self) -> list[Effect]:
        return effects_of(self.cells)

    @property
    def _doses(self) -> Mapping[int, float]:
        """Layer -> the dose of strength 1, where it is known."""
        if self.variant.unit == DOSE:
            return {layer: 1.0 for layer, _ in self.cells}
        return {layer: abs(factor) for layer, factor in self.factors.items()}

    def jobs(self) -> list[Job[Paths]]:
        """Effect against strength, at the layer where it is largest; against layer, for each."""
        layer = strongest(self.effects).layer
        jobs = [self._at_layer(layer)]
        for swept in by_strength(self.effects).values():
            if len(swept) > 1:
                jobs.append(self._over_layers(swept))
        return jobs

    def _at_layer(self, layer: int) -> Job[Paths]:
        cells = {cell: found for cell, found in self.cells.items() if cell[0] == layer}
        stem = f"controls_{self.variant.unit}s_{self.variant.stem(layer)}"
        of_layer = {s for n, s in self.whole if n == layer}
        shown = {s for _, s in cells}
        some = ",".join(f"{s:g}" for s in sorted(shown)) if shown != of_layer else ""

        def draw(aside: Paths) -> None:
            points = {s: cells[n, s] for n, s in sorted(cells)}
            # the unsteered model has no change
            zero = {0.0: Estimate(0.0, 0.0, 0.0, 0)}
            title = f"{self.behavior.name}, layer {layer}"
            effects = [Effect(layer, s, False, found) for s, found in points.items()]
            effects += [e for e in effects_of(cells) if e.both]
            self._draw(aside, stem, points, zero, title, self.variant.unit, effects)

        return self._job(stem, list(cells), draw, part(**{f"{self.variant.unit}s": some}))

    def _over_layers(self, swept: Sequence[Effect]) -> Job[Paths]:
        effect = swept[0]
        strength = format_strength(effect.strength) + ("" if effect.both else "_alone")
        stem = f"CONTROLS_SWEEP_{self.variant.unit}={strength}_{self.variant.stem()}"
        layers = {e.layer for e in swept}
        every = {n for n, s in self.whole if abs(s) == abs(effect.strength)}
        signs = (1, -1) if effect.both else (1,)
        cells = [(n, sign * effect.strength) for n in sorted(layers) for sign in signs]

        def draw(aside: Paths) -> None:
            points = {float(e.layer): e.controls for e in swept}
            title = f"{self.behavior.name}, {self.variant.unit} {strength_text(effect)}"
            self._draw(aside, stem, points, {}, title, "layer", swept)

        shown = ranges(layers) if layers != every else ""
        return self._job(stem, cells, draw, part(layers=shown))

    def _job(
        self, stem: str, cells: Sequence[Cell], draw: Callable[[Paths], object], shown: str
    ) -> Job[Paths]:
        group = f"controls/{self.behavior.id}, {self.variant.unit}s: {self.variant.stem()}"
        items = {
            f"layer={n}_{self.variant.unit}={format_strength(s)}": self.hashes[n, s]
            for n, s in sorted(cells)
        }
        return Job(
            key=stem,
            sources={group: items},
            draw=draw,
            behavior=self.behavior.id,
            part=shown,
            options={"names": {self.behavior.id: self.behavior.name}, "columns": HEADER},
        )

    def _draw(
        self,
        aside: Paths,
        stem: str,
        points: Mapping[float, Controls],
        fixed: dict[float, Estimate],
        title: str,
        x_label: str,
        numbers: Sequence[Effect],
    ) -> None:
        """Content and letter over one another, each before its band.

        Args:
            aside: where to draw.
            stem: of the file.
            points: x -> what was found there.
            fixed: x -> what is known there without controls.
            title, x_label: texts.
            numbers: what the figure's text holds.
        """
        from utils.drawing.fonts import shown_names
        from utils.drawing.line_plots import stacked_figure
        from utils.drawing.panels import Line, Panel

        name = shown_names({self.behavior.id: self.behavior.name})[self.behavior.id]
        panels = []
        what = "effect on" if x_label == "layer" else "change of"
        for quantity in (CONTENT, LETTER):
            found = {x: e for x, c in points.items() if (e := c.estimate(quantity)) is not None}
            found = dict(sorted((found | fixed).items()))
            line = Line(f"vector of {name}", list(found), list(found.values()))
            panel = Panel([line], x_label, f"{what} {quantity}, logits", reference=0.0)
            panel.band = _band(points, fixed, quantity)
            panel.whole_x = x_label == "layer"
            panel.x_ticks = list(found) if fixed and len(found) <= FEW_TICKS else []
            panels.append(panel)
        factor = self.factors.get(numbers[0].layer)
        if x_label != "layer" and factor is not None:
            panels[0].second = (other_unit(self.variant.unit), factor)
        kept = next(iter(points.values())).kept
        asked = len(next(iter(points.values())).questions[CONTENT]) - kept
        note = f"{model_name(self.variant)}; {asked} questions in both orders of their choices; "
        note += "95 % intervals over questions"
        path = aside.figure(stem, self.behavior.id)
        stacked_figure(panels, path, title=title, note=note)
        write_numbers(path, tab_separated(HEADER, effect_rows(numbers, self._doses)))


def _band(
    points: Mapping[float, Controls], fixed: dict[float, Estimate], quantity: str
) -> Band | None:
    """The band of the first kind of controls that every point has; ``None`` for none."""
    from utils.drawing.panels import Band

    for kind in BEHIND:
        found = {x: band(c.draws(kind, quantity)) for x, c in points.items()}
        whole = dict(sorted(({x: e for x, e in found.items() if e is not None} | fixed).items()))
        if points and len(whole) == len({*points, *fixed}):
            draws = max(e.n for e in whole.values())
            label = f"{draws} {kind} controls, 2.5 to 97.5 %"
            edges = [(e.low, e.high) for e in whole.values()]
            return Band(label, list(whole), [a for a, _ in edges], [b for _, b in edges])
    return None


def find_controls(
    behavior: Behavior,
    variant: Variant,
    paths: Paths,
    layers: Sequence[int] | None,
    strengths: Sequence[float] | None,
) -> ControlPlan | None:
    """What there is of one behaviour and variant, at the layers and strengths asked for.

    Raises:
        UserError: see :meth:`utils.scores.control_effects.Controls.read`.
    """
    names = {n.cell: n for n in paths.controls_of(behavior.id) if n.variant == variant}
    chosen = {
        cell: paths.controls(name)
        for cell, name in names.items()
        if (layers is None or cell[0] in layers) and (strengths is None or cell[1] in strengths)
    }
    if not chosen:
        return None
    factors = {}
    for (layer, strength), path in chosen.items():
        other = read_measured(path).get(other_unit(variant.unit))
        if isinstance(other, int | float):
            factors[layer] = other / strength
    hashes = {c: combined_digest([path, record_path(path)]) for c, path in chosen.items()}
    cells = read_controls(chosen)
    return ControlPlan(behavior, variant, cells, hashes, frozenset(names), factors)
