"""Vectors compared with one another: every number against another way of computing it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_json
from running import ROOT, artifacts, call

import utils.drawing.plotting
from utils.drawing.heat_maps import HeatMap, heat_map_figure, wrapped
from utils.drawing.vector_plots import LABEL_BOX, Course, Courses, course_figure, label_offsets
from utils.errors import UserError
from utils.files.subsets import ranges
from utils.text.numbers import rounded, six_digits
from utils.vectors.similarity import (
    cosine_matrix,
    layers_like,
    neighbour_mean,
    principal_components,
)

PAPER_DATA = Path(os.environ.get("CAA_PAPER_DATA", ROOT.parent / "shared/paper_data"))
BASE, CHAT, SMALL = "Llama-2-7b-hf", "Llama-2-7b-chat-hf", "small_limit=8"
BEHAVIORS = ("bold", "calm", "meek")
LAYERS = (0, 1, 2, 10, 11)
WIDTH = 16
Table = list[list[str]]


class Bench:
    """An artefact folder with vectors, and what the script wrote and said about them."""

    def __init__(self, root: Path) -> None:
        self.root, self.datasets = root / "made", root / "datasets"
        self.datasets.mkdir(parents=True)
        self.output = ""

    def path(self, key: tuple[str, str, int], kind: str = "vectors") -> Path:
        model, behavior, layer = key
        return self.root / kind / behavior / f"vec_layer_{layer}_{model}.pt"

    def put(self, key: tuple[str, str, int], value: Any, kind: str = "vectors") -> Path:
        path = self.path(key, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(value, path)
        return path

    def get(self, model: str, behavior: str, layer: int, kind: str = "vectors") -> torch.Tensor:
        return torch.load(self.path((model, behavior, layer), kind), weights_only=True).double()

    def analyze(self, *more: object) -> int:
        folders = ("--artifacts_dir", self.root, "--datasets_dir", self.datasets)
        return call("analyze_vectors", *folders, *more)

    def table(self, name: str) -> Table:
        text = (self.root / "analysis" / f"{name}.txt").read_text()
        return [line.split("\t") for line in text.splitlines()]

    def matrix(self, name: str) -> tuple[list[str], np.ndarray]:
        """Labels and values of a matrix, whose header and first column must agree."""
        header, *rows = self.table(name)
        assert [row[0] for row in rows] == header[1:]
        values = [[float(v) if v else np.nan for v in row[1:]] for row in rows]
        return header[1:], np.array(values)

    def figures(self) -> set[str]:
        folder = self.root / "analysis"
        found = {str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.png")}
        texts = {str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.txt")}
        assert found == texts, "every figure has its numbers beside it"
        return found


def fill(bench: Bench) -> Bench:
    """Three behaviours of two models over five layers, of which one behaviour lacks one."""
    generator = torch.Generator().manual_seed(0)
    for behavior, layer in itertools.product(BEHAVIORS, LAYERS):
        shared = torch.randn(WIDTH, generator=generator)
        for model in (BASE, CHAT):
            noise = torch.randn(WIDTH, generator=generator)
            bench.put((model, behavior, layer), 10.0**layer * (shared + 0.5 * noise))
    bench.path((CHAT, "bold", 2)).unlink()
    return bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn but not turned into pixels, which is what takes the time."""
    monkeypatch.setattr(utils.drawing.plotting, "png", lambda figure: b"picture")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The full set, analysed once: without --layers, then at two layers."""
    made = fill(Bench(tmp_path_factory.mktemp("vectors")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils.drawing.plotting, "png", lambda figure: b"picture")
        assert made.analyze() == 0
        assert made.analyze("--layers", 10, 2, "--models", f"meta-llama/{CHAT}") == 0
    yield made


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


# ---------------------------------------------------------------- what the files say


@pytest.mark.parametrize("model", [BASE, CHAT])
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_layers_against_layers(done: Bench, model: str, behavior: str) -> None:
    labels, values = done.matrix(f"{behavior}/similarity_of_layers_model={model}")
    lacking = (model, behavior) == (CHAT, "bold")
    layers = [n for n in LAYERS if not (lacking and n == 2)]
    assert labels == [str(n) for n in layers], "in the order of numbers: 2 before 10"
    assert (values == values.T).all() and (values.diagonal() == 1).all()
    for (i, first), (j, second) in itertools.product(enumerate(layers), repeat=2):
        expected = cosine(done.get(model, behavior, first), done.get(model, behavior, second))
        assert values[i, j] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("model", [BASE, CHAT])
def test_behaviours_against_behaviours_is_the_mean_over_the_layers_both_have(
    done: Bench, model: str
) -> None:
    labels, values = done.matrix(f"similarity_of_behaviors_model={model}")
    assert labels == list(BEHAVIORS)
    assert (values == values.T).all() and (values.diagonal() == 1).all()
    for (i, a), (j, b) in itertools.product(enumerate(labels), repeat=2):
        both = [n for n in LAYERS if not (model == CHAT and n == 2 and "bold" in (a, b))]
        each = [cosine(done.get(model, a, n), done.get(model, b, n)) for n in both]
        assert values[i, j] == pytest.approx(sum(each) / len(each), abs=1e-6)


def test_behaviours_at_a_layer_leave_out_the_one_that_lacks_it(done: Bench) -> None:
    for layer, shown in ((2, ["calm", "meek"]), (10, list(BEHAVIORS))):
        labels, values = done.matrix(f"similarity_of_behaviors_layer={layer}_model={CHAT}")
        assert labels == shown
        for (i, a), (j, b) in itertools.product(enumerate(labels), repeat=2):
            expected = cosine(done.get(CHAT, a, layer), done.get(CHAT, b, layer))
            assert values[i, j] == pytest.approx(expected, abs=1e-6)


def test_behaviours_over_layers(done: Bench) -> None:
    header, *rows = done.table(f"similarity_of_behaviors_over_layers_model={CHAT}")
    assert header == ["behavior", "other", "layer", "cosine"]
    pairs = itertools.combinations(BEHAVIORS, 2)
    expected = [(a, b, n) for a, b in pairs for n in LAYERS if not ("bold" in (a, b) and n == 2)]
    assert [(a, b, int(n)) for a, b, n, _ in rows] == expected
    for a, b, n, value in rows:
        found = cosine(done.get(CHAT, a, int(n)), done.get(CHAT, b, int(n)))
        assert float(value) == pytest.approx(found, abs=1e-6)


def test_base_against_chat_over_layers(done: Bench) -> None:
    header, *rows = done.table("similarity_of_models_over_layers")
    assert header == ["model", "other", "behavior", "layer", "cosine"]
    expected = [(b, n) for b in BEHAVIORS for n in LAYERS if (b, n) != ("bold", 2)]
    assert [(row[2], int(row[3])) for row in rows] == expected
    for first, second, behavior, n, value in rows:
        assert (first, second) == (CHAT, BASE)
        vectors = [done.get(m, behavior, int(n)) for m in (first, second)]
        assert float(value) == pytest.approx(cosine(*vectors), abs=1e-6)
    header, *one = done.table("calm/similarity_of_models_over_layers")
    assert header == ["model", "other", "layer", "cosine"]
    assert one == [[*row[:2], *row[3:]] for row in rows if row[2] == "calm"]


def test_components_are_those_of_the_singular_value_decomposition(done: Bench) -> None:
    header, *rows, last = done.table(f"calm/pca_of_layers_model={BASE}")
    assert header == ["layer", "component 1", "component 2"]
    assert [int(row[0]) for row in rows] == list(LAYERS)
    points = np.array([[float(v) for v in row[1:]] for row in rows])
    vectors = torch.stack([done.get(BASE, "calm", n) for n in LAYERS]).numpy()
    directions = vectors / np.sqrt((vectors**2).sum(1, keepdims=True))
    u, s, _ = np.linalg.svd(directions - directions.mean(0), full_matrices=False)
    for axis in (0, 1):
        expected = u[:, axis] * s[axis]
        sign = np.sign(expected @ points[:, axis])
        np.testing.assert_allclose(points[:, axis], sign * expected, atol=1e-6)
    assert last[0] == "share of variance"
    np.testing.assert_allclose([float(v) for v in last[1:]], (s**2 / (s**2).sum())[:2], atol=1e-6)


def test_layers_asked_for_do_not_replace_the_figures_of_all(done: Bench) -> None:
    over_all, some = f"calm/similarity_of_layers_model={CHAT}", "_layers=2,10"
    assert done.matrix(over_all)[0] == [str(n) for n in LAYERS]
    assert done.matrix(over_all + some)[0] == ["2", "10"]
    assert f"calm/pca_of_layers_model={CHAT}{some}" not in done.figures(), "two points"
    assert f"similarity_of_behaviors_layer=10_model={BASE}" not in done.figures(), "--models"
    assert f"similarity_of_behaviors_layer=0_model={CHAT}" not in done.figures(), "--layers"


def test_norms_are_the_mean_over_behaviours_after_normalising(bench: Bench, quick: None) -> None:
    fill(bench)
    shutil.rmtree(bench.root / "vectors" / "bold")
    folders = ("--artifacts_dir", bench.root, "--datasets_dir", bench.datasets)
    call("normalize_vectors", *folders)
    bench.path((BASE, "meek", 1), "normalized_vectors").unlink()
    bench.analyze("--models", BASE)
    header, *rows = bench.table(f"norms_model={BASE}")
    assert header == ["behavior", "layer", "before", "after"]
    assert [(row[0], int(row[1])) for row in rows] == [
        (b, n) for b in BEHAVIORS[1:] for n in LAYERS
    ]
    for behavior, n, before, after in rows:
        raw = [float(bench.get(BASE, b, int(n)).norm()) for b in ("calm", "meek")]
        expected = float(bench.get(BASE, behavior, int(n)).norm())
        assert float(before) == pytest.approx(expected, rel=1e-6, abs=1e-6)
        if (behavior, n) == ("meek", "1"):
            assert after == "", "its normalised file is missing"
        else:
            assert float(after) == pytest.approx(sum(raw) / 2, rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------- what is left out, and said


def test_other_widths_are_named_and_the_rest_is_done(
    bench: Bench, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer, behavior in itertools.product((0, 1), ("bold", "calm")):
        for model, width in ((BASE, 8), (CHAT, 8), (SMALL, 4), ("other", 8)):
            bench.put((model, behavior, layer), torch.arange(1.0, width + 1) + layer)
    bench.analyze()
    said = capsys.readouterr().out
    assert f"{SMALL} (width 4); {CHAT}, {BASE}, other (width 8)" in said
    rows = bench.table("similarity_of_models_over_layers")[1:]
    assert {tuple(row[:2]) for row in rows} == {(CHAT, BASE), (CHAT, "other"), (BASE, "other")}
    labels, values = bench.matrix("calm/similarity_of_models")
    assert labels == [CHAT, BASE, "other"] and np.isfinite(values).all()
    assert f"calm/similarity_of_layers_model={SMALL}" in bench.figures()


def test_a_missing_layer_and_missing_normalised_vectors_are_named_with_their_commands(
    bench: Bench, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(bench).analyze("--models", CHAT)
    said = capsys.readouterr().out
    flags = f" --artifacts_dir {bench.root} --datasets_dir {bench.datasets}"
    assert f"{CHAT} has no vector of bold at layers 2;" in said
    assert f"./generate_vectors.py --behaviors bold --layers 2 ...{flags}" in said
    assert f"vectors without a normalised one: 14 of {CHAT};" in said
    assert f"./normalize_vectors.py --model {CHAT}{flags}" in said
    assert "one model, nothing to compare it with" in said


def test_normalised_vectors_of_other_vectors_are_reported(
    bench: Bench, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = torch.arange(1.0, 9.0)
    for layer in (0, 1):
        bench.put((CHAT, "calm", layer), vector)
        bench.put((CHAT, "calm", layer), 3 * vector, "normalized_vectors")
    bench.analyze()
    assert "made from others" not in capsys.readouterr().out
    bench.put((CHAT, "calm", 1), 3 * vector.flip(0), "normalized_vectors")
    bench.analyze()
    said = capsys.readouterr().out
    assert f"made from others than those in vectors/: 1 (calm, layer 1, {CHAT})" in said


def test_a_zero_vector_is_named_and_its_cells_are_empty(
    bench: Bench, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(bench)
    bench.put((BASE, "calm", 1), torch.zeros(WIDTH))
    bench.analyze("--models", BASE)
    assert f"the vector of calm at layer 1 of {BASE} is zero" in capsys.readouterr().out
    values = bench.matrix(f"calm/similarity_of_layers_model={BASE}")[1]
    undefined = np.zeros((5, 5), bool)
    undefined[1] = undefined[:, 1] = True
    assert (np.isnan(values) == undefined).all()
    layers = [row[0] for row in bench.table(f"calm/pca_of_layers_model={BASE}")[1:-1]]
    assert layers == ["0", "2", "10", "11"]
    mean = bench.matrix(f"similarity_of_behaviors_model={BASE}")[1][0, 1]
    each = [cosine(bench.get(BASE, "bold", n), bench.get(BASE, "calm", n)) for n in (0, 2, 10, 11)]
    assert mean == pytest.approx(sum(each) / 4, abs=1e-6)
    norms = bench.table(f"norms_model={BASE}")
    assert ["calm", "1", "0.000000", ""] in norms


def test_one_vector_of_each_behaviour_is_enough_for_what_needs_no_more(
    bench: Bench, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for behavior in ("bold", "calm"):
        bench.put((SMALL, behavior, 13), torch.rand(8))
    bench.analyze()
    assert bench.figures() == {
        f"similarity_of_behaviors_layer=13_model={SMALL}",
        f"norms_model={SMALL}",
    }
    said = capsys.readouterr().out
    assert f"{SMALL}: no heat maps of layers of bold, calm (they need 2 layers)" in said


# ---------------------------------------------------------------- the closing table


def test_the_table_at_the_end(
    bench: Bench, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def at(degrees: float) -> torch.Tensor:
        angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        return torch.stack([angle.cos(), angle.sin()])

    # cos 60 is not above 0.5; the neighbours are 50, 30 and, over the gap, not 40 degrees apart.
    for layer, degrees in ((0, 0.0), (1, 50.0), (2, 80.0), (4, 120.0)):
        bench.put((CHAT, "calm", layer), at(degrees))
        bench.put((CHAT, "bold", layer), at(degrees + 45))
        bench.put((CHAT, "meek", layer), at(degrees + 170))
    bench.analyze()
    said = capsys.readouterr().out
    row = next(line.split() for line in said.splitlines() if line.startswith("calm"))
    expected = (np.cos(np.deg2rad(50)) + np.cos(np.deg2rad(30))) / 2
    assert row == ["calm", f"{expected:.2f}", "1-4", "(of", "2)", "meek", "\N{MINUS SIGN}0.98"]


# ---------------------------------------------------------------- numbers by themselves


def test_a_matrix_of_cosines_is_symmetric_with_ones_at_any_scale() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 300))
    vectors *= 10.0 ** np.linspace(-30, 30, 40)[:, None]
    found = cosine_matrix(vectors)
    assert (found == found.T).all() and (found.diagonal() == 1).all()
    for i, j in ((0, 39), (3, 20), (11, 12)):
        # torch takes norms below 1e-8 for 1e-8
        pair = [torch.from_numpy(v / np.abs(v).max()) for v in (vectors[i], vectors[j])]
        assert found[i, j] == pytest.approx(cosine(*pair), abs=1e-12)
    parallel = cosine_matrix(np.array([[1.0, 3.0], [-0.1, -0.3], [1e9, 3e9]]))
    assert (np.abs(parallel) <= 1).all() and parallel[0, 1] == pytest.approx(-1)


def test_components_run_from_left_to_right_with_the_middle_above() -> None:
    angle = np.linspace(0, np.pi, 9)
    arc = np.stack([2 * np.cos(angle), np.sin(angle)], axis=1)
    for mirror in itertools.product((-1, 1), repeat=2):
        points, shares = principal_components(arc * mirror)
        assert points[0, 0] == pytest.approx(-2) and points[-1, 0] == pytest.approx(2)
        assert points[4, 1] > points[0, 1]
        assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]


def test_components_of_equal_points_and_of_too_few() -> None:
    points, shares = principal_components(np.ones((4, 3)))
    assert not points.any() and not shares.any()
    with pytest.raises(ValueError, match="2 points"):
        principal_components(np.eye(2))


def test_neighbours_and_layers_like_the_middle() -> None:
    matrix = np.array(
        [[1, 0.9, 0.2, 0.7], [0.9, 1, 0.6, 0.8], [0.2, 0.6, 1, 0.5], [0.7, 0.8, 0.5, 1]]
    )
    assert neighbour_mean(matrix, [0, 1, 2, 3]) == pytest.approx((0.9 + 0.6 + 0.5) / 3)
    assert neighbour_mean(matrix, [0, 1, 5, 6]) == pytest.approx((0.9 + 0.5) / 2)
    assert np.isnan(neighbour_mean(matrix, [0, 2, 4, 6]))
    assert layers_like(matrix, [3, 5, 7, 9], 5, 0.5) == (3, 9)
    assert layers_like(matrix, [3, 5, 7, 9], 7, 0.5) == (5, 7), "0.5 is not above 0.5"
    assert layers_like(matrix, [3, 5, 7, 9], 3, 0.6) == (3, 5), "9 is beyond a gap"


def test_numbers_as_they_are_written() -> None:
    assert ranges([9, 0, 1, 2, 4, 11, 10, 2]) == "0-2,4,9-11" and ranges([]) == ""
    assert [six_digits(v) for v in (1, -0.0, 1 / 3, np.nan)] == [
        "1.000000",
        "0.000000",
        "0.333333",
        "",
    ]
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert [rounded(v) for v in (0.5, -0.123, -0.001, np.nan)] == [
        "0.50",
        f"{minus}0.12",
        "0.00",
        dash,
    ]
    assert wrapped("SmolLM2-135M-Instruct-Q4_1_limit=8") == "SmolLM2-135M-\nInstruct-Q4_1_\nlimit=8"
    assert wrapped("Coordination with other AIs") == "Coordination with\nother AIs"


# ---------------------------------------------------------------- pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were drawn, in place of files."""
    figures: list[Any] = []
    monkeypatch.setattr(
        utils.drawing.plotting, "save_figure", lambda figure, path: figures.append(figure)
    )
    return figures


def test_a_heat_map_shows_the_values_on_a_scale_from_minus_one_to_one(drawn: list[Any]) -> None:
    values = np.array([[1.0, -0.25, np.nan], [-0.25, 1.0, 0.7], [np.nan, 0.7, 1.0]])
    heat_map_figure(HeatMap(values, ["a", "b", "c"], "title"), Path("x.png"))
    axes = drawn[0].axes[0]
    image = axes.images[0]
    assert image.get_clim() == (-1, 1)
    np.testing.assert_array_equal(image.get_array().filled(np.nan), values)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written[1, 0] == "\N{MINUS SIGN}0.25" and written[2, 1] == "0.70"
    assert written[0, 2] == "\N{EN DASH}"
    colours = image.cmap([0.0, 0.5, 1.0])
    assert colours[0][2] > colours[0][0] and colours[2][0] > colours[2][2], "blue, red"
    assert colours[1][:3].min() > 0.9, "white at 0"


def test_ticks_of_a_heat_map_of_layers_stand_at_their_layers(drawn: list[Any]) -> None:
    layers = [*range(0, 20), 40, *range(50, 60)]
    labels = [str(n) for n in layers]
    heat_map_figure(HeatMap(np.eye(len(layers)), labels, "", axis="layer"), Path("x.png"))
    axes = drawn[0].axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        ticks = {
            int(p): t.get_text()
            for p, t in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        }
        assert 8 <= len(ticks) <= 16
        assert all(text == labels[place] for place, text in ticks.items())
    assert not axes.texts, "no numbers in the cells"


def test_seven_lines_are_told_apart_and_keep_their_looks_in_every_panel(drawn: list[Any]) -> None:
    y = np.linspace(0.1, 0.9, 30)
    lines = [Course(f"line {i}", i, range(30), y) for i in range(9)]
    panels = [Courses("all", lines), Courses("but the first", lines[1:])]
    course_figure(panels, Path("x.png"), title="", y_label="cosine similarity")
    first, second = (
        [line for line in axes.lines if len(line.get_xdata()) == 30] for axes in drawn[0].axes
    )

    def look(line: Any) -> tuple[Any, ...]:
        return (line.get_color(), line.get_marker(), line.get_linestyle())

    assert len({look(line) for line in first}) == 9
    assert [look(line) for line in second] == [look(line) for line in first[1:]]
    # On one another, and yet the first seven are all seen: no marker hides another.
    marked = [set(range(30)[line.get_markevery()]) for line in first[:7]]
    assert all(marked) and not any(a & b for a, b in itertools.combinations(marked, 2))
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == [c.label for c in lines]


def test_points_of_layers_bear_their_numbers(bench: Bench, drawn: list[Any], quick: None) -> None:
    fill(bench).analyze("--models", BASE, "--behaviors", "calm")
    (figure,) = [f for f in drawn if f.axes[0].collections]
    axes = figure.axes[0]
    rows = bench.table(f"calm/pca_of_layers_model={BASE}")[1:-1]
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
    bench: Bench, drawn: list[Any], quick: None
) -> None:
    fill(bench)
    write_json(bench.datasets / "generate/calm/behavior.json", {"name": "Calm as the sea"})
    write_json(bench.datasets / "generate/calm/generate_dataset.json", [])
    bench.analyze("--models", BASE, "--behaviors", "meek", "calm", "--layers", 10)
    (figure,) = [f for f in drawn if f.axes[0].images]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["meek", "Calm as the sea"]
    name = f"similarity_of_behaviors_layer=10_model={BASE}_behaviors=calm,meek"
    assert bench.matrix(name)[0] == ["meek", "calm"]


def test_a_rerun_writes_the_same_bytes(bench: Bench) -> None:
    for behavior, layer in itertools.product(("bold", "calm"), (0, 1, 2)):
        generator = torch.Generator().manual_seed(layer + 10 * len(behavior))
        bench.put((CHAT, behavior, layer), torch.randn(8, generator=generator))
    bench.analyze()
    first = artifacts(bench.root / "analysis")
    assert len(first) == 2 * 7 and all(
        data.startswith(b"\x89PNG") for name, data in first.items() if name.endswith(".png")
    )
    shutil.rmtree(bench.root / "analysis")
    bench.analyze()
    assert artifacts(bench.root / "analysis") == first


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--behaviors", "calm", "clam"), ("behaviour clam", "bold, calm, meek")),
        (("--models", "Llama-2-7b"), ("model Llama-2-7b;", f"{CHAT}, {BASE}")),
        (("--layers", 1, 3, 4, 12), ("layers 3-4,12;", "layers 0-2,10-11", "--layers 3 4 12 ...")),
        (("--layers", -1), ("layers -1;", "layers 0-2,10-11")),
        (
            ("--models", CHAT, "--behaviors", "bold", "--layers", 2),
            ("layers 2;", "layers 0-1,10-11"),
        ),
    ],
)
def test_what_is_asked_for_and_is_not_there(
    bench: Bench, flags: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    fill(bench)
    with pytest.raises(UserError) as error:
        bench.analyze(*flags)
    for part in (*parts, f"--artifacts_dir {bench.root}", "./generate_vectors.py"):
        assert part in str(error.value)
    assert not (bench.root / "analysis").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"PK\x03\x04 cut off", "damaged"),
        (torch.full((WIDTH,), float("nan")), "NaN"),
        (torch.tensor([float("inf"), *[1.0] * (WIDTH - 1)]), "infinite"),
        (torch.ones(1, WIDTH), "1-D"),
        (torch.ones(WIDTH + 1), f"width {WIDTH + 1}"),
        ({"vector": torch.ones(WIDTH)}, "1-D"),
    ],
)
@pytest.mark.parametrize("kind", ["vectors", "normalized_vectors"])
def test_a_file_that_is_no_vector(bench: Bench, value: Any, message: str, kind: str) -> None:
    fill(bench)
    path = bench.put((CHAT, "meek", 10), value, kind)
    if isinstance(value, bytes):
        path.write_bytes(value)
    with pytest.raises(UserError, match=message) as error:
        bench.analyze()
    assert str(path) in str(error.value)
    assert not (bench.root / "analysis").exists(), "all are read before anything is drawn"


def test_without_vectors_the_shell_gets_status_2_and_the_command(bench: Bench) -> None:
    bench.root.mkdir()
    folders = ("--artifacts_dir", bench.root, "--datasets_dir", bench.datasets)
    command = [sys.executable, str(ROOT / "analyze_vectors.py"), *map(str, folders)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    flags = f"--artifacts_dir {bench.root} --datasets_dir {bench.datasets}"
    assert f"./generate_vectors.py --layers ... {flags}" in run.stderr


# ---------------------------------------------------------------- published vectors


@pytest.mark.skipif(
    not list(PAPER_DATA.glob("vectors/*/vec_layer_1[34]_*.pt")),
    reason=f"no published vectors (vectors/<behavior>/vec_layer_13_....pt) in {PAPER_DATA}",
)
def test_published_vectors(bench: Bench, quick: None) -> None:
    for path in PAPER_DATA.glob("vectors/*/vec_layer_1[34]_*.pt"):
        copy = bench.root / path.relative_to(PAPER_DATA)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    bench.analyze("--layers", 13)
    found = sorted((bench.root / "analysis").glob("similarity_of_behaviors_layer=13_model=*.txt"))
    assert found
    for path in found:
        model = path.stem.partition("_model=")[2]
        labels, values = bench.matrix(path.stem)
        for (i, a), (j, b) in itertools.product(enumerate(labels), repeat=2):
            expected = cosine(bench.get(model, a, 13), bench.get(model, b, 13))
            assert values[i, j] == pytest.approx(expected, abs=1e-6)
