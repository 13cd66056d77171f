"""The files of a figure, figures of finetuning on one scale, and the sheet of all kinds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drawn_figures import drawn
from PIL import Image
from running import call

from benchmarks import contact_sheet
from utils.drawing.files import pictures, written_as
from utils.drawing.line_plots import line_figure, stacked_figure
from utils.drawing.panels import Line, Panel
from utils.figures.training_figures import Run, both_figure, curve_figure, curve_table, read_run
from utils.stats import Estimate

__all__ = ("drawn",)  # fixtures

POINT = Estimate(0.5, 0.4, 0.6, 9)
STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def draw(path: Path) -> None:
    panels = [Panel([Line("a $ b", [0, 1], [POINT, POINT])], "x", "y", "title")] * 2
    stacked_figure(panels, path, title="t", note="n")


@pytest.mark.parametrize("formats", [["png"], ["pdf"], ["svg", "png"], ["png", "pdf", "svg"]])
def test_formats_stand_beside_the_png_and_are_the_same_bytes_in_every_run(
    tmp_path: Path, formats: list[str]
) -> None:
    found = []
    for folder in ("one", "two"):
        path = tmp_path / folder / "a_model=Q2.5.png"
        with written_as(formats):
            draw(path)
            assert pictures(path)[0] == path
            assert {p.name for p in pictures(path)} == {p.name for p in path.parent.iterdir()}
        found.append({p.name: p.read_bytes() for p in sorted(path.parent.iterdir())})
    assert found[0] == found[1]
    assert set(found[0]) == {f"a_model=Q2.5.{name}" for name in {"png", *formats}}
    for name, data in found[0].items():
        assert data.startswith(STARTS[name.rsplit(".", 1)[1]])
        assert b"CreationDate" not in data and b"<dc:date>" not in data
    assert pictures(path) == [path], "only in the block"


def test_a_script_writes_the_formats_that_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    folder = tmp_path / "vectors/calm"
    folder.mkdir(parents=True)
    for layer in range(3):
        torch.save(torch.randn(8), folder / f"vec_layer_{layer}_m.pt")
    given = ("--artifacts_dir", tmp_path, "--datasets_dir", tmp_path)
    assert call("analyze_vectors", *given, "--format", "pdf") == 0
    analysis = tmp_path / "analysis"
    made = {p.relative_to(analysis).with_suffix("") for p in analysis.rglob("*.png")}
    assert made and made == {
        p.relative_to(analysis).with_suffix("") for p in analysis.rglob("*.pdf")
    }
    assert not list(analysis.rglob("*.svg"))


# ---------------------------------------------------------------- finetuning

SETTINGS = {"model": "m", "pairs": "6", "optimizer": "adamw", "learning rate": "2e-05"}


def run_of(direction: int, loss: float = 1.0) -> Run:
    curve = [{"step": i, "loss": loss / i, "gradient_norm": 2.0 * i} for i in range(1, 7)]
    tests = [
        {"step": s, "score": 0.5 + direction * 0.05 * s, "low": 0.1, "high": 0.9,
         "accuracy": 0.5, "n": 8}
        for s in (0, 3, 6)
    ]  # fmt: skip
    return Run(curve, tests, SETTINGS)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "finetune_pos_all_model=m.txt"
    path.write_bytes(curve_table(run_of(1)))
    found = read_run(path)
    assert found is not None and curve_table(found) == path.read_bytes()
    for text in ("", "step\tloss", "a\n\nb\n\nc", "step\tloss\tx\n1\tnan"):
        path.write_text(text)
        assert read_run(path) is None
    assert read_run(tmp_path / "none.txt") is None


def test_both_directions_are_drawn_on_one_scale_and_the_recipe_is_named(
    tmp_path: Path, drawn: dict[str, Any]
) -> None:
    pos = tmp_path / "finetune_pos_all_pairs=6_model=m.png"
    neg = tmp_path / "finetune_neg_all_pairs=6_model=m.png"
    curve_figure(run_of(1, loss=0.01), "pos", pos)
    assert both_figure(pos, "both") == [], "the other has not been trained"
    curve_figure(run_of(-1, loss=2.0), "neg", neg)
    made = both_figure(neg, "both")
    both = tmp_path / "finetune_both_all_pairs=6_model=m.png"
    assert made == [both, both.with_suffix(".txt")]
    limits = {name: [axes.get_ylim() for axes in figure.axes] for name, figure in drawn.items()}
    assert limits[pos.name] == limits[neg.name] == limits[both.name]
    below = drawn[both.name].axes[1]
    shown = [line.get_ydata().tolist() for line in below.lines if len(line.get_xdata()) == 3]
    for line, direction in zip(shown, (1, -1), strict=True):
        assert line == pytest.approx([r["score"] for r in run_of(direction).tests], abs=1e-6)
    note = drawn[both.name].legends[-1].get_title().get_text().replace("\n", " ")
    assert "optimizer adamw" in note and "learning rate 2e-05" in note and "8 held-out" in note
    text = both.with_suffix(".txt").read_bytes()
    assert all(p.with_suffix(".txt").read_bytes() in text for p in (pos, neg))


def test_runs_of_other_recipes_are_not_drawn_together(
    tmp_path: Path, drawn: dict[str, Any]
) -> None:
    pos, neg = (tmp_path / f"finetune_{d}_all_model=m.png" for d in ("pos", "neg"))
    curve_figure(run_of(1), "pos", pos)
    other = replace(run_of(-1), settings=SETTINGS | {"optimizer": "sgd"})
    curve_figure(other, "neg", neg)
    assert both_figure(neg, "both") == [] and len(drawn) == 2


# ---------------------------------------------------------------- the sheet


def test_the_sheet_shows_one_of_each_kind_and_is_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analysis = tmp_path / "analysis"
    names = ["LAYER_SWEEPS_type=ab_model=m", "refusal/LAYER_SWEEP_type=ab_model=m",
             "refusal/LAYER_SWEEP_type=mmlu_model=m", "norms_model=m"]  # fmt: skip
    for name in names:
        line_figure(
            [Panel([Line("a", [0, 1], [POINT, POINT])], "x", "y")], analysis / f"{name}.png"
        )
    sheets = [tmp_path / "a.png", tmp_path / "b.png"]
    for sheet in sheets:
        assert contact_sheet.main(["--drawn", str(tmp_path), "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert "3 figures" in out and "nothing here makes" in out and "DOSES_*" in out
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    with Image.open(sheets[0]) as page:
        assert page.width == 5 * (contact_sheet.TILE[0] + 8) + 8


def test_the_committed_sheet_is_small_enough_for_git() -> None:
    assert contact_sheet.SHEET.stat().st_size < 1_500_000
