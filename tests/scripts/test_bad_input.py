"""Wrong commands: named with the remedy before the model loads; nothing is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import (
    GENERATE,
    NORMALIZE,
    PLOT,
    PROMPT,
    RUNNING,
    Bench,
    bench,
    cache,
    no_token,
    says,
    the_model_never_loads,
)
from conftest import ROWS, write_json
from running import ROOT, call, every_file, imported

__all__ = ("bench", "cache", "no_token", "the_model_never_loads")  # fixtures

HEAVY = {"torch", "transformers", "numpy", "scipy", "sklearn", "matplotlib", "openai"}
SCRIPTS = sorted(p.name for p in ROOT.glob("*.py") if 'if __name__ == "__main__"' in p.read_text())


# ---------------------------------------------------------------- the correct command


@pytest.mark.parametrize("script", RUNNING)
def test_the_command_that_all_others_here_are_broken_copies_of_is_accepted(
    bench: Bench, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, *bench.flags(script, "--show_tokens")) == 0
    assert "read here" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="the model was loaded"):
        call(script, *bench.flags(script))


# ---------------------------------------------------------------- behaviours


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
def test_an_unknown_behaviour_is_named_with_those_there_are(bench: Bench, script: str) -> None:
    says(bench.refused(script, "--behaviors", "calm", "bolt"), "'bolt'", "bold, calm")


def test_normalizing_an_unknown_behaviour_names_the_command(bench: Bench) -> None:
    bench.put_vector("vectors", "calm", 1, torch.ones(32))
    message = bench.refused(NORMALIZE, "--behaviors", "calm", "bolt")
    says(message, "bolt", "there are: calm", "./generate_vectors.py --behaviors bolt")


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
@pytest.mark.parametrize("name", ["calm/", "./calm", "../generate/calm", "..", ""])
def test_a_behaviour_is_a_folder_name_and_no_path(bench: Bench, script: str, name: str) -> None:
    says(bench.refused(script, "--behaviors", name), f"unknown behaviour {name!r}")


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
def test_a_data_folder_without_behaviours_is_named(bench: Bench, script: str) -> None:
    (bench.root / "empty").mkdir()
    says(bench.refused(script, "--datasets_dir", bench.root / "empty"), "no behaviours", "empty")


# ---------------------------------------------------------------- layers, numbers


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("layer", [4, 17, -1])
def test_a_layer_beyond_the_model_is_named_with_those_it_has(
    bench: Bench, script: str, layer: int
) -> None:
    message = bench.refused(script, "--layers", 0, 3, layer)
    says(message, f"--layers {layer}", "tiny-llama", "0 to 3")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("layer", [30, -1])
def test_a_layer_beyond_the_bundled_model_is_found_without_fetching_it(
    bench: Bench, cache: Path, script: str, layer: int
) -> None:
    message = bench.refused(script, "--layers", layer, model=False)
    says(message, f"--layers {layer}", "SmolLM2-135M-Instruct", "0 to 29")
    assert every_file(cache) == {}


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (PROMPT, ["--multipliers", "nan"]),
        (PROMPT, ["--multipliers", "0", "inf"]),
        (PROMPT, ["--multipliers", "strong"]),
        (PROMPT, ["--layers", "abc"]),
        (PROMPT, ["--limit", "0"]),
        (PROMPT, ["--batch_tokens", "0"]),
        (PROMPT, ["--type", "essay"]),
        (PROMPT, ["--system_prompt", "up"]),
        (GENERATE, ["--layers", "abc"]),
        (GENERATE, ["--layers", "1.5"]),
        (GENERATE, ["--limit", "0"]),
        (GENERATE, ["--limit", "-3"]),
        (GENERATE, ["--batch_tokens", "0"]),
        (GENERATE, ["--model_size", "8b"]),
        (GENERATE, ["--dtype", "int8"]),
        (PLOT, ["--multipliers", "nan"]),
        (PLOT, ["--limit", "0"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "_".join(value),
)
def test_a_bad_value_of_a_flag_leaves_with_status_2_and_names_both(
    bench: Bench, capsys: pytest.CaptureFixture[str], script: str, flags: list[str]
) -> None:
    bench.refused_by_parser(script, *flags)
    says(capsys.readouterr().err, f"argument {flags[0]}", flags[-1])


@pytest.mark.parametrize("script", RUNNING)
def test_a_device_that_is_not_here_is_named(bench: Bench, script: str) -> None:
    says(bench.refused(script, "--device", "abacus"), "--device abacus")


# ---------------------------------------------------------------- results to plot


GOOD_ROWS = [row | {"a_prob": 0.25, "b_prob": 0.5} for row in ROWS[:4]]


def test_nothing_to_plot_names_the_command(bench: Bench) -> None:
    says(bench.refused(PLOT), "tiny-llama", "./prompting_with_steering.py --type ab --layers")


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([], ["no list of result rows"]),
        (ROWS[:4], ["row 1"]),
        ([*GOOD_ROWS[:2], GOOD_ROWS[2] | {"a_prob": 1.5}], ["row 3", "1.5"]),
        ([*GOOD_ROWS[:2], GOOD_ROWS[2] | {"b_prob": float("nan")}], ["row 3", "NaN"]),
        ([*GOOD_ROWS[:2], GOOD_ROWS[2] | {"a_prob": None}], ["row 3"]),
    ],
    ids=["empty", "no_probabilities", "beyond_one", "nan", "null"],
)
def test_a_result_that_cannot_be_scored_is_named_and_nothing_drawn(
    bench: Bench, rows: list[dict[str, Any]], wanted: list[str]
) -> None:
    bench.put_result("bold", 1.0, GOOD_ROWS)
    path = bench.put_result("calm", 1.0, rows)
    says(bench.refused(PLOT), path, *wanted)


def test_results_of_other_questions_are_not_drawn_into_one_line(bench: Bench) -> None:
    bench.put_result("calm", 0.0, GOOD_ROWS)
    path = bench.put_result("calm", 1.0, GOOD_ROWS[:3])
    says(bench.refused(PLOT), path, "other questions")


def test_leaving_out_all_questions_is_refused(bench: Bench) -> None:
    beyond = {"answer_matching_behavior": "(C)", "answer_not_matching_behavior": "(D)"}
    bench.put_result("calm", 1.0, [row | beyond for row in GOOD_ROWS])
    says(bench.refused(PLOT, "--without_beyond_ab"), "calm")


@pytest.mark.parametrize(
    "name",
    [
        "results_layer=x_multiplier=1.0_behavior=calm_type=ab_model=tiny-llama.json",
        "results_layer=1_multiplier=high_behavior=calm_type=ab_model=tiny-llama.json",
    ],
    ids=["layer", "multiplier"],
)
def test_a_name_that_is_no_results_name_does_not_disturb(bench: Bench, name: str) -> None:
    write_json(bench.artifacts / "results/calm" / name, GOOD_ROWS)
    says(bench.refused(PLOT), "no results of type ab", "./prompting_with_steering.py")


# ---------------------------------------------------------------- as the shell sees it


def shell(*command: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_the_shell_gets_status_2_and_one_message_without_a_traceback(bench: Bench) -> None:
    before = every_file(bench.root)
    flags = bench.flags(GENERATE, "--behaviors", "bolt")
    done = shell(ROOT / "generate_vectors.py", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("generate_vectors.py: error: unknown behaviour 'bolt'")
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert done.stdout == ""
    assert every_file(bench.root) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_every_script_is_its_manual_and_imports_nothing_heavy(script: str) -> None:
    done = shell("-X", "importtime", ROOT / script, "--help")
    assert done.returncode == 0
    manual = (ROOT / script).read_text().split('"""')[1]
    assert manual.strip().splitlines()[0] in done.stdout
    assert f"./{script}" in done.stdout, "the manual shows how to call it"
    assert not imported(done.stderr) & HEAVY


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_can_be_run_as_it_is(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text().startswith("#!/usr/bin/env python3\n")


def test_the_papers_command_without_a_token_ends_within_seconds(
    tmp_path: Path, no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In another place, out of reach of a developer's own .env and artefacts.
    for path in ROOT.glob("*.py"):
        shutil.copy(path, no_token)
    hide = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "utils", no_token / "utils", ignore=hide)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = every_file(tmp_path)
    flags = ("--save_activations", "--model_size", "7b", "--behaviors", "sycophancy")
    done = shell(
        "-X", "importtime", no_token / "generate_vectors.py", "--layers", *range(32), *flags
    )
    assert done.returncode == 2
    assert not imported(done.stderr) & HEAVY
    says(done.stderr, "meta-llama/Llama-2-7b-chat-hf", "HF_TOKEN=", no_token / ".env")
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert every_file(tmp_path) == before
