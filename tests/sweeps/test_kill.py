"""SIGKILL at random moments, run again: byte-identical artefacts and nothing left over."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from conftest import many_rows, write_json
from running import artifacts, call, finish, hidden, kill_at_signs_of_work, start_warm

MANY = many_rows(25)


@pytest.fixture
def many(datasets: Path) -> Path:
    write_json(datasets / "generate/calm/generate_dataset.json", MANY)
    write_json(datasets / "test/calm/test_dataset_ab.json", MANY)
    return datasets


def run_with_kills(
    script: str, arguments: list[object], folder: Path, pattern: str, seed: int
) -> int:
    """Kill a script twice at random moments, then let it finish; how often it was killed."""
    generator = random.Random(seed)
    kills = 0
    for _ in range(2):
        process = start_warm(script, *arguments)
        kills += kill_at_signs_of_work(process, folder, pattern, generator)
    finish(start_warm(script, *arguments))
    return kills


def test_killed_vectors_are_the_uninterrupted_ones(
    many: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_SAVE_EVERY_SECONDS", "0")
    options: list[object] = ["--layers", 0, 1, 2, 3, "--save_activations", "--behaviors", "calm"]
    options += ["--datasets_dir", many, "--model", tiny_folder, "--batch_tokens", 200]
    finish(start_warm("generate_vectors", *options, "--artifacts_dir", tmp_path / "whole"))
    options += ["--artifacts_dir", tmp_path / "killed"]
    kills = run_with_kills(
        "generate_vectors", options, tmp_path / "killed", ".progress_tiny-llama", 1
    )
    assert kills > 0, "no run was killed in the middle: the test shows nothing"
    assert artifacts(tmp_path / "killed") == artifacts(tmp_path / "whole")
    assert len(artifacts(tmp_path / "whole")) == 12
    assert hidden(tmp_path / "killed") == []


def test_a_killed_sweep_is_the_uninterrupted_one(
    many: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options: list[object] = ["--layers", 0, 1, 2, 3, "--behaviors", "calm"]
    options += ["--datasets_dir", many, "--model", tiny_folder]
    for folder in (whole, killed):
        call("generate_vectors", *options, "--limit", 20, "--artifacts_dir", folder)
        call("normalize_vectors", "--datasets_dir", many, "--artifacts_dir", folder)
    options += ["--multipliers", -1, 0, 1, "--batch_tokens", 150]
    options += ["--override_vector_model", "tiny-llama_limit=20"]
    finish(start_warm("prompting_with_steering", *options, "--artifacts_dir", whole))
    options += ["--artifacts_dir", killed]
    kills = run_with_kills("prompting_with_steering", options, killed, ".journal_*", 2)
    assert kills > 0, "no run was killed in the middle: the test shows nothing"
    assert artifacts(killed) == artifacts(whole)
    assert len([name for name in artifacts(whole) if name.startswith("results")]) == 12
    assert hidden(killed) == []
