"""Figures of vectors: heat maps, courses over layers, points with their labels."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_json
from drawn_figures import drawn
from made_up_vectors import (
    BASE,
    LAYERS,
    VectorFolder,
    fill,
    folder,
    quick,
)

from utils.drawing.heat_maps import HeatMap, heat_map_figure
from utils.drawing.line_plots import line_figure
from utils.drawing.panels import Panel, exact
from utils.drawing.vector_plots import LABEL_BOX, label_offsets

__all__ = ("drawn", "folder", "quick")  # fixtures


def test_a_heat_map_shows_the_values_on_a_scale_from_minus_one_to_one(
    drawn: dict[str, Any],
) -> None:
    values = np.array([[1.0, -0.25, np.nan], [-0.25, 1.0, 0.7], [np.nan, 0.7, 1.0]])
    heat_map_figure(HeatMap(values, ["a", "b", "c"], "title"), Path("x.png"))
    axes = drawn["x.png"].axes[0]
    image = axes.images[0]
    assert image.get_clim() == (-1, 1)
    np.testing.assert_array_equal(image.get_array().filled(np.nan), values)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written[1, 0] == "\N{MINUS SIGN}0.25" and written[2, 1] == "0.70"
    assert written[0, 2] == "\N{EN DASH}"
    colours = image.cmap([0.0, 0.5, 1.0])
    assert colours[0][2] > colours[0][0] and colours[2][0] > colours[2][2], "blue, red"
    assert colours[1][:3].min() > 0.9, "white at 0"


def test_ticks_of_a_heat_map_of_layers_stand_at_their_layers(drawn: dict[str, Any]) -> None:
    layers = [*range(0, 20), 40, *range(50, 60)]
    labels = [str(n) for n in layers]
    heat_map_figure(HeatMap(np.eye(len(layers)), labels, "", axis="layer"), Path("x.png"))
    axes = drawn["x.png"].axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        ticks = {
            int(p): t.get_text()
            for p, t in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        }
        assert 8 <= len(ticks) <= 16
        assert all(text == labels[place] for place, text in ticks.items())
    assert not axes.texts, "no numbers in the cells"


def test_seven_lines_are_told_apart_and_keep_their_looks_in_every_panel(
    drawn: dict[str, Any],
) -> None:
    y = np.linspace(0.1, 0.9, 30)
    lines = [exact(f"line {i}", range(30), y) for i in range(9)]
    panels = [Panel(each, "layer", "cosine", sparse=True) for each in (lines, lines[1:])]
    line_figure(panels, Path("x.png"))
    first, second = (
        [line for line in axes.lines if len(line.get_xdata()) == 30] for axes in drawn["x.png"].axes
    )

    def look(line: Any) -> tuple[Any, ...]:
        return (line.get_color(), line.get_marker(), line.get_linestyle())

    assert len({look(line) for line in first}) == 9
    assert [look(line) for line in second] == [look(line) for line in first[1:]]
    # On one another, and yet the first seven are all seen: no marker hides another.
    marked = [set(range(30)[line.get_markevery()]) for line in first[:7]]
    assert all(marked) and not any(a & b for a, b in itertools.combinations(marked, 2))
    assert [t.get_text() for t in drawn["x.png"].legends[0].get_texts()] == [x.label for x in lines]


def test_points_of_layers_bear_their_numbers(
    folder: VectorFolder, drawn: dict[str, Any], quick: None
) -> None:
    fill(folder).analyze("--models", BASE, "--behaviors", "calm")
    (figure,) = [f for f in drawn.values() if f.axes[0].collections]
    axes = figure.axes[0]
    rows = folder.table(f"calm/pca_of_layers_model={BASE}")[1:-1]
    expected = {row[0]: (float(row[1]), float(row[2])) for row in rows}
    assert {t.get_text(): pytest.approx(t.xy, abs=1e-6) for t in axes.texts} == expected
    np.testing.assert_allclose(axes.lines[0].get_xydata(), list(expected.values()), atol=1e-6)
    assert list(axes.collections[0].get_array()) == list(LAYERS)
    assert "length 1" in figure.get_suptitle()


def test_labels_beside_points_do_not_touch_one_another() -> None:
    generator = np.random.default_rng(0)
    angle = np.linspace(0, 5, 32)
    points = np.stack([100 * np.cos(angle), 100 * np.sin(angle)], axis=1)
    points[24:] = points[24] + generator.normal(0, 4, (8, 2))
    labels = points + label_offsets(points)
    for first, second in itertools.combinations(labels, 2):
        assert (np.abs(first - second) >= 0.9 * LABEL_BOX).any()
    assert np.hypot(*(labels - points).T).max() < 30, "not far from its point"


def test_behaviours_have_their_names_in_pictures_and_their_ids_in_files(
    folder: VectorFolder, drawn: dict[str, Any], quick: None
) -> None:
    fill(folder)
    write_json(folder.datasets / "generate/calm/behavior.json", {"name": "Calm as the sea"})
    write_json(folder.datasets / "generate/calm/generate_dataset.json", [])
    folder.analyze("--models", BASE, "--behaviors", "meek", "calm", "--layers", 10)
    (figure,) = [f for f in drawn.values() if f.axes[0].images]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["meek", "Calm as the sea"]
    name = f"similarity_of_behaviors_layer=10_model={BASE}_behaviors=calm,meek"
    assert folder.matrix(name)[0] == ["meek", "calm"]
