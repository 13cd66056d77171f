"""Finetuning that was killed, or that stopped by itself: resumed = uninterrupted."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from finetuning_runs import common, pairs
from running import artifacts, call, finish, hidden, kill_at_signs_of_work, start_warm

from utils.errors import UserError
from utils.files.paths import Paths
from utils.finetuning.tuner import Example, Finetuner

__all__ = ("common", "pairs")  # fixtures


# ---------------------------------------------------------------- the script


def test_a_stopped_run_goes_on_to_the_same_bytes(common: list[object], tmp_path: Path) -> None:
    options = [*common, "--direction", "pos", "--epochs", 20, "--optimizer", "adamw"]
    options += ["--checkpoint_every", 3, "--eval_every", 50, "--lr", 0.001]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start_warm("finetune_llama", *options, "--artifacts_dir", whole))
    generator, kills = random.Random(3), 0
    for _ in range(2):
        process = start_warm("finetune_llama", *options, "--artifacts_dir", killed)
        kills += kill_at_signs_of_work(process, killed, "run.json", generator)
    assert kills > 0, "no run was killed in the middle: the test shows nothing"
    finish(start_warm("finetune_llama", *options, "--artifacts_dir", killed))
    assert artifacts(killed) == artifacts(whole)
    assert len(artifacts(whole)) == 3
    assert hidden(killed) == []


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_state(
    common: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    options += ["--checkpoint_every", 1]
    gradients, calls = Finetuner.gradients, []

    def failing(self: Finetuner, chosen: list[Example]) -> tuple[float, float]:
        calls.append(len(chosen))
        loss, norm = gradients(self, chosen)
        bad = float("nan") if broken == "loss" else loss, float("inf")
        return bad if len(calls) == 4 else (loss, norm)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "gradients", failing)
        assert call("finetune_llama", *options) == 1
    errors = capsys.readouterr().err
    assert "step 4 of 6" in errors
    assert "no weights written" in errors
    states = list(tmp_path.rglob("step_*"))
    assert [p.name for p in states] == ["step_2"], "step_3 would be the state that broke"
    assert str(states[0].parent) in errors
    assert not list(tmp_path.rglob("*.pt"))
    assert call("finetune_llama", *options) == 0, "it goes on from there"
    whole = tmp_path / "whole"
    call("finetune_llama", *options, "--artifacts_dir", whole)
    assert artifacts(tmp_path / "finetuned_models") == artifacts(whole / "finetuned_models")
    assert len(artifacts(tmp_path / "finetuned_models")) == 1


def test_a_rate_that_breaks_the_model_is_stopped(
    common: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--lr", 1e30]
    assert call("finetune_llama", *options) == 1
    assert "step 2 of 6: loss nan" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pt"))


# ---------------------------------------------------------------- several processes


def test_what_was_killed_between_picture_and_weights_is_made_again(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--checkpoint_every", 2]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("utils.figures.training_figures.curve_figure", stopped)
        with pytest.raises(KeyboardInterrupt):
            call("finetune_llama", *options)
    assert not list(tmp_path.glob("finetuned_models/*.pt")), "the weights come last"
    assert call("finetune_llama", *options) == 0
    assert len(artifacts(tmp_path / "analysis")) == 2
    assert hidden(tmp_path / "finetuned_models") == []
    (tmp_path / "finetuned_models/.training_calm_pos_finetune_all/step_2").mkdir(parents=True)
    assert call("finetune_llama", *options) == 0
    assert not list(tmp_path.glob("finetuned_models/.training*")), "nor after a kill in cleaning up"


def test_what_a_kill_leaves_of_a_state_is_no_state(common: list[object], tmp_path: Path) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    folder = tmp_path / "finetuned_models/.training_calm_pos_finetune_all"
    (folder / "step_3").mkdir(parents=True)
    (folder / "step_4.old.tmp").mkdir()
    assert call("finetune_llama", *options) == 0
    assert not folder.exists()


def test_a_full_disk_stops_with_one_message(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("accelerate.Accelerator.save_state", full)
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--checkpoint_every", 1]
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        call("finetune_llama", *options)
    assert not list(tmp_path.rglob("*.tmp"))


def test_runs_of_behaviours_with_a_dot_are_kept_apart(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path)
    states = {
        paths.finetuning_state(paths.finetuned(behavior, "pos", layer, rank, None))
        for behavior in ("v1.5", "v1.6")
        for layer in (None, 3)
        for rank in (None, 2)
    }
    assert len(states) == 8
