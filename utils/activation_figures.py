"""The figures of plot_activations.py: pictures of activations with their numbers beside them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from utils.durable import write_bytes
from utils.figure_style import STYLE, Axes, Figure, MaxNLocator
from utils.line_plots import Line, Panel, line_figure
from utils.paths import Paths
from utils.plotting import (
    COLORS,
    COLUMN_WIDTH,
    MARKERS,
    PAGE_WIDTH,
    drawing,
    save_figure,
)
from utils.saved_activations import Floats, Source
from utils.separation import LayerMeasures
from utils.similarity import ranges
from utils.stats import Estimate
from utils.tables import text_table

Letters = Sequence[tuple[str, str]]
Measured = Mapping[int, LayerMeasures]
Rows = list[tuple[list[str], Estimate]]

ANSWERS = ("matching", "other")
FEW_LAYERS = 7
SCATTER_SIZE = (4.2, 3.5)
PAGE_COLUMNS, PANEL_HEIGHT = 5, 1.2
# Small points: of the markers, a circle and a triangle are told apart best.
OTHER_MARKER = "*"
LETTER_MARKERS = dict(zip("ABCDEF", [MARKERS[0], *MARKERS[2:]], strict=True))
COMPONENTS = ("layer", "pair", "answer", "letter", "pc1", "pc2", "share1", "share2")
# What each line of the separation's figure shows, and its attribute of Separation.
MEASURES = {
    "AUROC, same letter": "auroc",
    "paired accuracy": "paired",
    "AUROC, any letter": "auroc_any",
}
ONLY_IN_TEXT = {"paired accuracy, letters not removed": "paired_any"}
COMPONENT_SHARES = {"PC1": "pc1", "PC2": "pc2"}
DIRECTION_SHARES = {
    "matching \N{MINUS SIGN} other": "difference",
    "letter A \N{MINUS SIGN} letter B": "letter",
}


def percent(share: float) -> str:
    """A share as it stands on an axis: whole per cent, decimals near 0 and 100."""
    value = 100 * share
    return f"{value:{'.1g' if value < 1 else '.0f' if value <= 99 else '.1f'}} %"


class ActivationFigures:
    """Draws the figures of one model and keeps the list of what was written.

    Args:
        model: its name as it stands in file names.
        names: a name for people for each behaviour's id.
        paths: where to write.
    """

    def __init__(self, model: str, names: Mapping[str, str], paths: Paths) -> None:
        self.model, self.names, self.paths = model, names, paths
        self.written: list[Path] = []

    def scatter(self, source: Source, layer: int, measures: LayerMeasures) -> None:
        """One layer's answers on their two principal components."""
        path = self._path(f"PCA_layer={layer}", source.behavior)
        shares = measures.shares
        with drawing(size=SCATTER_SIZE) as (figure, ((axes,),)):
            draw_answers(axes, measures.coordinates, source.letters, size=14)
            axes.set_title(f"{self.names[source.behavior]}, layer {layer}", loc="left")
            axes.set_xlabel(f"PC1 ({percent(shares.pc1)})")
            axes.set_ylabel(f"PC2 ({percent(shares.pc2)})")
            draw_legend(figure, axes, source.letters)
            save_figure(figure, path)
        self._finish(path, component_table({layer: measures}, source.letters))

    def page(self, source: Source, measured: Measured) -> None:
        """All layers' scatters on one page; the shares of PC1 and PC2 beside each title."""
        path = self._path(f"PCA{chosen_layers(source) or '_all_layers'}", source.behavior)
        columns = min(PAGE_COLUMNS, len(measured))
        lines = -(-len(measured) // columns)
        size = (PAGE_WIDTH, PANEL_HEIGHT * lines + 0.7)
        with drawing(lines, columns, size=size) as (figure, grid):
            places = list(grid.flat)
            for axes, (layer, measures) in zip(places, measured.items(), strict=False):
                draw_answers(axes, measures.coordinates, source.letters, size=4)
                shares = f"{percent(measures.shares.pc1)}, {percent(measures.shares.pc2)}"
                axes.set_title(f"layer {layer}", loc="left", fontsize=7.5, pad=2)
                axes.set_title(shares, loc="right", fontsize=6, pad=2, color="#666666")
                axes.set_xticks([])
                axes.set_yticks([])
            for axes in places[len(measured) :]:
                axes.set_visible(False)
            title = f"{self.names[source.behavior]}: PC2 against PC1, and their shares of variance"
            figure.suptitle(title, fontsize=STYLE["axes.titlesize"], x=0.02, ha="left")
            draw_legend(figure, places[0], source.letters)
            save_figure(figure, path)
        self._finish(path, component_table(measured, source.letters))

    def separation(self, source: Source, measured: Measured) -> None:
        """How well held-out pairs are told apart at every layer; of one layer the text only."""
        panel, rows = self._separation_panel(source, measured)
        path = self._path(f"separation{chosen_layers(source)}", source.behavior)
        if len(measured) > 1:
            line_figure([panel], path)
        self._finish(path, text_table(["layer", "measure"], rows), drawn=len(measured) > 1)

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
            line_figure(panels, path)
        self._finish(path, text_table(["behavior", "layer", "measure"], rows), drawn=several)

    def variance(self, source: Source, measured: Measured) -> None:
        """What the variance consists of at every layer; of one layer the text only."""
        path = self._path(f"variance{chosen_layers(source)}", source.behavior)
        if len(measured) > 1:
            with drawing(size=(COLUMN_WIDTH, 2.9)) as (figure, ((axes,),)):
                draw_shares(axes, measured)
                axes.set_title(self.names[source.behavior], loc="left")
                handles = axes.get_legend_handles_labels()
                figure.legend(*handles, loc="outside upper center", ncols=4, frameon=False)
                save_figure(figure, path)
        names = [*COMPONENT_SHARES.values(), *DIRECTION_SHARES.values()]
        rows = []
        for layer, measures in measured.items():
            shares = [getattr(measures.shares, name) for name in names]
            rows.append([str(layer), *("-" if s is None else f"{s:.6f}" for s in shares)])
        self._finish(path, table(["layer", *names], rows), drawn=len(measured) > 1)

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
        panel.reference = 0.5
        return panel, rows

    def _path(self, start: str, behavior: str | None = None) -> Path:
        return self.paths.figure(f"{start}_model={self.model}", behavior)

    def _finish(self, picture: Path, text: bytes, *, drawn: bool = True) -> None:
        numbers = picture.with_suffix(".txt")
        write_bytes(numbers, text)
        self.written += [picture, numbers] if drawn else [numbers]


def chosen_layers(source: Source) -> str:
    """Part of the names of figures over layers if those are not all that are saved.

    So a figure over some layers does not replace the one over all of them.
    """
    return f"_layers={ranges(source.layers)}" if source.some else ""


def draw_answers(axes: Axes, coordinates: Floats, letters: Letters, *, size: float) -> None:
    """Points: the colour says matching or other, the marker says the letter.

    Args:
        axes: where.
        coordinates: shape (2 * pairs, 2), matching first.
        letters: of every pair, matching and other.
        size: area of a point in square points.
    """
    pairs = len(letters)
    # Pair by pair: drawn one after another, one answer would hide the other.
    order = np.arange(2 * pairs).reshape(2, pairs).T.ravel()
    letter = np.array(letters).ravel()
    color = np.array([COLORS[0], COLORS[1]] * pairs)
    for each in np.unique(letter):
        here = letter == each
        x, y = coordinates[order[here]].T
        marker = LETTER_MARKERS.get(str(each), OTHER_MARKER)
        axes.scatter(x, y, s=size, c=color[here], marker=marker, alpha=0.65, linewidths=0)
    axes.set_axisbelow(True)


def draw_shares(axes: Axes, measured: Measured) -> None:
    """Shares of variance against layer: components broad and pale, directions above them.

    A component often is one of the directions, and would be hidden by it.
    """
    for index, (label, name) in enumerate((COMPONENT_SHARES | DIRECTION_SHARES).items()):
        shares = [getattr(measures.shares, name) for measures in measured.values()]
        y = [np.nan if share is None else share for share in shares]
        if label in COMPONENT_SHARES:
            axes.plot(list(measured), y, color=COLORS[index], label=label, lw=6, alpha=0.45)
        else:
            marker = MARKERS[index]
            axes.plot(list(measured), y, color=COLORS[index], label=label, marker=marker, lw=1.2)
    axes.set_xlabel("layer")
    axes.set_ylabel("share of variance along")
    axes.set_ylim(-0.03, 1.03)
    if len(measured) <= FEW_LAYERS:
        axes.set_xticks(list(measured))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))


def draw_legend(figure: Figure, axes: Axes, letters: Letters) -> None:
    """What colours and markers mean, once for the figure."""
    entries = [(name, "o", COLORS[i]) for i, name in enumerate(ANSWERS)]
    for letter in np.unique(np.array(letters)):
        marker = LETTER_MARKERS.get(str(letter), OTHER_MARKER)
        entries.append((f"letter {letter}", marker, "#666666"))
    for name, marker, color in entries:
        axes.plot([], [], linestyle="", marker=marker, color=color, label=name)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(entries), 5),
        columnspacing=1.2,
        handletextpad=0.1,
        frameon=False,
    )


def component_table(measured: Measured, letters: Letters) -> bytes:
    """Every point of a scatter: pair (from 1, in the order of the data file), answer, letter."""
    rows = []
    for layer, measures in measured.items():
        shares = [f"{measures.shares.pc1:.6f}", f"{measures.shares.pc2:.6f}"]
        for place, (pc1, pc2) in enumerate(measures.coordinates):
            answer, pair = divmod(place, len(letters))
            keys = [str(layer), str(pair + 1), ANSWERS[answer], letters[pair][answer]]
            rows.append([*keys, f"{pc1:.6g}", f"{pc2:.6g}", *shares])
    return table(COMPONENTS, rows)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Tab-separated lines below a header."""
    return "".join("\t".join(line) + "\n" for line in [header, *rows]).encode()
