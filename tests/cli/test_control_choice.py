"""Which controls there can be, what they depend on, and what is refused before a model loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import write_json
from control_bench import ControlBench
from running import call

from llama_wrapper import LlamaWrapper
from utils.errors import UserError

FEW = ("--layers", 1, "--control_draws", 2)


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ControlBench:
    """With two draws of each kind at layer 1."""
    bench = ControlBench(tiny_folder, tmp_path_factory.mktemp("made")).fill()
    assert bench.prompt("--controls", "random", "shuffled", *FEW) == 0
    return bench


@pytest.fixture
def bench(made: ControlBench, tmp_path: Path) -> ControlBench:
    return made.copy(tmp_path / "copy")


def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the model must not be loaded")

    monkeypatch.setattr(LlamaWrapper, "load", refuse)


def test_the_same_again_has_nothing_to_do_in_whatever_order_kinds_are_named(
    made: ControlBench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_model(monkeypatch)
    assert made.prompt("--controls", "shuffled", "random", *FEW) == 0
    out = capsys.readouterr().out
    assert "nothing to do" in out and "fewer than 19 draws give no p" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--control_draws", 3), "draws: 2 -> 3"),
        (("--control_seed", 1), "seed: 0 -> 1"),
        (("--controls", "random"), "controls: random shuffled -> random"),
    ],
)
def test_other_draws_are_refused_without_overwrite(
    made: ControlBench, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...], said: str
) -> None:
    no_model(monkeypatch)
    with pytest.raises(UserError, match=said):
        made.prompt("--controls", "random", "shuffled", *FEW, *options)


def test_more_draws_keep_the_first_and_another_seed_keeps_none(bench: ControlBench) -> None:
    def effects() -> dict[str, float]:
        return {row["vector"]: row["content"] for row in bench.read(1, 2.0)["rows"]}

    options = ("--controls", "random", "shuffled", "--layers", 1, "--overwrite")
    few = effects()
    assert bench.prompt(*options, "--control_draws", 3) == 0
    many = effects()
    assert many.keys() - few.keys() == {"random:2", "shuffled:2"}
    assert {name: many[name] for name in few} == pytest.approx(few, abs=1e-5)
    assert bench.prompt(*options, "--control_draws", 3, "--control_seed", 5) == 0
    other = effects()
    assert abs(other["calm"] - many["calm"]) < 1e-5
    assert abs(other["random:0"] - many["random:0"]) > 1e-4


def test_missing_activations_are_told_with_the_command(
    bench: ControlBench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (bench.artifacts / "activations" / "calm").glob("*_1_tiny-llama.pt"):
        path.unlink()
    no_model(monkeypatch)
    with pytest.raises(UserError) as refused:
        bench.prompt("--controls", "letter")
    flags = f"--behaviors calm --layers 1 --save_activations --model {bench.model} --art"
    assert f"tiny-llama at layer 1\nMake them with: ./generate_vectors.py {flags}" in str(
        refused.value
    )
    assert "--controls random others" in str(refused.value)


def test_activations_of_other_pairs_than_the_vectors_are_refused(
    bench: ControlBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (bench.artifacts / "activations" / "calm").glob("activations_pos_*"):
        torch.save(torch.load(path, weights_only=True).flip(0, 1), path)
        path.with_name(f".{path.name}.record").unlink()
    no_model(monkeypatch)
    with pytest.raises(UserError, match=r"is another vector\nMake both again with: .*--overwrite"):
        bench.prompt("--controls", "shuffled", "--overwrite")


def test_letters_all_alike_leave_out_what_needs_both(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ControlBench(tiny_folder, tmp_path)
    bench.fill()
    path = bench.datasets / "generate" / "calm" / "generate_dataset.json"
    rows = [row for row in json.loads(path.read_text()) if "(A)" in row["answer_matching_behavior"]]
    write_json(path, rows)
    model = (*bench.flags, "--model", bench.model, "--behaviors", "calm")
    call("generate_vectors", "--layers", 1, "--save_activations", "--overwrite", *model)
    call("normalize_vectors", "--overwrite", *bench.flags)
    capsys.readouterr()
    assert bench.prompt("--controls", "shuffled", "letter", "others", "--layers", 1) == 0
    out = capsys.readouterr().out
    assert "calm: no shuffled controls: 4 of 4 pairs have A as their matching letter" in out
    assert "no letter controls: 4 of 4" in out
    names = [row["vector"] for row in bench.read(1, 2.0)["rows"]]
    assert names == ["calm", "other:bold"]
    with pytest.raises(UserError, match=r"4 of 4 pairs have A .*\nAsk for --controls random"):
        bench.prompt("--controls", "shuffled", "--layers", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--control_draws", 5), "go with --controls"),
        (("--controls", "random", "--multipliers", 0), "other than 0"),
        (("--controls", "random", "--type", "bundled_knowledge"), "goes with --type ab"),
    ],
)
def test_flags_that_ask_for_nothing_are_refused(
    made: ControlBench, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...], said: str
) -> None:
    no_model(monkeypatch)
    with pytest.raises(UserError, match=said):
        made.prompt(*options)


def test_controls_of_doses_and_of_another_layers_vector(bench: ControlBench) -> None:
    grid = ("--layers", 1, "--doses", 0.2, "--control_draws", 1)
    kinds = ("--controls", "random", "shuffled", "letter", "others")
    shared = (*bench.flags, "--model", bench.model, "--behaviors", "calm")
    assert call("prompting_with_steering", *grid, *kinds, *shared) == 0
    (dose,) = (bench.artifacts / "results" / "calm").glob("controls_layer=1_dose=0.2_*")
    assert len(json.loads(dose.read_text())["rows"]) == 5
    assert bench.prompt(*kinds, "--override_vector", 2, "--layers", 1, "--control_draws", 1) == 0
    (moved,) = (bench.artifacts / "results" / "calm").glob(
        "controls_layer=1_multiplier=2.0*vector=2*"
    )
    own = {row["vector"]: row for row in bench.read(1, 2.0)["rows"]}
    rows = {row["vector"]: row for row in json.loads(moved.read_text())["rows"]}
    assert abs(rows["shuffled:0"]["content"] - own["shuffled:0"]["content"]) > 1e-4
