"""Figures of effects before the band of their controls: drawn, not drawn again, told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import write_json
from result_desk import MODEL, Desk, choice
from running import has_row

from behaviors import load
from utils.drawing import line_plots
from utils.errors import UserError
from utils.figures.control_figures import find_controls
from utils.files.artifacts import save
from utils.files.names import ResultName, Variant

R = 19


class ControlDesk(Desk):
    """With files of controls in place of results."""

    def put_controls(self, layer: int, strength: float, behavior: str = "calm") -> Path:
        generator = np.random.default_rng(layer)
        draws = strength * generator.normal(0, 0.1, R)
        rows = [{"vector": behavior, "content": 0, "letter": 0, "score": 0, "n": 6}]
        rows += [
            {"vector": f"shuffled:{r}", "content": x, "letter": -x, "score": 0, "n": 6}
            for r, x in enumerate(draws)
        ]
        questions = [
            {"content": strength * (layer + 0.1 * n), "letter": 0.2, "score": 0.0} for n in range(6)
        ]
        variant = Variant("ab", model=MODEL)
        path = self.paths.controls(ResultName(layer, strength, behavior, variant))
        return write_json(path, {"rows": rows, "questions": questions, "kept": []})


@pytest.fixture
def desk(tmp_path: Path, datasets: Path) -> ControlDesk:
    desk = ControlDesk(tmp_path / "artifacts", datasets)
    for layer in (0, 1, 2):
        for strength in (-1.0, 1.0):
            desk.put_controls(layer, strength)
    return desk


def test_files_of_controls_are_no_results(desk: ControlDesk) -> None:
    assert desk.paths.results_of("calm") == []
    assert len(desk.paths.controls_of("calm")) == 6
    assert {n.cell for n in desk.paths.controls_of("calm")} == {
        (n, s) for n in (0, 1, 2) for s in (-1.0, 1.0)
    }
    with pytest.raises(UserError, match="no results of type ab"):
        desk.plot()


def test_pictures_and_numbers_of_strengths_and_layers(
    desk: ControlDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.plot("--controls") == 0
    folder = desk.paths.artifacts / "analysis" / "calm"
    at = folder / f"controls_multipliers_layer=2_type=ab_model={MODEL}.txt"
    sweep = folder / f"CONTROLS_SWEEP_multiplier=1.0_type=ab_model={MODEL}.txt"
    for path in (at, sweep):
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    p = f"{1 / (R + 1):.6g}"
    paired = {"vector": "calm", "layer": "2", "strength": "±1", "quantity": "content"}
    assert has_row(at.read_text(), **paired, mean="2.250000", p_shuffled=p, n="6")
    single = paired | {"strength": "-1", "mean": "-2.250000"}
    assert has_row(at.read_text(), **single, p_shuffled=p, p_max="-")
    assert has_row(sweep.read_text(), **paired, p_max=p)
    assert has_row(sweep.read_text(), **paired | {"layer": "0"}, p_max=p)
    draws = np.random.default_rng(2).normal(0, 0.1, R)
    low = f"{np.percentile(draws, 2.5):.6f}"
    assert has_row(sweep.read_text(), **paired | {"vector": "shuffled (19)"}, low95=low)
    out = capsys.readouterr().out
    (row,) = [line for line in out.splitlines() if line.startswith("calm ")]
    assert row.split()[1] == "+2.250" and row.split()[-1] == "0.050"
    assert "effect at layer 2, multiplier ±1;" in out
    before = desk.figures()
    assert desk.plot("--controls") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert desk.figures() == before


def test_a_cell_that_tune_has_measured_shows_its_divergence_and_every_row_its_dose(
    desk: ControlDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    doses = Variant("ab", model=MODEL, unit="dose")
    for layer, strength, sha in ((1, 0.2, "abc"), (2, 0.2, "another vector")):
        for sign in (1, -1):
            made = desk.put_controls(layer, sign * strength).read_bytes()
            path = desk.paths.controls(ResultName(layer, sign * strength, "calm", doses))
            save(path, made, {"vector": sha}, {"multiplier": 1.5 * sign, "dose": 0.2 * sign})
    write_json(desk.paths.tuning("calm", MODEL), choice())
    cells = {}
    for layer in (1, 2):
        assert desk.plot("--controls", "--doses", -0.2, 0.2, "--layers", layer) == 0
        lines = capsys.readouterr().out.splitlines()
        (row,) = [line for line in lines if line.startswith("calm ")]
        (header,) = [line for line in lines if "effect [95 %]" in line]
        cells[layer] = " KL" in header and row.split()[5]
    assert cells == {1: "0.06", 2: False}, "of another vector nothing is known"
    folder = desk.paths.artifacts / "analysis" / "calm"
    table = (folder / f"controls_doses_layer=1_type=ab_model={MODEL}.txt").read_text()
    assert has_row(table, vector="calm", strength="±0.2", dose="0.2", quantity="letter")
    assert has_row(table, vector="calm", strength="-0.2", dose="0.2", quantity="content")
    # of multipliers the dose is what the records say, and where they do not a dash
    path = desk.paths.controls(ResultName(1, 0.2, "calm", Variant("ab", model=MODEL)))
    save(path, path.read_bytes(), {}, {"multiplier": 0.2, "dose": 0.05})
    flags = ("--multipliers", -1, -0.2, 0.2, 1)
    for layer, dose in ((1, "0.25"), (2, "-")):
        assert desk.plot("--controls", "--layers", layer, *flags) == 0
        table = (
            folder / f"controls_multipliers_layer={layer}_type=ab_model={MODEL}.txt"
        ).read_text()
        assert has_row(table, vector="calm", strength="±1", dose=dose, quantity="content")


def test_a_band_is_that_of_the_draws_and_closes_where_nothing_is_added(
    desk: ControlDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[line_plots.Panel]] = []
    monkeypatch.setattr(line_plots, "stacked_figure", lambda panels, *_, **__: shown.append(panels))
    plan = find_controls(
        load("calm", desk.paths), Variant("ab", model=MODEL), desk.paths, [1], None
    )
    assert plan is not None
    (job,) = plan.jobs()
    job.draw(desk.paths)
    content, letter = shown[0]
    draws = np.random.default_rng(1).normal(0, 0.1, R)
    low, high = np.percentile(draws, [2.5, 97.5])
    assert content.band is not None and letter.band is not None
    assert content.band.x == [-1.0, 0.0, 1.0] == list(content.lines[0].x)
    assert content.band.low == pytest.approx([-high, 0, low])
    assert content.band.high == pytest.approx([-low, 0, high])
    assert letter.band.low == pytest.approx([low, 0, -high])
    assert content.band.label == "19 shuffled controls, 2.5 to 97.5 %"


def test_a_figure_of_some_says_so_and_one_that_would_show_less_is_refused(
    desk: ControlDesk,
) -> None:
    assert desk.plot("--controls") == 0
    assert desk.plot("--controls", "--layers", 0, 1) == 0
    names = {Path(name).name for name in desk.figures()}
    assert f"CONTROLS_SWEEP_multiplier=1.0_type=ab_model={MODEL}_layers=0-1.png" in names
    desk.put_controls(2, 1.0).unlink()
    with pytest.raises(UserError, match=r"shows .* and now there are fewer"):
        desk.plot("--controls")


def test_without_controls_the_command_that_measures_them_is_told(desk: ControlDesk) -> None:
    with pytest.raises(UserError, match=r"--controls random shuffled letter others --layers"):
        desk.plot("--controls", "--behaviors", "bold")


def test_random_controls_stand_in_where_none_were_shuffled(desk: ControlDesk) -> None:
    for name in desk.paths.controls_of("calm"):
        path = desk.paths.controls(name)
        content = json.loads(path.read_text())
        for row in content["rows"]:
            row["vector"] = row["vector"].replace("shuffled", "random")
        path.write_text(json.dumps(content))
    assert desk.plot("--controls") == 0
    (text,) = (p for p in (desk.paths.artifacts / "analysis/calm").glob("CONTROLS_SWEEP*.txt"))
    assert has_row(text.read_text(), vector="random (19)", quantity="content")
