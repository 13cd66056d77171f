"""Finetuning in several processes has the curve and the weights of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from finetuning_runs import common, curve_of, pairs, weights_of
from launching import alone, by_mpi, kill_rank, launch, run_ranks
from running import finish, hidden

__all__ = ("common", "pairs")  # fixtures


@pytest.mark.parametrize("through", ["torchrun", "mpirun"])
def test_two_processes_have_the_curve_of_one(
    common: list[object], tmp_path: Path, through: str
) -> None:
    """Five pairs a step: the two have unlike shares; the last step has four."""
    options = [*common, "--direction", "pos", "--batch_size", 5, "--eval_every", 2]
    options += ["--layer", 1] if through == "mpirun" else []
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "one")
    how = by_mpi(tmp_path) if through == "mpirun" else ()
    output, _ = finish(
        launch("finetune_llama", *options, "--artifacts_dir", tmp_path / "two", how=how)
    )
    assert output.count("wrote ") == 2
    one, two = curve_of(tmp_path / "one"), curve_of(tmp_path / "two")
    for table, other in zip(one, two, strict=True):
        assert torch.allclose(torch.tensor(table), torch.tensor(other), rtol=1e-4, atol=2e-6)
    ours, theirs = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6), name
    assert hidden(tmp_path / "two") == []


def test_a_checkpoint_of_two_processes_is_continued_by_one(
    common: list[object], tmp_path: Path
) -> None:
    options = [*common, "--direction", "pos", "--checkpoint_every", 1, "--epochs", 15]
    process = launch("finetune_llama", *options, "--artifacts_dir", tmp_path / "two")
    kill_rank(process, 1, tmp_path / "two", "run.json")
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list((tmp_path / "two").rglob("run.json"))
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "two")
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "one")
    one, two = curve_of(tmp_path / "one")[0], curve_of(tmp_path / "two")[0]
    assert torch.allclose(torch.tensor(one), torch.tensor(two), rtol=1e-2, atol=1e-3)
    assert len(one) == 90
    assert hidden(tmp_path / "two") == []


def test_sharding_that_accelerate_would_leave_out_is_refused(
    common: list[object], tmp_path: Path
) -> None:
    """On a CPU accelerate makes DDP of FSDP without a word."""
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    how: tuple[str, ...] = ("--use_fsdp", "--fsdp_version", "2")
    how += ("--fsdp_auto_wrap_policy", "NO_WRAP")
    how += ("--main_process_port", str(29500 + (os.getpid() + 13) % 20000))
    _, errors = (process := launch("finetune_llama", *options, how=how)).communicate(timeout=90)
    assert process.returncode != 0
    assert "does not shard a model (FSDP) on this device" in errors
    assert not list(tmp_path.glob("finetuned_models/*.pt"))


def test_weights_sharded_by_fsdp_have_the_curve_of_one_process_also_after_a_kill(
    common: list[object], tmp_path: Path
) -> None:
    """See fsdp_on_cpu.py; one block alone is trained."""
    options = [*common, "--direction", "pos", "--checkpoint_every", 1, "--layer", 2]
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "one")
    sharded = [*options, "--artifacts_dir", tmp_path / "two"]
    stopped = launch("tests/fsdp_on_cpu", *sharded, STOP_AT="5")
    _, errors = stopped.communicate(timeout=90)
    assert "exitcode: 9" in errors
    (state,) = (tmp_path / "two").rglob("run.json")
    assert state.parent.name == "step_3"
    run_ranks("tests/fsdp_on_cpu", *sharded, count=2)
    one, two = curve_of(tmp_path / "one"), curve_of(tmp_path / "two")
    for table, other in zip(one, two, strict=True):
        assert torch.allclose(torch.tensor(table), torch.tensor(other), rtol=1e-4, atol=2e-6)
    ours, theirs = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert ours.keys() == theirs.keys() and len(ours) == 9
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6), name
    assert hidden(tmp_path / "two") == []


def test_two_machines_without_a_shared_folder_do_not_wait_for_one_another(
    common: list[object], tmp_path: Path
) -> None:
    """The second has finished weights, the first has none."""
    options = [*common, "--direction", "pos"]
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "second")
    port = str(29500 + (os.getpid() + 17) % 20000)
    processes = []
    for machine, name in enumerate(("first", "second")):
        how: tuple[str, ...] = ("--multi_gpu", "--num_machines", "2")
        how += ("--machine_rank", str(machine))
        how += ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
        folder = ["--artifacts_dir", tmp_path / name]
        processes.append(launch("finetune_llama", *options, *folder, how=how))
    errors = [p.communicate(timeout=90)[1] for p in processes]
    assert all(p.returncode != 0 for p in processes)
    assert "finished for some of the processes only" in errors[0]
