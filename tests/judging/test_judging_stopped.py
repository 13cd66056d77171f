"""A judging run that was killed or interrupted: no answer is lost, none is paid for twice."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from judge_bench import (
    Bench,
    bench,
    everything_in,
    expected,
    many,
    own_score,
    server,
    surroundings,
)
from judge_server import Answer, JudgeServer
from running import artifacts, start_warm
from warm import WarmProcess

from utils.errors import UserError

__all__ = ("bench", "server", "surroundings")  # fixtures


def wait_for_answers(bench: Bench, number: int, process: WarmProcess) -> None:
    folder = bench.paths.artifacts / "results/open_ended_scores/.cache"
    while len(list(folder.glob("??/*.json"))) < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def uninterrupted(bench: Bench, tmp_path: Path, server: JudgeServer, number: int) -> Bench:
    whole = Bench(tmp_path / "whole", server.url)
    name = whole.results(many(number))
    assert whole.run("--concurrency", 3) == 0
    assert whole.scores(name) == expected(number)
    server.asked.clear()
    server.answered.clear()
    return whole


def test_a_killed_run_goes_on_and_asks_for_nothing_twice(
    bench: Bench, server: JudgeServer, tmp_path: Path
) -> None:
    server.script = lambda asked: Answer(str(own_score(asked)))
    whole = uninterrupted(bench, tmp_path, server, 60)
    server.script = lambda asked: Answer(str(own_score(asked)), delay=0.03)
    bench.results(many(60))
    asked_before = 0
    for answers in (5, 25):
        process = start_warm("scoring", *bench.options("--concurrency", 4))
        wait_for_answers(bench, answers, process)
        time.sleep(random.Random(answers).uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        on_disk = set(bench.cached())
        assert answers <= len(on_disk) < 60, "it was not killed in the middle"
        time.sleep(0.1)
        asked_before = len(server.asked)
    assert bench.run() == 0
    assert on_disk.isdisjoint(server.prompts()[asked_before:])
    # Only what was on its way at one of the kills, at most 4 calls each, was asked again.
    assert len(set(server.prompts())) == 60 and len(server.asked) <= 60 + 2 * 4
    assert artifacts(bench.paths.artifacts) == artifacts(whole.paths.artifacts)
    assert everything_in(bench.paths.artifacts / "results/open_ended_scores/calm").count(b"score")


def test_ctrl_c_loses_nothing_that_was_paid_for(
    bench: Bench, server: JudgeServer, tmp_path: Path
) -> None:
    server.script = lambda asked: Answer(str(own_score(asked)))
    whole = uninterrupted(bench, tmp_path, server, 40)
    server.script = lambda asked: Answer(str(own_score(asked)), delay=0.05)
    name = bench.results(many(40))
    process = start_warm("scoring", *bench.options("--concurrency", 4))
    wait_for_answers(bench, 5, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert "the same command goes on" in errors and "Traceback" not in errors
    assert 5 <= len(server.asked) < 40 and not bench.paths.scores(name).exists()
    assert set(bench.cached()) == set(server.prompts())
    assert bench.run() == 0
    assert len(server.asked) == len(set(server.prompts())) == 40
    assert artifacts(bench.paths.artifacts) == artifacts(whole.paths.artifacts)


def test_a_second_ctrl_c_stops_at_once(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda asked: Answer("5", delay=0 if own_score(asked) == 0 else 8)
    bench.results(many(9))
    process = start_warm("scoring", *bench.options("--concurrency", 4))
    wait_for_answers(bench, 1, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first Ctrl-C did not wait for the calls on their way"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in errors
    assert len(bench.cached()) == 1, "it waited for the calls on their way"


def test_a_second_process_is_kept_out(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda _asked: Answer("5", delay=0.3)
    bench.results(many(4))
    process = start_warm("scoring", *bench.options("--concurrency", 1))
    wait_for_answers(bench, 1, process)
    with pytest.raises(UserError, match="another process is judging calm"):
        bench.run()
    process.communicate(timeout=20)
    assert process.returncode == 0 and len(server.asked) == 4


def test_a_damaged_answer_is_an_error_that_names_its_file(bench: Bench) -> None:
    name = bench.results(many(1))
    bench.run()
    bench.paths.scores(name).unlink()
    (path,) = (bench.paths.artifacts / "results/open_ended_scores/.cache").glob("??/*.json")
    path.write_text(path.read_text().replace("answer 0", "answer 9"))
    with pytest.raises(UserError, match=f"{path.name} is damaged"):
        bench.run()
