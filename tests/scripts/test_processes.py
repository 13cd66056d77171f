"""Real processes under ``accelerate launch``: the artefacts of many are those of one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from conftest import many_rows, write_json
from launching import alone, by_mpi, kill_rank, launch, run_ranks
from running import artifacts, call, finish, hidden

MANY = many_rows(12)
LAYERS = ["--layers", 0, 1, 2, 3]


@pytest.fixture
def many(datasets: Path) -> Path:
    write_json(datasets / "generate/calm/generate_dataset.json", MANY)
    write_json(datasets / "test/calm/test_dataset_ab.json", MANY)
    questions = [{"question": row["question"]} for row in MANY[:20]]
    write_json(datasets / "test/calm/test_dataset_open_ended.json", questions)
    return datasets


@pytest.fixture
def common(many: Path, tiny_folder: Path) -> list[object]:
    return ["--behaviors", "calm", "--datasets_dir", many, "--model", tiny_folder]


@pytest.fixture
def prepared(common: list[object], many: Path, tmp_path: Path) -> list[object]:
    """The vectors that a sweep needs, and its options."""
    alone("generate_vectors", *common, *LAYERS, "--limit", 20, "--artifacts_dir", tmp_path / "v")
    call("normalize_vectors", "--datasets_dir", many, "--artifacts_dir", tmp_path / "v")
    steered: list[object] = [*common, *LAYERS, "--multipliers", -1, 0, 1]
    return [*steered, "--override_vector_model", "tiny-llama_limit=20"]


def copy_vectors(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "normalized_vectors").symlink_to(tmp_path / "v" / "normalized_vectors")
    return folder


@pytest.mark.parametrize("through", ["torchrun", "mpirun"])
def test_vectors_and_activations_of_two_processes_are_those_of_one(
    common: list[object], tmp_path: Path, through: str
) -> None:
    """Through MPI it is the command ``accelerate launch --num_processes 2 --cpu``."""
    options = [*common, *LAYERS, "--save_activations", "--batch_tokens", 300]
    alone("generate_vectors", *options, "--artifacts_dir", tmp_path / "one")
    how = by_mpi(tmp_path) if through == "mpirun" else ()
    output, _ = finish(
        launch(
            "generate_vectors", *options, "--artifacts_dir", tmp_path / "two", how=how, warm=False
        )
    )
    assert output.count("wrote ") == 2, "one rank speaks (one line a folder)"
    one, two = artifacts(tmp_path / "one"), artifacts(tmp_path / "two")
    assert one.keys() == two.keys() and len(one) == 12
    for name in one:
        found = [torch.load(tmp_path / n / name, weights_only=True) for n in ("one", "two")]
        if name.startswith("activations"):
            assert torch.equal(*found), name
        assert (found[0] - found[1]).abs().max() < 1e-6, name
    assert hidden(tmp_path / "two") == []


@pytest.mark.parametrize("kind", ["ab", "open_ended"])
def test_the_rows_of_two_processes_are_those_of_one(
    prepared: list[object], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared += ["--type", kind, "--batch_tokens", 150, "--batch_rows", 30, "--max_new_tokens", 6]
    one, two = copy_vectors(tmp_path, "one"), copy_vectors(tmp_path, "two")
    alone("prompting_with_steering", *prepared, "--artifacts_dir", one)
    output = run_ranks("prompting_with_steering", *prepared, "--artifacts_dir", two, count=3)
    found = [{n: d for n, d in artifacts(f).items() if "result" in n} for f in (one, two)]
    assert len(found[0]) == 12
    assert found[0] == found[1], "byte for byte"
    wrote = [line for line in output.splitlines() if line.startswith("wrote ")]
    assert sum("/results/" in line for line in wrote) == 1
    assert hidden(two) == []
    capsys.readouterr()
    alone("prompting_with_steering", *prepared, "--artifacts_dir", two)
    assert "nothing to do" in capsys.readouterr().out, "what many made is finished for one"


@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_rank_is_killed_all_end_and_any_number_go_on(
    prepared: list[object], tmp_path: Path, rank: int
) -> None:
    prepared += ["--batch_tokens", 60]
    one, two = copy_vectors(tmp_path, "one"), copy_vectors(tmp_path, "two")
    alone("prompting_with_steering", *prepared, "--artifacts_dir", one)
    process = launch("prompting_with_steering", *prepared, "--artifacts_dir", two)
    sign = ".journal_*_rank=1" if rank else ".journal_????????????????"
    kill_rank(process, rank, two, sign)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "wrote" not in output
    journals = sorted(two.rglob(".journal_*"))
    assert len(journals) == 2
    done = sum(len(p.read_text().splitlines()) - 1 for p in journals)
    assert 0 < done < len(MANY), "it was killed in the middle"
    if rank:
        alone("prompting_with_steering", *prepared, "--artifacts_dir", two)
    else:
        run_ranks("prompting_with_steering", *prepared, "--artifacts_dir", two, count=3)
    assert artifacts(two) == artifacts(one)
    assert len(artifacts(one)) == 12
    assert hidden(two) == []


def test_wrong_input_is_said_once(common: list[object], tmp_path: Path) -> None:
    process = launch("generate_vectors", *common, "--layers", 9, "--artifacts_dir", tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(re.findall("has layers 0 to 3", errors)) == 1
    assert not list(tmp_path.glob("vectors/*"))


def test_a_launch_that_starts_one_process_only_says_so(
    common: list[object], tmp_path: Path
) -> None:
    """Without MPI ``accelerate launch --cpu --num_processes 2`` starts one; the numbers stand."""
    options = [*common, "--layers", 1, "--limit", 4]
    process = launch(
        "generate_vectors", *options, "--artifacts_dir", tmp_path / "two", how=("--cpu",)
    )
    _, errors = finish(process)
    assert "accelerate has started one process only" in errors
    alone("generate_vectors", *options, "--artifacts_dir", tmp_path / "one")
    assert artifacts(tmp_path / "one") == artifacts(tmp_path / "two")
    assert len(artifacts(tmp_path / "one")) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_two_machines_need_a_shared_folder(
    prepared: list[object], tmp_path: Path, shared: bool
) -> None:
    """Two launchers on this machine, each with one process, as two machines would have."""
    one, first = copy_vectors(tmp_path, "one"), copy_vectors(tmp_path, "first")
    second = first if shared else copy_vectors(tmp_path, "second")
    port = str(29500 + (os.getpid() + 7) % 20000)
    processes = []
    for machine, folder in enumerate((first, second)):
        how: tuple[str, ...] = ("--multi_gpu", "--num_machines", "2")
        how += ("--machine_rank", str(machine))
        how += ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
        options = [*prepared, "--artifacts_dir", folder]
        processes.append(launch("prompting_with_steering", *options, how=how))
    errors = [p.communicate(timeout=120)[1] for p in processes]
    if shared:
        assert [p.returncode for p in processes] == [0, 0]
        alone("prompting_with_steering", *prepared, "--artifacts_dir", one)
        assert artifacts(first) == artifacts(one)
        assert len(artifacts(one)) == 12
    else:
        assert processes[0].returncode != 0
        assert "must write to the same --artifacts_dir" in errors[0]
        assert not list(tmp_path.rglob("results_*.json"))
