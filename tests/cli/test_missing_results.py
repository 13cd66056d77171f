"""What plot_results.py shows of a grid with holes, and what it says of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from result_desk import MODEL, Desk
from running import call

from utils.errors import UserError
from utils.files.names import ResultName, Variant


@pytest.fixture
def desk(tmp_path: Path, datasets: Path) -> Desk:
    return Desk(tmp_path / "out", datasets).fill()


def test_the_papers_command_draws_the_sweeps_and_no_page_for_each_layer(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plot("--layers", *range(32), "--multipliers", 1, "--type", "ab")
    names = desk.figures()
    assert any(re.match(r"LAYER_SWEEPS_.*\.png", name) for name in names)
    assert sum("/LAYER_SWEEP_" in name and name.endswith(".png") for name in names) == 2
    assert not [n for n in names if re.search("MULTIPLIERS|multipliers_|CHANGES", n)]
    table = next(data for n, data in names.items() if re.match(r"LAYER_SWEEPS_.*\.txt", n))
    assert b"calm\t2\t1\t" in table
    assert "missing;" not in capsys.readouterr().out, "tiny-llama is not known to have 32 layers"


def test_one_layer_asked_for_has_its_figures(desk: Desk) -> None:
    desk.plot("--layers", 1)
    names = {name.split("_type")[0] for name in desk.figures()}
    assert {"MULTIPLIERS_layer=1", "CHANGES_layer=1", "calm/multipliers_layer=1"} <= names


def test_missing_cells_are_one_line_at_the_end_of_what_was_asked_for(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer in (0, 1):
        desk.paths.result(ResultName(layer, 1.0, "calm", Variant("ab", model=MODEL))).unlink()
    desk.paths.result(ResultName(2, -1.0, "bold", Variant("ab", model=MODEL))).unlink()
    desk.plot("--layers", *range(9), "--multipliers", -1, 0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert sum("are missing" in line for line in lines) == 1
    assert lines[-1].startswith("3 cells are missing")
    assert "--behaviors bold calm --layers 0 1 2 --multipliers -1 1" in lines[-1]


def test_a_behaviour_without_any_result_is_hinted_at_only_if_asked_for(
    tmp_path: Path, datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path / "out", datasets).fill(["calm"])
    desk.plot("--layers", 0, 1)
    assert "missing;" not in capsys.readouterr().out
    desk.plot("--layers", 0, 1, "--multipliers", 0, 1, "--behaviors", "calm", "bold")
    assert "4 cells are missing" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_size", "7b"), f"--model {MODEL}"),
        (("--model", MODEL, "--limit", 8), f"--model {MODEL}"),
        (("--model", MODEL, "--layers", 7), "there are layers 0-2, multipliers -1, 0, 1"),
        (("--model", MODEL, "--type", "truthful_qa"), "./prompting_with_steering.py --type truth"),
    ],
)
def test_what_there_is_instead_is_named_with_its_flag(
    desk: Desk, flags: tuple[object, ...], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        call("plot_results", *desk.flags, *flags)


def test_where_no_model_is_named_the_only_one_that_has_results_is_meant(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plot("--layers", 0, 1)
    before = desk.figures()
    capsys.readouterr()
    assert call("plot_results", *desk.flags, "--layers", 0, 1) == 0
    said = capsys.readouterr().out
    assert f"no model named; the only results are of --model {MODEL}" in said
    assert desk.figures() == before


def test_where_two_models_have_results_one_must_be_named(desk: Desk) -> None:
    (path,) = desk.paths.artifacts.glob("results/calm/*layer=1_multiplier=1.0*")
    path.with_name(path.name.replace(MODEL, "another")).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=rf"--model {MODEL}; --model another|--model another; "):
        call("plot_results", *desk.flags)
