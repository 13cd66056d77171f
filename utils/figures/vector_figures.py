"""The figures of analyze_vectors.py: from vectors to pictures with their numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, cycle

import numpy as np

from utils.drawing.files import write_numbers
from utils.drawing.heat_maps import HeatMap, heat_map_figure
from utils.drawing.line_plots import line_figure
from utils.drawing.palette import COLORS
from utils.drawing.panels import Line, Panel, exact
from utils.drawing.vector_plots import plane_figure
from utils.files.contents import read_record
from utils.files.paths import Paths
from utils.text.number_tables import tab_separated
from utils.text.numbers import six_digits
from utils.vectors.similarity import Array, cosine_matrix, norms, principal_components, unit
from utils.vectors.vector_set import Key, Series, VectorSet, comparable_models


class VectorFigures:
    """Draws figures; which there are to be drawn, :mod:`utils.figures.vector_plan` says.

    Args:
        vectors: what is compared.
        names: a name for people for each behaviour's id.
        paths: where to write.
    """

    def __init__(self, vectors: VectorSet, names: Mapping[str, str], paths: Paths) -> None:
        self.vectors, self.names, self.paths = vectors, names, paths

    def _made_of(self, model: str, behaviors: Sequence[str]) -> str:
        """A model, and from how many pairs its vectors were made, as far as records tell."""
        counts = set()
        for behavior in behaviors:
            for layer in self.vectors.layers(model, behavior)[:1]:
                path = self.paths.vector(behavior, layer, model, normalized=False)
                inputs = (read_record(path) or {}).get("inputs")
                counts.add(inputs.get("pairs") if isinstance(inputs, dict) else None)
        numbers = sorted(n for n in counts if isinstance(n, int))
        if not numbers or len(numbers) < len(counts):
            return model
        low, high = numbers[0], numbers[-1]
        return f"{model}; vectors of {low if low == high else f'{low} to {high}'} pairs"

    def layers(self, model: str, behavior: str) -> None:
        """Heat map: cosine of every layer with every layer."""
        layers = self.vectors.layers(model, behavior)
        labels = [str(n) for n in layers]
        cosines = cosine_matrix(self.vectors.stack(model, behavior, layers))
        made_of = self._made_of(model, [behavior])
        title = f"{self.names[behavior]}: vectors of different layers\n{made_of}"
        path = self.paths.figure(f"similarity_of_layers_model={model}", behavior)
        heat_map_figure(HeatMap(cosines, labels, title, axis="layer"), path)
        write_numbers(path, matrix_table("layer", labels, cosines))

    def plane(self, model: str, behavior: str) -> None:
        """The layers in the plane of their first two principal components.

        Vectors are taken at length 1: norms grow with depth by orders of magnitude, and the
        components would show little else.
        """
        layers = self.vectors.directed_layers(model, behavior)
        directions = unit(self.vectors.stack(model, behavior, layers))
        points, shares = principal_components(directions)
        made_of = self._made_of(model, [behavior])
        title = f"{self.names[behavior]}: layers, each vector at length 1\n{made_of}"
        path = self.paths.figure(f"pca_of_layers_model={model}", behavior)
        plane_figure(points, shares, layers, path, title)
        rows = [[str(n), *map(six_digits, xy)] for n, xy in zip(layers, points, strict=True)]
        rows.append(["share of variance", *map(six_digits, shares)])
        write_numbers(path, tab_separated(["layer", "component 1", "component 2"], rows))

    def behaviors(self, model: str, layer: int | None) -> None:
        """Heat map: cosine of every behaviour with every behaviour, at a layer or their mean."""
        every = self.vectors.behaviors_of(model)
        shown = [b for b in every if layer is None or layer in self.vectors.layers(model, b)]
        if len(shown) < 2:
            return
        cosines = self.vectors.mean_cosines([(model, b) for b in shown], layer)
        at = "" if layer is None else f"_layer={layer}"
        path = self.paths.figure(f"similarity_of_behaviors{at}_model={model}")
        title = f"Behaviours, {at_layer(layer)}\n{self._made_of(model, shown)}"
        heat_map_figure(HeatMap(cosines, [self.names[b] for b in shown], title), path)
        write_numbers(path, matrix_table("behavior", shown, cosines))

    def behaviors_over_layers(self, model: str) -> None:
        """A panel for each behaviour: its cosine with every other one, over layers."""
        shown = self.vectors.behaviors_of(model)
        titles, lines = [], []
        # Of two, one says it all.
        for behavior in shown if len(shown) > 2 else shown[:1]:
            titles.append(self.names[behavior])
            lines.append(
                [
                    exact(self.names[b], *self.vectors.cosines((model, behavior), (model, b)), c)
                    for b, c in zip(shown, cycle(COLORS), strict=False)
                    if b != behavior
                ]
            )
        if len(shown) == 2:
            titles = [" and ".join(self.names[b] for b in shown)]
        path = self.paths.figure(f"similarity_of_behaviors_over_layers_model={model}")
        title = f"Vectors of each behaviour and of the others\n{self._made_of(model, shown)}"
        line_figure(_cosine_panels(titles, lines), path, title=title)
        pairs = [((model, a), (model, b)) for a, b in combinations(shown, 2)]
        rows = [[a[1], b[1], *row] for a, b in pairs for row in self._rows(a, b)]
        write_numbers(path, tab_separated(["behavior", "other", "layer", "cosine"], rows))

    def _rows(self, first: Series, second: Series) -> list[list[str]]:
        layers, cosines = self.vectors.cosines(first, second)
        return [[str(n), six_digits(c)] for n, c in zip(layers, cosines, strict=True)]

    def _pairs(self, behavior: str) -> list[tuple[str, str]]:
        return comparable_models(self.vectors, behavior)

    def models(self, behavior: str, layer: int | None) -> None:
        """Heat map: cosine of every model with every model, where there are more than two."""
        comparable = {m for pair in self._pairs(behavior) for m in pair}
        shown = [
            m
            for m in self.vectors.models
            if m in comparable and (layer is None or layer in self.vectors.layers(m, behavior))
        ]
        if len(shown) < 3:
            return
        cosines = self.vectors.mean_cosines([(m, behavior) for m in shown], layer)
        at = "" if layer is None else f"_layer={layer}"
        path = self.paths.figure(f"similarity_of_models{at}", behavior)
        title = f"{self.names[behavior]}: models, {at_layer(layer)}"
        heat_map_figure(HeatMap(cosines, shown, title), path)
        write_numbers(path, matrix_table("model", shown, cosines))

    def models_over_layers(self, behavior: str) -> None:
        """Cosine of the models' vectors over layers, a line for each pair of models."""
        pairs = self._pairs(behavior)
        lines, rows = [], []
        for a, b in pairs:
            lines.append(exact(f"{a} / {b}", *self.vectors.cosines((a, behavior), (b, behavior))))
            rows += [[a, b, *row] for row in self._rows((a, behavior), (b, behavior))]
        path = self.paths.figure("similarity_of_models_over_layers", behavior)
        title = f"{self.names[behavior]}: vectors of two models"
        if len(pairs) == 1:
            title += f"\n{lines[0].label}"
        line_figure(_cosine_panels([""], [lines]), path, title=title)
        write_numbers(path, tab_separated(["model", "other", "layer", "cosine"], rows))

    def all_models_over_layers(self) -> None:
        """The same for all behaviours: a panel for each pair of models, a line a behaviour."""
        pairs: dict[tuple[str, str], list[Line]] = {}
        rows = []
        for behavior in self.vectors.behaviors:
            for a, b in self._pairs(behavior):
                found = self.vectors.cosines((a, behavior), (b, behavior))
                pairs.setdefault((a, b), []).append(exact(self.names[behavior], *found))
                rows += [[a, b, behavior, *r] for r in self._rows((a, behavior), (b, behavior))]
        panels = _cosine_panels(["\n".join(pair) for pair in pairs], list(pairs.values()))
        path = self.paths.figure("similarity_of_models_over_layers")
        line_figure(panels, path, title="Vectors of two models")
        write_numbers(path, tab_separated(["model", "other", "behavior", "layer", "cosine"], rows))

    def norms(self, model: str) -> None:
        """Norms over layers, a line for each behaviour: before and, where known, after."""
        rows: dict[Key, list[str]] = {}
        panels = []
        for title, vectors in (
            ("before normalising", self.vectors.raw),
            ("after normalising", self.vectors.normalized),
        ):
            lines = []
            for behavior in self.vectors.behaviors_of(model):
                keys = sorted(k for k in vectors if k[:2] == (model, behavior))
                if keys:
                    lengths = norms(np.stack([vectors[k] for k in keys]))
                    # A logarithm has no place for 0.
                    shown = np.where(lengths > 0, lengths, np.nan)
                    layers = [k.layer for k in keys]
                    lines.append(exact(self.names[behavior], layers, shown))
                    for key, length in zip(keys, lengths, strict=True):
                        rows.setdefault(key, []).append(six_digits(length))
            if lines:
                panels.append(
                    Panel(lines, "layer", "norm", title, whole_x=True, log=True, sparse=True)
                )
        path = self.paths.figure(f"norms_model={model}")
        title = f"Norms of the vectors\n{self._made_of(model, self.vectors.behaviors_of(model))}"
        line_figure(panels, path, title=title)
        table = [[k.behavior, str(k.layer), *[*values, ""][:2]] for k, values in rows.items()]
        write_numbers(path, tab_separated(["behavior", "layer", "before", "after"], table))


def _cosine_panels(titles: Sequence[str], lines: Sequence[list[Line]]) -> list[Panel]:
    """Panels of cosines over layers, on an axis that does not enlarge what does not matter."""
    values = [e.mean for panel in lines for line in panel for e in line.y]
    low, high = np.nanmin([0.0, *values]), np.nanmax([0.0, *values])
    reach = max(-low, high, 0.25)
    least = (0.0, 1.0) if low > -0.25 and high > 0.5 else (-reach, reach)
    return [
        Panel(
            each,
            "layer",
            "cosine similarity",
            title,
            whole_x=True,
            reference=0.0,
            least=least,
            sparse=True,
        )
        for title, each in zip(titles, lines, strict=True)
    ]


def at_layer(layer: int | None) -> str:
    return "mean over layers" if layer is None else f"layer {layer}"


def matrix_table(corner: str, labels: Sequence[str], values: Array) -> bytes:
    """A matrix as tab-separated text.

    Args:
        corner: the head of the first column.
        labels: of rows and columns, length n.
        values: shape (n, n).
    """
    rows = zip(labels, values, strict=True)
    return tab_separated([corner, *labels], ([label, *map(six_digits, row)] for label, row in rows))
