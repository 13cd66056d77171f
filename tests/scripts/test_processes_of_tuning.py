"""tune.py and controls over several processes: what is written is what one process writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from control_bench import DRAWS, LAYERS, ControlBench
from launching import alone, run_ranks
from planted import MODEL, PLANTED, plant
from running import artifacts, hidden

from utils.files.paths import Paths

BUDGETS = ("--budget", "kl=1", "letters=inf", "rollout_kl=inf", "knowledge=inf", "loops=inf")


def test_a_choice_of_two_processes_is_that_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    one = plant(tmp_path)
    two = Paths(tmp_path / "two", one.datasets)
    shutil.copytree(one.artifacts, two.artifacts)
    # many small batches: both ranks have a share of every stage
    options = ["--model", tiny_folder, "--layers", "1-2", "--doses", 0.2, *BUDGETS]
    options += ["--batch_tokens", 400, "--batch_rows", 8, "--datasets_dir", one.datasets]
    alone("tune", *options, "--artifacts_dir", one.artifacts)
    output = run_ranks("tune", *options, "--artifacts_dir", two.artifacts, count=2)
    assert output.count("score on 8 test questions") == 1, "one rank speaks"
    found = artifacts(one.artifacts)
    assert artifacts(two.artifacts) == found
    assert {Path(name).suffix for name in found if "tune_" in name} == {
        ".json",
        ".txt",
        ".tex",
        ".png",
    }
    assert json.loads(two.tuning("calm", MODEL).read_text())["chosen"]["layer"] == PLANTED
    assert hidden(two.artifacts) == []


def test_controls_of_two_processes_are_those_of_one(tiny_folder: Path, tmp_path: Path) -> None:
    one = ControlBench(tiny_folder, tmp_path / "one").fill()
    two = one.copy(tmp_path / "two")
    options = ["--type", "ab", "--behaviors", "calm", "--model", tiny_folder]
    options += ["--layers", *LAYERS, "--multipliers", -2, 2, "--batch_tokens", 150]
    options += ["--controls", "letter", "others", "shuffled", "random", "--control_draws", DRAWS]
    alone("prompting_with_steering", *options, *one.flags)
    output = run_ranks("prompting_with_steering", *options, *two.flags, count=2)
    assert output.count("draws: 19 random, 19 shuffled") == 1, "one rank speaks"
    found = artifacts(one.artifacts)
    assert artifacts(two.artifacts) == found
    assert sum("controls_" in name for name in found) == 2 * len(LAYERS)
    assert hidden(two.artifacts) == []
