"""analyze_vectors.py: every number against another way of computing it, every gap named."""

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
from made_up_vectors import (
    BASE,
    BEHAVIORS,
    CHAT,
    LAYERS,
    SMALL,
    WIDTH,
    VectorFolder,
    cosine,
    fill,
    folder,
    quick,
)
from running import ROOT, artifacts, call

import utils.drawing.plotting
from utils.errors import UserError

__all__ = ("folder", "quick")  # fixtures


PAPER_DATA = Path(os.environ.get("CAA_PAPER_DATA", ROOT.parent / "shared/paper_data"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorFolder]:
    """The full set, analysed once: without --layers, then at two layers."""
    made = fill(VectorFolder(tmp_path_factory.mktemp("vectors")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils.drawing.plotting, "png", lambda figure: b"picture")
        assert made.analyze() == 0
        assert made.analyze("--layers", 10, 2, "--models", f"meta-llama/{CHAT}") == 0
    yield made


# ---------------------------------------------------------------- what the files say


@pytest.mark.parametrize("model", [BASE, CHAT])
@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_layers_against_layers(done: VectorFolder, model: str, behavior: str) -> None:
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
    done: VectorFolder, model: str
) -> None:
    labels, values = done.matrix(f"similarity_of_behaviors_model={model}")
    assert labels == list(BEHAVIORS)
    assert (values == values.T).all() and (values.diagonal() == 1).all()
    for (i, a), (j, b) in itertools.product(enumerate(labels), repeat=2):
        both = [n for n in LAYERS if not (model == CHAT and n == 2 and "bold" in (a, b))]
        each = [cosine(done.get(model, a, n), done.get(model, b, n)) for n in both]
        assert values[i, j] == pytest.approx(sum(each) / len(each), abs=1e-6)


def test_behaviours_at_a_layer_leave_out_the_one_that_lacks_it(done: VectorFolder) -> None:
    for layer, shown in ((2, ["calm", "meek"]), (10, list(BEHAVIORS))):
        labels, values = done.matrix(f"similarity_of_behaviors_layer={layer}_model={CHAT}")
        assert labels == shown
        for (i, a), (j, b) in itertools.product(enumerate(labels), repeat=2):
            expected = cosine(done.get(CHAT, a, layer), done.get(CHAT, b, layer))
            assert values[i, j] == pytest.approx(expected, abs=1e-6)


def test_behaviours_over_layers(done: VectorFolder) -> None:
    header, *rows = done.table(f"similarity_of_behaviors_over_layers_model={CHAT}")
    assert header == ["behavior", "other", "layer", "cosine"]
    pairs = itertools.combinations(BEHAVIORS, 2)
    expected = [(a, b, n) for a, b in pairs for n in LAYERS if not ("bold" in (a, b) and n == 2)]
    assert [(a, b, int(n)) for a, b, n, _ in rows] == expected
    for a, b, n, value in rows:
        found = cosine(done.get(CHAT, a, int(n)), done.get(CHAT, b, int(n)))
        assert float(value) == pytest.approx(found, abs=1e-6)


def test_base_against_chat_over_layers(done: VectorFolder) -> None:
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


def test_components_are_those_of_the_singular_value_decomposition(done: VectorFolder) -> None:
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


def test_layers_asked_for_do_not_replace_the_figures_of_all(done: VectorFolder) -> None:
    over_all, some = f"calm/similarity_of_layers_model={CHAT}", "_layers=2,10"
    assert done.matrix(over_all)[0] == [str(n) for n in LAYERS]
    assert done.matrix(over_all + some)[0] == ["2", "10"]
    assert f"calm/pca_of_layers_model={CHAT}{some}" not in done.figures(), "two points"
    assert f"similarity_of_behaviors_layer=10_model={BASE}" not in done.figures(), "--models"
    assert f"similarity_of_behaviors_layer=0_model={CHAT}" not in done.figures(), "--layers"


def test_norms_are_the_mean_over_behaviours_after_normalising(
    folder: VectorFolder, quick: None
) -> None:
    fill(folder)
    shutil.rmtree(folder.root / "vectors" / "bold")
    folders = ("--artifacts_dir", folder.root, "--datasets_dir", folder.datasets)
    call("normalize_vectors", *folders)
    folder.path((BASE, "meek", 1), "normalized_vectors").unlink()
    folder.analyze("--models", BASE)
    header, *rows = folder.table(f"norms_model={BASE}")
    assert header == ["behavior", "layer", "before", "after"]
    assert [(row[0], int(row[1])) for row in rows] == [
        (b, n) for b in BEHAVIORS[1:] for n in LAYERS
    ]
    for behavior, n, before, after in rows:
        raw = [float(folder.get(BASE, b, int(n)).norm()) for b in ("calm", "meek")]
        expected = float(folder.get(BASE, behavior, int(n)).norm())
        assert float(before) == pytest.approx(expected, rel=1e-6, abs=1e-6)
        if (behavior, n) == ("meek", "1"):
            assert after == "", "its normalised file is missing"
        else:
            assert float(after) == pytest.approx(sum(raw) / 2, rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------- what is left out, and said


def test_other_widths_are_named_and_the_rest_is_done(
    folder: VectorFolder, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer, behavior in itertools.product((0, 1), ("bold", "calm")):
        for model, width in ((BASE, 8), (CHAT, 8), (SMALL, 4), ("other", 8)):
            folder.put((model, behavior, layer), torch.arange(1.0, width + 1) + layer)
    folder.analyze()
    said = capsys.readouterr().out
    assert f"{SMALL} (width 4); {CHAT}, {BASE}, other (width 8)" in said
    rows = folder.table("similarity_of_models_over_layers")[1:]
    assert {tuple(row[:2]) for row in rows} == {(CHAT, BASE), (CHAT, "other"), (BASE, "other")}
    labels, values = folder.matrix("calm/similarity_of_models")
    assert labels == [CHAT, BASE, "other"] and np.isfinite(values).all()
    assert f"calm/similarity_of_layers_model={SMALL}" in folder.figures()


def test_a_missing_layer_and_missing_normalised_vectors_are_named_with_their_commands(
    folder: VectorFolder, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(folder).analyze("--models", CHAT)
    said = capsys.readouterr().out
    flags = f" --artifacts_dir {folder.root} --datasets_dir {folder.datasets}"
    assert f"{CHAT} has no vector of bold at layers 2;" in said
    assert f"./generate_vectors.py --behaviors bold --layers 2 ...{flags}" in said
    assert f"vectors without a normalised one: 14 of {CHAT};" in said
    assert f"./normalize_vectors.py --model {CHAT}{flags}" in said
    assert "one model, nothing to compare it with" in said


def test_normalised_vectors_of_other_vectors_are_reported(
    folder: VectorFolder, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = torch.arange(1.0, 9.0)
    for layer in (0, 1):
        folder.put((CHAT, "calm", layer), vector)
        folder.put((CHAT, "calm", layer), 3 * vector, "normalized_vectors")
    folder.analyze()
    assert "made from others" not in capsys.readouterr().out
    folder.put((CHAT, "calm", 1), 3 * vector.flip(0), "normalized_vectors")
    folder.analyze()
    said = capsys.readouterr().out
    assert f"made from others than those in vectors/: 1 (calm, layer 1, {CHAT})" in said


def test_a_zero_vector_is_named_and_its_cells_are_empty(
    folder: VectorFolder, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(folder)
    folder.put((BASE, "calm", 1), torch.zeros(WIDTH))
    folder.analyze("--models", BASE)
    assert f"the vector of calm at layer 1 of {BASE} is zero" in capsys.readouterr().out
    values = folder.matrix(f"calm/similarity_of_layers_model={BASE}")[1]
    undefined = np.zeros((5, 5), bool)
    undefined[1] = undefined[:, 1] = True
    assert (np.isnan(values) == undefined).all()
    layers = [row[0] for row in folder.table(f"calm/pca_of_layers_model={BASE}")[1:-1]]
    assert layers == ["0", "2", "10", "11"]
    mean = folder.matrix(f"similarity_of_behaviors_model={BASE}")[1][0, 1]
    each = [
        cosine(folder.get(BASE, "bold", n), folder.get(BASE, "calm", n)) for n in (0, 2, 10, 11)
    ]
    assert mean == pytest.approx(sum(each) / 4, abs=1e-6)
    norms = folder.table(f"norms_model={BASE}")
    assert ["calm", "1", "0.000000", ""] in norms


def test_one_vector_of_each_behaviour_is_enough_for_what_needs_no_more(
    folder: VectorFolder, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for behavior in ("bold", "calm"):
        folder.put((SMALL, behavior, 13), torch.rand(8))
    folder.analyze()
    assert folder.figures() == {
        f"similarity_of_behaviors_layer=13_model={SMALL}",
        f"norms_model={SMALL}",
    }
    said = capsys.readouterr().out
    assert f"{SMALL}: no heat maps of layers of bold, calm (they need 2 layers)" in said


# ---------------------------------------------------------------- the closing table


def test_the_table_at_the_end(
    folder: VectorFolder, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def at(degrees: float) -> torch.Tensor:
        angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        return torch.stack([angle.cos(), angle.sin()])

    # cos 60 is not above 0.5; the neighbours are 50, 30 and, over the gap, not 40 degrees apart.
    for layer, degrees in ((0, 0.0), (1, 50.0), (2, 80.0), (4, 120.0)):
        folder.put((CHAT, "calm", layer), at(degrees))
        folder.put((CHAT, "bold", layer), at(degrees + 45))
        folder.put((CHAT, "meek", layer), at(degrees + 170))
    folder.analyze()
    said = capsys.readouterr().out
    row = next(line.split() for line in said.splitlines() if line.startswith("calm"))
    expected = (np.cos(np.deg2rad(50)) + np.cos(np.deg2rad(30))) / 2
    assert row == ["calm", f"{expected:.2f}", "1-4", "(of", "2)", "meek", "\N{MINUS SIGN}0.98"]


# ---------------------------------------------------------------- pictures


def test_a_rerun_writes_the_same_bytes(folder: VectorFolder) -> None:
    for behavior, layer in itertools.product(("bold", "calm"), (0, 1, 2)):
        generator = torch.Generator().manual_seed(layer + 10 * len(behavior))
        folder.put((CHAT, behavior, layer), torch.randn(8, generator=generator))
    folder.analyze()
    first = artifacts(folder.root / "analysis")
    assert len(first) == 2 * 7 and all(
        data.startswith(b"\x89PNG") for name, data in first.items() if name.endswith(".png")
    )
    shutil.rmtree(folder.root / "analysis")
    folder.analyze()
    assert artifacts(folder.root / "analysis") == first


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
    folder: VectorFolder, flags: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    fill(folder)
    with pytest.raises(UserError) as error:
        folder.analyze(*flags)
    for part in (*parts, f"--artifacts_dir {folder.root}", "./generate_vectors.py"):
        assert part in str(error.value)
    assert not (folder.root / "analysis").exists()


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
def test_a_file_that_is_no_vector(
    folder: VectorFolder, value: Any, message: str, kind: str
) -> None:
    fill(folder)
    path = folder.put((CHAT, "meek", 10), value, kind)
    if isinstance(value, bytes):
        path.write_bytes(value)
    with pytest.raises(UserError, match=message) as error:
        folder.analyze()
    assert str(path) in str(error.value)
    assert not (folder.root / "analysis").exists(), "all are read before anything is drawn"


def test_without_vectors_the_shell_gets_status_2_and_the_command(folder: VectorFolder) -> None:
    folder.root.mkdir()
    folders = ("--artifacts_dir", folder.root, "--datasets_dir", folder.datasets)
    command = [sys.executable, str(ROOT / "analyze_vectors.py"), *map(str, folders)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    flags = f"--artifacts_dir {folder.root} --datasets_dir {folder.datasets}"
    assert f"./generate_vectors.py --layers ... {flags}" in run.stderr


# ---------------------------------------------------------------- published vectors


@pytest.mark.skipif(
    not list(PAPER_DATA.glob("vectors/*/vec_layer_1[34]_*.pt")),
    reason=f"no published vectors (vectors/<behavior>/vec_layer_13_....pt) in {PAPER_DATA}",
)
def test_published_vectors(folder: VectorFolder, quick: None) -> None:
    for path in PAPER_DATA.glob("vectors/*/vec_layer_1[34]_*.pt"):
        copy = folder.root / path.relative_to(PAPER_DATA)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    folder.analyze("--layers", 13)
    found = sorted((folder.root / "analysis").glob("similarity_of_behaviors_layer=13_model=*.txt"))
    assert found
    for path in found:
        model = path.stem.partition("_model=")[2]
        labels, values = folder.matrix(path.stem)
        for (i, a), (j, b) in itertools.product(enumerate(labels), repeat=2):
            expected = cosine(folder.get(model, a, 13), folder.get(model, b, 13))
            assert values[i, j] == pytest.approx(expected, abs=1e-6)
