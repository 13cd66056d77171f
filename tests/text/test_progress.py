"""Progress without a terminal, progress within a batch, and Ctrl-C in the middle of one."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from conftest import QUESTIONS, make_wrapper, pair, write_json
from running import artifacts, call, finish, hidden, start_warm

from utils.steering.decoding import GreedyGrid
from utils.text.progress import ProgressLines


@pytest.mark.parametrize("total", [1, 7, 100, 12_345])
@pytest.mark.parametrize("step", [1, 3, 0.25])
def test_lines_come_at_tenths_however_many_updates_there_are(
    total: int, step: float, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ProgressLines(total=total, desc="calm", unit="token")
    for _ in range(round(total / step) + 1):
        lines.update(step)
    shown = capsys.readouterr().err
    assert "\r" not in shown and 1 <= len(shown.splitlines()) <= 11
    assert "100 %" in shown


@pytest.mark.parametrize("rows", [None, 1, 2])
def test_open_answers_advance_within_a_batch_and_come_to_the_whole(rows: int | None) -> None:
    wrapper = make_wrapper("llama")
    prompts = [wrapper.prompt_format().open_prompt(q) for q in QUESTIONS[:3]]
    grid = GreedyGrid(wrapper, prompts, [None, None, None], max_new_tokens=5, rows=rows)
    assert sum(map(len, grid.batches)) == len(prompts)
    for batch in grid.batches:
        told: list[float] = []
        grid.answers(batch, told.append)
        assert sum(told) == pytest.approx(len(batch)) and min(told) >= 0
        assert len([part for part in told if part]) > 1


@pytest.mark.parametrize("script", ["generate_vectors", "prompting_with_steering"])
def test_ctrl_c_keeps_what_is_done(
    script: str,
    tiny_folder: Path,
    datasets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real SIGINT: one line, status 130, and the next run ends with the bytes of one run."""
    monkeypatch.setenv("CAA_SAVE_EVERY_SECONDS", "0")
    rows = [pair(f"{q} ({n})", "AB"[n % 2]) for n in range(60) for q in QUESTIONS]
    for kind, name in (("generate", "generate_dataset"), ("test", "test_dataset_ab")):
        write_json(datasets / kind / "calm" / f"{name}.json", rows)
    shared = ["--model", tiny_folder, "--datasets_dir", datasets, "--behaviors", "calm"]
    shared += ["--batch_tokens", 200]
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    if script == "prompting_with_steering":
        for folder in folders:
            place = ["--artifacts_dir", folder]
            assert call("generate_vectors", *shared, "--layers", "1", "--limit", 4, *place) == 0
            assert call("normalize_vectors", "--artifacts_dir", folder) == 0
        shared += ["--limit", 480, "--layers", 1, "--override_vector_model", "tiny-llama_limit=4"]
    whole, stopped = ([*shared, "--artifacts_dir", folder] for folder in folders)
    finish(start_warm(script, *whole))
    process = start_warm(script, *stopped)
    pattern = ".progress*" if script == "generate_vectors" else ".*journal*"
    deadline = time.monotonic() + 60
    while not list(folders[1].rglob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(random.Random(1).uniform(0.05, 0.1))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "what was finished is kept" in errors.splitlines()[-1]
    assert "\r" not in errors
    assert hidden(folders[1]), "something was kept"
    finish(start_warm(script, *stopped))
    assert artifacts(folders[0]) == artifacts(folders[1])
    assert hidden(folders[1]) == []
