"""tune.py: what it chooses, what it refuses, what it never opens before it has chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import MODEL, PLANTED, plant
from running import call

from utils.files.paths import Paths

OPEN = ("kl=inf", "letters=inf", "rollout_kl=inf", "knowledge=inf", "loops=inf")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    plant(root)
    return root


@pytest.fixture
def paths(ground: Path, tmp_path: Path) -> Paths:
    """A copy of what is planted."""
    shutil.copytree(ground, tmp_path / "own")
    return Paths(tmp_path / "own" / "made", tmp_path / "own" / "datasets")


def tune(paths: Paths, model: Path, *more: object) -> int:
    folders = ("--artifacts_dir", paths.artifacts, "--datasets_dir", paths.datasets)
    return call("tune", "--model", model, "--doses", 0.05, 0.1, 0.2, *folders, *more)


def chosen(paths: Paths) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(paths.tuning("calm", MODEL).read_text())
    return found


def test_the_layer_of_a_planted_direction_is_chosen(
    paths: Paths, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = tune(paths, tiny_folder, "--budget", *OPEN)
    out = capsys.readouterr().out
    print(out)
    found = chosen(paths)
    assert status == 0 and found["chosen"]["layer"] == PLANTED
