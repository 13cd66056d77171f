"""The GPU benchmark, whole, on a tiny model on the CPU: every part runs, its numbers make sense."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import real_tokenizers
import torch
from conftest import LLAMA2, make_tokenizer
from running import ROOT

from benchmarks import gpu, gpu_more_parts, gpu_parts, llama2_tokenizer
from benchmarks.meter import Meter, OutOfTimeError
from utils.errors import UserError
from utils.prompts.format import PromptFormat

PLAN = gpu_parts.PLANS["tiny"]
LAYERS = 4
CELLS = PLAN.checked * (1 + 2 * LAYERS)


def run(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Any:
    """Status and report of a run on the CPU."""
    monkeypatch.setenv("OUT", str(out))
    arguments = ["--shape", "tiny", "--device", "cpu", "--tokenizer", str(folder), *options]
    status = gpu.main(gpu.build_parser().parse_args(arguments))
    return status, json.loads((out / "gpu.json").read_text())


@pytest.fixture(scope="module")
def made_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own tokenizer as a folder."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(None).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def real() -> Path:
    """Llama 2's own tokenizer."""
    real_tokenizers.wanted("llama2")
    return real_tokenizers.files("llama2")


@pytest.fixture(scope="module", params=["made_here", "real"])
def report(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = request.getfixturevalue(request.param)
    with pytest.MonkeyPatch.context() as monkeypatch:
        status, found = run(folder, tmp_path_factory.mktemp("out"), monkeypatch)
    assert status == 0
    assert found["about"]["real_tokenizer"] == (request.param == "real")
    return found


def test_every_part_runs_and_fast_equals_slow(report: dict[str, Any]) -> None:
    assert set(report) == {"about", *gpu.PARTS}
    assert all(report[name]["status"] == "ok" for name in gpu.PARTS)
    for name in gpu.COMPARING:
        found = report[name]
        assert found["cells"] == CELLS and found["self_test_passes"]
        assert found["largest_probability_deviation"] < 1e-5
        assert found["flipped_answers"] == 0
        # the comparison can fail: the letters are probable and steering moves them
        assert found["letters_probability"] > 0.3
        assert found["largest_effect_on_score"] > 0.05
    for way in ("fast", "slow"):
        assert report["rounding"][f"{way}_largest_probability_deviation"] < 1e-5
    assert report["vectors"]["largest_relative_deviation"] < 1e-4
    assert report["sweep"]["largest_sampled_deviation"] < 1e-5


def test_counts_are_those_of_the_plan(report: dict[str, Any]) -> None:
    assert report["vectors"]["pairs"] == PLAN.pairs and report["vectors"]["layers"] == LAYERS
    sweep = report["sweep"]
    assert sweep["cells"] == 7 * LAYERS * 3 * PLAN.questions and sweep["all_finite"]
    answers = report["open_ended"]
    assert answers["answers"] == answers["rows_together"] == 7 * PLAN.open_questions
    assert 0 < answers["new_tokens"] <= answers["answers"] * PLAN.new_tokens
    assert report["finetuning"]["steps"] == PLAN.steps
    for name in ("vectors", "sweep", "open_ended"):
        found = report[name]
        assert found["speedup"] == pytest.approx(found["slow_seconds"] / found["seconds"])


def test_answers_are_those_of_generate_and_finetuning_lowers_the_loss(
    report: dict[str, Any],
) -> None:
    answers = report["open_ended"]
    assert answers["same_first_token"] == answers["same_answer"] == answers["common_beginning"] == 1
    assert answers["answers_changed_by_steering"] > 0.5
    found = report["finetuning"]
    assert found["all_finite"] and found["trained_parameters"] > 0
    assert found["loss_of_its_pairs_afterwards"] < found["loss_of_last_step"]


def test_a_part_that_fails_is_reported_and_the_others_go_on(
    made_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_bench: gpu_parts.Bench) -> dict[str, Any]:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setitem(gpu.PARTS, "vectors", broken)
    parts = ("--parts", "model", "vectors", "fast_against_slow")
    status, found = run(made_here, tmp_path, monkeypatch, *parts)
    assert status == 1
    assert found["vectors"]["reason"] == "RuntimeError: no such kernel"
    assert [found[name]["status"] for name in parts[1:]] == ["ok", "failed", "ok"]


def test_parts_are_left_out_once_the_time_is_gone(
    made_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, found = run(made_here, tmp_path, monkeypatch, "--minutes", "0")
    assert status == 1
    assert {found[name]["status"] for name in gpu.PARTS} == {"left out"}
    with pytest.raises(OutOfTimeError):
        Meter(torch.device("cpu"), 0).run(lambda: None)


def test_a_fast_way_that_is_not_taken_is_a_failure_not_a_timing(
    made_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.steering.self_check.TOLERANCE", {torch.float32: 0.0})
    parts = ("--parts", "model", "sweep", "open_ended")
    status, found = run(made_here, tmp_path, monkeypatch, *parts)
    assert status == 1
    assert "one forward pass a cell" in found["sweep"]["reason"]


def test_without_a_tokenizer_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gpu\.sh --prepare"):
        llama2_tokenizer.load(tmp_path)


def test_a_package_without_npm_or_with_other_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="by npm"):
        llama2_tokenizer.prepare(tmp_path / "tokenizer")
    npm = tmp_path / "npm"
    npm.write_text('#!/bin/sh\necho other > "$5/llama-tokenizer-js-1.2.2.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(UserError, match="other files than it did"):
        llama2_tokenizer.prepare(tmp_path / "tokenizer")
    assert not llama2_tokenizer.is_prepared(tmp_path / "tokenizer")


def test_the_template_is_that_of_llama_2(made_here: Path) -> None:
    """The same text as the tests' own Llama 2 template gives."""
    ours, theirs = llama2_tokenizer.load(made_here), make_tokenizer(LLAMA2)
    for system_prompt in (None, "Be brief."):
        a, b = (PromptFormat(t, system_prompt=system_prompt) for t in (ours, theirs))
        assert a.instruction("Is it so?") == b.instruction("Is it so?")
        assert a.separator("Is it so?") == b.separator("Is it so?") == " "
    assert PromptFormat(ours).instruction("Is it so?") == "<s>[INST] Is it so? [/INST]"


def test_common_beginning_is_a_share_of_the_longer_answer() -> None:
    assert gpu_more_parts.common_beginning([1, 2, 3, 4], [1, 2, 9]) == 0.5
    assert gpu_more_parts.common_beginning([1, 2], [1, 2]) == 1
    assert gpu_more_parts.common_beginning([1, 2], [1, 2, 3, 4]) == 0.5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--shape", "tiny"], "-m benchmarks.gpu --shape tiny"),
        (["--prepare"], "-m benchmarks.llama2_tokenizer benchmarks/.tokenizer"),
        (["--prepare", "there"], "-m benchmarks.llama2_tokenizer there"),
    ],
)
def test_the_command_runs_the_right_module(options: list[str], expected: str) -> None:
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *options]
    environment = os.environ | {"PYTHON": "echo"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected
