"""Runs stopped half-way and gone on with: what they write, and what they leave alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from running import call, every_file, hidden
from torch import Tensor

from utils.extraction import vector_sums
from utils.extraction.pairs import PairOutputs
from utils.files.paths import record_path
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Readings


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads wait for each other, and long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(one_thread: None, tiny_folder: Path, datasets: Path, tmp_path: Path) -> list[object]:
    flags: list[object] = ["--layers", 1, 2, "--behaviors", "calm", "--model", tiny_folder]
    flags += ["--datasets_dir", datasets, "--artifacts_dir", tmp_path / "artifacts"]
    return [*flags, "--batch_tokens", 200]


def stop_after_two_batches(command: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run generate_vectors.py until it has saved two batches, then stop it."""
    readings = PairOutputs.readings
    done: list[object] = []

    def stopping(self: PairOutputs, batch: Any) -> Readings:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(batch)
        return readings(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(vector_sums, "SAVE_EVERY_SECONDS", -1.0)
        patch.setattr(PairOutputs, "readings", stopping)
        with pytest.raises(KeyboardInterrupt):
            call("generate_vectors", *command)


@pytest.mark.parametrize("first", [True, False], ids=["asked_at_first", "asked_at_last"])
def test_a_stopped_run_goes_on_with_activations_asked_for_in_one_of_its_halves(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    keep = ("--save_activations",)
    stop_after_two_batches([*command, *(keep if first else ())], monkeypatch)
    assert (tmp_path / "artifacts/vectors/calm/.progress_tiny-llama").exists()
    assert call("generate_vectors", *command, *(() if first else keep)) == 0
    whole = tmp_path / "whole"
    call("generate_vectors", *command, *(() if first else keep), "--artifacts_dir", whole)
    published = {n: d for n, d in every_file(whole).items() if "/." not in n}
    found = every_file(tmp_path / "artifacts")
    assert len(published) == (2 if first else 6)
    assert {n: d for n, d in found.items() if "/." not in n} == published
    assert hidden(tmp_path / "artifacts") == [], "no state is left behind"


def test_a_foreign_vector_is_not_overwritten_when_its_activations_are_made(
    command: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "artifacts/vectors/calm/vec_layer_1_tiny-llama.pt"
    foreign.parent.mkdir(parents=True)
    torch.save(torch.ones(32), foreign)
    before = foreign.read_bytes()
    assert call("generate_vectors", *command, "--save_activations") == 0
    assert f"kept (no record: it came from elsewhere; --overwrite replaces it): {foreign}" in (
        capsys.readouterr().out
    )
    assert foreign.read_bytes() == before
    assert not record_path(foreign).exists()
    folder = tmp_path / "artifacts/activations/calm"
    assert len(list(folder.glob("activations_*.pt"))) == 4


def test_the_last_line_of_an_idle_run_promises_what_overwrite_does(
    command: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("generate_vectors", *command)
    capsys.readouterr()
    call("generate_vectors", *command)
    promised = "--overwrite makes it again" in capsys.readouterr().out
    vector = tmp_path / "artifacts/vectors/calm/vec_layer_1_tiny-llama.pt"
    before = vector.stat().st_mtime_ns
    call("generate_vectors", *command, "--overwrite")
    assert (vector.stat().st_mtime_ns != before) == promised


def test_a_stopped_sweep_goes_on_and_makes_a_result_that_was_lost_in_between(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifacts"
    call("generate_vectors", *command)
    call("normalize_vectors", "--artifacts_dir", folder, "--datasets_dir", tmp_path / "datasets")
    sweep = [*command, "--multipliers", 1, "--batch_tokens", 60]
    call("prompting_with_steering", *sweep, "--layers", 1)
    probabilities = LetterGrid.probabilities
    done: list[object] = []

    def stopping(self: LetterGrid, batch: Any) -> Tensor:
        if done:
            raise KeyboardInterrupt
        done.append(batch)
        return probabilities(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LetterGrid, "probabilities", stopping)
        with pytest.raises(KeyboardInterrupt):
            call("prompting_with_steering", *sweep)
    name = "results_layer={}_multiplier=1.0_behavior=calm_type=ab_model=tiny-llama.json"
    first, second = (folder / "results/calm" / name.format(layer) for layer in (1, 2))
    before = first.read_bytes()
    first.unlink()
    assert call("prompting_with_steering", *sweep) == 0
    assert second.exists()
    assert first.exists(), "status 0 says that everything asked for is there"
    assert json.loads(first.read_bytes())[0].keys() == json.loads(before)[0].keys()


def test_the_same_command_makes_the_same_bytes(command: list[object], tmp_path: Path) -> None:
    call("generate_vectors", *command, "--save_activations")
    folder = tmp_path / "artifacts"
    first = every_file(folder)
    assert len(first) == 12, "two vectors, four files of activations, and a record for each"
    shutil.rmtree(folder)
    call("generate_vectors", *command, "--save_activations")
    assert every_file(folder) == first
