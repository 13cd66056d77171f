"""The figures of plot_activations.py: pictures of activations with their numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.activations.layer_measures import LayerMeasures
from utils.activations.saved import Floats, Source
from utils.drawing.activation_plots import (
    ANSWERS,
    PARTS,
    answer_entries,
    draw_answers,
    draw_variance,
)
from utils.drawing.files import write_numbers
from utils.drawing.line_plots import line_figure
from utils.drawing.panels import Line, Panel
from utils.drawing.plotting import COLUMN_WIDTH, PAGE_WIDTH, draw_legend, drawing, finish
from utils.files.paths import Paths
from utils.files.subsets import ranges
from utils.stats import Estimate
from utils.text.number_tables import tab_separated, text_table

Letters = Sequence[tuple[str, str]]
Measured = Mapping[int, LayerMeasures]
Rows = list[tuple[list[str], Estimate]]

FEW_LAYERS = 7
PAGE_COLUMNS, PANEL_HEIGHT = 5, 1.2
COMPONENTS = ("layer", "pair", "answer", "letter", "pc1", "pc2", "share1", "share2")
REMOVED = tuple(f"{name}_letters_removed" for name in COMPONENTS[4:])
# What each line of the separation's figure shows, and its attribute of Separation.
MEASURES = {
    "AUROC, same letter": "auroc",
    "paired accuracy": "paired",
    "AUROC, any letter": "auroc_any",
}
ONLY_IN_TEXT = {"paired accuracy, letters not removed": "paired_any"}
SHARES = ("pc1", "pc2", "difference", "letter")
LEAST_SEPARATION = (0.4, 1.0)


@dataclass(frozen=True)
class View:
    """Which principal components a picture shows.

    Attributes:
        title: what was done to the activations.
        part: of the names of its pages.
    """

    title: str
    part: str

    def of(self, measures: LayerMeasures) -> tuple[Floats, Floats]:
        """Coordinates, shape (2 * pairs, 2), and the components' shares of variance."""
        if self is LETTERS_REMOVED:
            return measures.without_letters
        return measures.coordinates, np.array([measures.shares.pc1, measures.shares.pc2])


AS_THEY_ARE = View("as they are", "")
LETTERS_REMOVED = View("each letter's mean removed", "_letters_removed")


def percent(share: float) -> str:
    """A share as it stands on an axis: whole per cent, decimals near 0 and 100."""
    value = 100 * share
    return f"{value:{'.1g' if value < 1 else '.0f' if value <= 99 else '.1f'}} %"


class ActivationFigures:
    """Draws the figures of one model.

    Args:
        model: its name as it stands in file names.
        names: a name for people for each behaviour's id.
        paths: where to write.
    """

    def __init__(self, model: str, names: Mapping[str, str], paths: Paths) -> None:
        self.model, self.names, self.paths = model, names, paths

    def scatter(self, source: Source, layer: int, measures: LayerMeasures) -> None:
        """One layer's answers on their two principal components, with the letters and without."""
        path = self._path(f"PCA_layer={layer}", source.behavior)
        with drawing(1, 2, size=(PAGE_WIDTH, 3.2)) as (figure, grid):
            for axes, view in zip(grid.flat, (AS_THEY_ARE, LETTERS_REMOVED), strict=True):
                coordinates, shares = view.of(measures)
                draw_answers(axes, coordinates, source.letters, size=14)
                axes.set_title(view.title, loc="left")
                axes.set_xlabel(f"PC1 ({percent(shares[0])} of the variance)")
                axes.set_ylabel(f"PC2 ({percent(shares[1])})")
            title = f"{self.names[source.behavior]}, layer {layer}"
            draw_legend(figure, *answer_entries(grid[0, 0], source.letters), title)
            finish(figure, path, title, self._note([source]))
        write_numbers(path, component_table({layer: measures}, source.letters, both=True))

    def page(self, source: Source, measured: Measured, view: View) -> None:
        """All layers' scatters on one page; the shares of PC1 and PC2 beside each title."""
        start = f"PCA{chosen_layers(source) or '_all_layers'}{view.part}"
        path = self._path(start, source.behavior)
        columns = min(PAGE_COLUMNS, len(measured))
        lines = -(-len(measured) // columns)
        size = (PAGE_WIDTH, PANEL_HEIGHT * lines + 0.8)
        with drawing(lines, columns, size=size) as (figure, grid):
            places = list(grid.flat)
            for axes, (layer, measures) in zip(places, measured.items(), strict=False):
                coordinates, found = view.of(measures)
                draw_answers(axes, coordinates, source.letters, size=4)
                axes.set_title(f"layer {layer}", loc="left", fontsize=7.5, pad=2)
                shares = ", ".join(map(percent, found))
                axes.set_title(shares, loc="right", fontsize=6, pad=2, color="#666666")
                axes.set_xticks([])
                axes.set_yticks([])
            for axes in places[len(measured) :]:
                axes.set_visible(False)
            for axes in places[max(0, len(measured) - columns) : len(measured)]:
                axes.set_xlabel("PC1", fontsize=7.5, labelpad=2)
            for axes in grid[:, 0]:
                axes.set_ylabel("PC2", fontsize=7.5, labelpad=2)
            title = f"{self.names[source.behavior]}: activations, {view.title}"
            draw_legend(figure, *answer_entries(places[0], source.letters), title)
            explained = "above each panel the shares of PC1 and PC2 in the variance"
            finish(figure, path, title, f"{self._note([source])}; {explained}")
        text = component_table(measured, source.letters, view)
        write_numbers(path, text)

    def separation(self, source: Source, measured: Measured) -> None:
        """How well held-out pairs are told apart at every layer; of one layer the text only."""
        panel, rows = self._separation_panel(source, measured)
        path = self._path(f"separation{chosen_layers(source)}", source.behavior)
        if len(measured) > 1:
            line_figure([panel], path, note=self._note([source], intervals=True))
        write_numbers(path, text_table(["layer", "measure"], rows))

    def separations(self, shown: Sequence[tuple[Source, Measured]]) -> None:
        """The same of several behaviours at the same layers, a panel each."""
        panels, rows = [], []
        for source, measured in shown:
            panel, found = self._separation_panel(source, measured)
            panels.append(panel)
            rows += [([source.behavior, *keys], estimate) for keys, estimate in found]
        some = max(chosen_layers(source) for source, _ in shown)
        path = self._path(f"SEPARATION{some}")
        several = len(shown[0][1]) > 1
        if several:
            note = self._note([source for source, _ in shown], intervals=True)
            line_figure(panels, path, note=note)
        write_numbers(path, text_table(["behavior", "layer", "measure"], rows))

    def variance(self, source: Source, measured: Measured) -> None:
        """What the variance comes from at every layer; of one layer the text only."""
        path = self._path(f"variance{chosen_layers(source)}", source.behavior)
        if len(measured) > 1:
            with drawing(size=(COLUMN_WIDTH, 3.2)) as (figure, ((axes,),)):
                draw_variance(axes, measured)
                note = f"{self._note([source])}; areas add up to 1; PC: principal component"
                title = self.names[source.behavior]
                handles, labels = axes.get_legend_handles_labels()
                draw_legend(figure, handles, labels, title)
                finish(
                    figure,
                    path,
                    title,
                    note,
                )
        rows = []
        for layer, measures in measured.items():
            found = [getattr(measures.shares, name) for name in SHARES]
            found += [getattr(measures.parts, name) for name in PARTS]
            rows.append([str(layer), *("-" if s is None else f"{s:.6f}" for s in found)])
        header = ["layer", *SHARES, *(f"part_{name}" for name in PARTS)]
        write_numbers(path, tab_separated(header, rows))

    def _separation_panel(self, source: Source, measured: Measured) -> tuple[Panel, Rows]:
        lines: list[Line] = []
        rows: Rows = []
        for label, attribute in (MEASURES | ONLY_IN_TEXT).items():
            found = {n: getattr(m.separation, attribute) for n, m in measured.items()}
            known = {n: estimate for n, estimate in found.items() if estimate is not None}
            # A line without points keeps its colour: it is the same in every panel.
            if label in MEASURES:
                lines.append(Line(label, list(known), list(known.values())))
            rows += [([str(n), label], estimate) for n, estimate in known.items()]
        ticks = list(measured) if len(measured) <= FEW_LAYERS else []
        y_label = "separation of held-out pairs"
        panel = Panel(
            lines, "layer", y_label, self.names[source.behavior], whole_x=True, x_ticks=ticks
        )
        panel.reference, panel.least = 0.5, LEAST_SEPARATION
        return panel, rows

    def _note(self, sources: Sequence[Source], *, intervals: bool = False) -> str:
        """Model and number of pairs of every figure."""
        counts = sorted({len(source.letters) for source in sources})
        pairs = f"{counts[0]} pairs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} pairs"
        held_out = "; 95 % intervals over held-out pairs" if intervals else ""
        return f"{self.model}; {pairs}{held_out}"

    def _path(self, start: str, behavior: str | None = None) -> Path:
        return self.paths.figure(f"{start}_model={self.model}", behavior)


def chosen_layers(source: Source) -> str:
    """Part of the names of figures over layers if those are not all that are saved.

    So a figure over some layers does not replace the one over all of them.
    """
    return f"_layers={ranges(source.layers)}" if source.some else ""


def component_table(
    measured: Measured, letters: Letters, view: View = AS_THEY_ARE, *, both: bool = False
) -> bytes:
    """Every point of a scatter: pair (from 1, in the order of the data file), answer, letter.

    Args:
        measured: layer -> what was measured.
        letters: of every pair.
        view: whose coordinates; or ``both``, in columns of their own.
    """
    views = [AS_THEY_ARE, LETTERS_REMOVED] if both else [view]
    rows = []
    for layer, measures in measured.items():
        for place in range(2 * len(letters)):
            answer, pair = divmod(place, len(letters))
            keys = [str(layer), str(pair + 1), ANSWERS[answer], letters[pair][answer]]
            for each in views:
                coordinates, shares = each.of(measures)
                keys += [f"{value:.6g}" for value in coordinates[place]]
                keys += [f"{share:.6f}" for share in shares]
            rows.append(keys)
    return tab_separated([*COMPONENTS, *(REMOVED if both else ())], rows)
