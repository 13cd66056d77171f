"""plot_activations.py: its figures against their texts, and these against the activations."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import matplotlib.colors
import numpy as np
import pytest
import torch
from conftest import QUESTIONS, ROWS, pair, write_json
from drawn_figures import drawn
from made_up_activations import Saved, generated, saved
from running import artifacts, call, numbers_of

from utils.activations.components import principal_components
from utils.activations.layer_measures import measure
from utils.activations.saved import Answers
from utils.activations.separation import mean_difference
from utils.drawing.palette import COLORS
from utils.figures import activation_figures
from utils.files.paths import Paths

__all__ = ("drawn", "generated", "saved")  # fixtures


def test_names_are_parsed_exactly(saved: Saved) -> None:
    saved.put("calm", 1)
    saved.put("calm", 15, "some_model_limit=3")
    folder = saved.folder / "activations/calm"
    (folder / "activations_neg_15_some_model_limit=3.pt").unlink()
    for name in ("activations_pos_x_m.pt", "activations_pos_07_m.pt", "activations_mid_2_m.pt"):
        (folder / name).touch()
    (folder / ".activations_pos_3_m.pt.record").touch()
    (saved.folder / "activations/empty").mkdir()
    found = saved.paths.saved_activations()
    assert found == {"calm": [(1, "m"), (15, "some_model_limit=3")]}
    assert Paths(saved.folder / "none", saved.datasets).saved_activations() == {}


def test_from_generated_vectors_to_figures(
    generated: Saved, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generated.plot() == 0
    model = "tiny-llama"
    out = capsys.readouterr().out
    rows = json.loads(generated.paths.generate_data("bold").read_text())
    for layer in (0, 1, 2):
        files = [generated.paths.activations("bold", s, layer, model) for s in ("pos", "neg")]
        answers = [torch.load(f, weights_only=True).double().numpy() for f in files]
        together = np.concatenate(answers)
        u, s, _ = np.linalg.svd(together - together.mean(axis=0), full_matrices=False)
        found = generated.text(f"PCA_layer={layer}", "bold", model)
        assert [int(r["pair"]) for r in found] == [*range(1, 9)] * 2
        assert [r["answer"] for r in found] == ["matching"] * 8 + ["other"] * 8
        letters = [r[f"answer_{k}_behavior"][1] for k in ("matching", "not_matching") for r in rows]
        assert [r["letter"] for r in found] == letters
        for k in range(2):
            values = np.array([float(r[f"pc{k + 1}"]) for r in found])
            expected = u[:, k] * s[k] * np.sign(values @ u[:, k])
            assert values == pytest.approx(expected, rel=1e-4, abs=1e-4 * s[0])
            assert float(found[0][f"share{k + 1}"]) == pytest.approx(
                s[k] ** 2 / (s**2).sum(), abs=1e-6
            )
        page = generated.text("PCA_all_layers", "bold", model)
        for row, line in zip(found, (r for r in page if r["layer"] == str(layer)), strict=True):
            assert line.items() <= row.items()
        pairs = [(r["answer_matching_behavior"][1], r["answer_not_matching_behavior"][1])
                 for r in rows]  # fmt: skip
        measured = measure(Answers(answers[0], answers[1], pairs))
        # The direction learnt from all pairs is the vector that generate_vectors.py has saved.
        vector = torch.load(generated.paths.vector("bold", layer, model, normalized=False))
        direction = mean_difference(Answers(answers[0], answers[1], pairs), np.ones(8, dtype=bool))
        assert direction == pytest.approx(vector.numpy(), abs=1e-5)
        separations = [
            r for r in generated.text("separation", "bold", model) if r["layer"] == str(layer)
        ]
        assert len(separations) > 1
        for row in separations:
            attribute = (activation_figures.MEASURES | activation_figures.ONLY_IN_TEXT)[
                row["measure"]
            ]
            estimate = getattr(measured.separation, attribute)
            shown = [row[k] for k in ("mean", "low95", "high95", "n")]
            assert shown == [f"{e:.6f}" for e in (estimate.mean, estimate.low, estimate.high)] + [
                "8"
            ]
        variance = generated.text("variance", "bold", model)[layer]
        for name in ("pc1", "pc2", "difference", "letter"):
            assert variance[name] == f"{getattr(measured.shares, name):.6f}"
    together_page = numbers_of(generated.folder / f"analysis/SEPARATION_model={model}.txt")
    assert len(together_page) == 2 * 3 * 4
    assert {r["behavior"] for r in together_page} == {"calm", "bold"}
    best = max(
        (r for r in generated.text("separation", "bold", model)
         if r["measure"] == "AUROC, same letter"), key=lambda r: float(r["mean"])
    )  # fmt: skip
    (printed,) = [text for text in out.splitlines() if text.startswith("bold")]
    assert printed.split()[1:5] == ["8", "4", best["layer"], f"{float(best['mean']):.3f}"]
    assert len(list((generated.folder / "analysis").rglob("*.png"))) == 2 * (3 + 2 + 2) + 1


def test_a_second_run_gives_the_same_bytes(saved: Saved) -> None:
    saved.put("calm", 1)
    saved.put("calm", 15)
    saved.plot()
    before = artifacts(saved.folder)
    for path in (saved.folder / "analysis").rglob("*"):
        if path.is_file():
            path.unlink()
    saved.plot()
    assert artifacts(saved.folder) == before
    assert len(before) == 4 + 2 * (2 + 2 + 2)


def test_layer_1_is_not_layer_15_and_some_layers_do_not_replace_all(saved: Saved) -> None:
    values = {layer: saved.put("calm", layer) for layer in (1, 5, 15)}
    saved.plot()
    before = artifacts(saved.folder)
    saved.plot("--layers", 15, 1)
    after = artifacts(saved.folder)
    assert before.items() <= after.items()
    new = {Path(name).name.split("_model")[0] for name in after.keys() - before.keys()}
    assert new == {
        "PCA_layers=1,15",
        "PCA_layers=1,15_letters_removed",
        "separation_layers=1,15",
        "variance_layers=1,15",
    }
    letters = [("A", "B"), ("B", "A")] * 4
    for layer, answers in values.items():
        single = answers.matching.astype(np.float32), answers.other.astype(np.float32)
        exact = Answers(single[0].astype(float), single[1].astype(float), letters)
        expected, _ = principal_components(exact)
        found = saved.text(f"PCA_layer={layer}")
        assert [float(r["pc1"]) for r in found] == pytest.approx(expected[:, 0], rel=1e-4)
    assert [r["layer"] for r in saved.text("variance_layers=1,15")] == ["1", "15"]


def test_of_one_layer_there_are_no_lines_but_their_numbers(saved: Saved) -> None:
    for behavior in ("bold", "calm"):
        saved.put(behavior, 7)
    saved.plot()
    folder = saved.folder / "analysis"
    assert {p.name for p in folder.rglob("*.png")} == {"PCA_layer=7_model=m.png"}
    for name in ("SEPARATION", "calm/separation", "calm/variance", "bold/variance"):
        assert {r["layer"] for r in numbers_of(folder / f"{name}_model=m.txt")} == {"7"}


def points_of(axes: Any) -> list[tuple[float, float, str, int]]:
    """Place, colour and the number of corners of the marker of every point."""
    return [
        (*place, matplotlib.colors.to_hex(color[:3]), len(cloud.get_paths()[0].vertices))
        for cloud in axes.collections
        for place, color in zip(cloud.get_offsets(), cloud.get_facecolors(), strict=True)
    ]


def test_the_texts_of_scatters_hold_what_is_drawn(saved: Saved, drawn: dict[str, Any]) -> None:
    for layer in (1, 15):
        saved.put("calm", layer)
    saved.plot()
    folder = saved.folder / "analysis/calm"
    page = numbers_of(folder / "PCA_all_layers_model=m.txt")
    removed = numbers_of(folder / "PCA_all_layers_letters_removed_model=m.txt")
    colors = {"matching": COLORS[0].lower(), "other": COLORS[1].lower()}
    shapes: dict[str, set[int]] = {"A": set(), "B": set()}
    for number, layer in enumerate((1, 15)):
        rows = numbers_of(folder / f"PCA_layer={layer}_model=m.txt")
        for rest, lines in (("", page), ("_letters_removed", removed)):
            for row, line in zip(rows, (r for r in lines if r["layer"] == str(layer)), strict=True):
                names = ("pc1", "pc2", "share1", "share2")
                assert [row[f"{n}{rest}"] for n in names] == [line[n] for n in names]
        single, without = drawn[f"PCA_layer={layer}_model=m.png"].axes
        panel = drawn["PCA_all_layers_model=m.png"].axes[number]
        for axes in (single, panel):
            points = points_of(axes)
            assert len(points) == len(rows) == 16
            for row in rows:
                place = [float(row["pc1"]), float(row["pc2"])]
                (point,) = [p for p in points if np.allclose(p[:2], place, rtol=1e-4)]
                assert point[2] == colors[row["answer"]]
                shapes[row["letter"]].add(point[3])
        shares = [f"{100 * float(rows[0][name]):.0f} %" for name in ("share1", "share2")]
        assert (single.get_xlabel(), single.get_ylabel()) == (
            f"PC1 ({shares[0]} of the variance)",
            f"PC2 ({shares[1]})",
        )
        assert panel.get_title(loc="left") == f"layer {layer}"
        assert panel.get_title(loc="right") == ", ".join(shares)
        title = drawn[f"PCA_layer={layer}_model=m.png"].legends[0].get_title().get_text()
        assert title == f"Calm, layer {layer}"
        places = [[float(r[f"pc{k}_letters_removed"]) for k in (1, 2)] for r in rows]
        found = sorted(p[:2] for p in points_of(without))
        assert np.array(found) == pytest.approx(np.array(sorted(map(tuple, places))), rel=1e-4)
    assert all(len(found) == 1 for found in shapes.values()) and shapes["A"] != shapes["B"]
    for figure in ("PCA_layer=1_model=m.png", "PCA_all_layers_model=m.png"):
        legend, note = drawn[figure].legends
        assert "m; 8 pairs" in note.get_title().get_text()
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels == ["matching", "other", "letter A", "letter B"]


def lines_of(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_texts_of_lines_hold_what_is_drawn(saved: Saved, drawn: dict[str, Any]) -> None:
    for behavior, layer in itertools.product(("calm", "bold"), (1, 2, 15)):
        saved.put(behavior, layer)
    saved.plot("--behaviors", "calm", "bold")
    both = numbers_of(saved.folder / "analysis/SEPARATION_model=m.txt")
    panels = drawn["SEPARATION_model=m.png"].axes
    assert [axes.get_title(loc="left") for axes in panels] == ["Calm", "Bold"]
    # The last behaviour's own figure is the one kept.
    for axes, behavior in (
        (panels[0], "calm"),
        (panels[1], "bold"),
        (drawn["separation_model=m.png"].axes[0], "bold"),
    ):
        lines = lines_of(axes)
        for label in activation_figures.MEASURES:
            rows = [r for r in both if (r["behavior"], r["measure"]) == (behavior, label)]
            expected = np.array([[float(r["layer"]), float(r["mean"])] for r in rows])
            # lines are moved aside by less than half a layer, so that their intervals stay apart
            assert np.round(lines[label][:, 0]) == pytest.approx(expected[:, 0])
            assert lines[label][:, 1] == pytest.approx(expected[:, 1], abs=1e-6)
            assert len(expected) == 3
    own = numbers_of(saved.folder / "analysis/bold/separation_model=m.txt")
    assert own == [{k: v for k, v in r.items() if k != "behavior"} for r in both
                   if r["behavior"] == "bold"]  # fmt: skip
    shares = numbers_of(saved.folder / "analysis/bold/variance_model=m.txt")
    axes = drawn["variance_model=m.png"].axes[0]
    lines = lines_of(axes)
    layers = np.array([float(r["layer"]) for r in shares])
    first, second = (np.array([float(r[name]) for r in shares]) for name in ("pc1", "pc2"))
    for label, expected in (("PC1", first), ("PC1 + PC2", first + second)):
        assert lines[label] == pytest.approx(np.stack([layers, expected], axis=1), abs=2e-6)
    total = np.zeros(len(layers))
    for area, part in zip(axes.collections, ("letter", "answer", "question", "rest"), strict=True):
        total += [float(r[f"part_{part}"]) for r in shares]
        corners = area.get_paths()[0].vertices
        for layer, top in zip(layers, total, strict=True):
            assert corners[corners[:, 0] == layer][:, 1].max() == pytest.approx(top, abs=4e-6)
    assert total == pytest.approx(np.ones(len(layers)), abs=4e-6)


def test_activations_of_the_first_pairs_take_the_first_letters(
    tiny_folder: Path, saved: Saved
) -> None:
    call("generate_vectors", "--layers", 1, "--limit", 3, "--save_activations", *saved.flags,
         "--model", tiny_folder)  # fmt: skip
    saved.plot("--behaviors", "calm")
    found = saved.text("PCA_layer=1", model="tiny-llama_limit=3")
    assert [r["letter"] for r in found] == ["A", "B", "A", "B", "A", "B"]


def test_every_model_has_figures_of_its_own(saved: Saved) -> None:
    saved.put("calm", 1, "one")
    saved.put("calm", 1, "two")
    saved.put("bold", 2, "two_base")
    saved.plot("--model", "two")  # bold has none of it, and has not been asked for
    assert {p.name.split("model=")[1] for p in saved.folder.rglob("PCA*.png")} == {"two.png"}
    saved.plot()
    found = {p.name for p in saved.folder.rglob("PCA*.png")}
    assert found == {
        f"PCA_layer={x}.png" for x in ("1_model=one", "1_model=two", "2_model=two_base")
    }


def test_one_letter_for_all_is_said_and_drawn_without(
    saved: Saved, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair(q, "A") for q in QUESTIONS]
    write_json(saved.datasets / "generate/calm/generate_dataset.json", rows)
    saved.put("calm", 1)
    saved.put("calm", 2)
    assert saved.plot() == 0
    assert "same letter in all pairs: not measurable" in capsys.readouterr().out
    assert {r["measure"] for r in saved.text("separation")} == {
        "AUROC, any letter", "paired accuracy, letters not removed"}  # fmt: skip


def test_letters_beyond_a_and_b(saved: Saved, drawn: dict[str, Any]) -> None:
    letters = [("A", "B"), ("B", "A"), ("C", "D"), ("G", "H")] * 2
    rows = [
        row | {"answer_matching_behavior": f"({m})", "answer_not_matching_behavior": f"({o})"}
        for row, (m, o) in zip(ROWS, letters, strict=True)
    ]
    write_json(saved.datasets / "generate/calm/generate_dataset.json", rows)
    saved.put("calm", 1)
    assert saved.plot() == 0
    legend, _ = drawn["PCA_layer=1_model=m.png"].legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[2:] == [f"letter {x}" for x in "ABCDGH"]
    rows = numbers_of(saved.folder / "analysis/calm/PCA_layer=1_model=m.txt")
    assert [r["letter"] for r in rows[:4]] == ["A", "B", "C", "G"]
