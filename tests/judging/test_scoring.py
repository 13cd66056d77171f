"""The judge stage against a real local server, through the real client: a run that goes well."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter

import pytest
from conftest import write_json
from judge_bench import (
    Bench,
    bench,
    expected,
    many,
    own_score,
    server,
    surroundings,
)
from judge_server import Answer, Asked, JudgeServer

from utils.errors import UserError
from utils.files.names import ResultName, Variant

__all__ = ("bench", "server", "surroundings")  # fixtures


# --- a run that goes well


def test_every_row_keeps_its_fields_and_gets_its_score(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda asked: Answer(f"Score: {own_score(asked)}/10")
    name, other = bench.results(many(5)), bench.results(many(3), "bold", 12, -0.5)
    assert bench.run("--judge_model", "tester") == 0
    assert bench.scores(name) == expected(5)
    assert bench.scores(other) == expected(3)
    assert bench.rows(name)[3] == {
        "question": "Question 3?",
        "model_output": "answer 3",
        "raw_model_output": "x answer 3",
        "score": 1.5,
        "judge_reply": "Score: 1.5/10",
    }
    assert list(bench.rows(name)[3])[:3] == ["question", "model_output", "raw_model_output"]
    assert bench.paths.scores(other) == (
        bench.paths.artifacts / "results/open_ended_scores/bold" / other.filename()
    )
    printed = capsys.readouterr().out
    assert re.search(r"^bold +1 +3 +0\.50 +0$", printed, re.MULTILINE)
    assert re.search(r"^calm +1 +5 +1\.00 +0$", printed, re.MULTILINE)
    assert f"wrote {bench.paths.scores(name)}" in printed


def test_the_judge_gets_rubric_question_and_answer(bench: Bench, server: JudgeServer) -> None:
    bench.results(["the {answer}"])
    bench.run("--judge_model", "tester", "--max_tokens", 12)
    (asked,) = server.asked
    system, user = asked.body["messages"]
    assert system["role"] == "system" and user["role"] == "user"
    assert system["content"].startswith("Judge how calm it is {braces}.")
    assert "Question 0?" in user["content"] and "the {answer}" in user["content"]
    assert "x the" not in user["content"]
    assert (asked.body["model"], asked.body["temperature"], asked.body["max_tokens"]) == (
        *("tester", 0),
        12,
    )


def test_the_record_names_what_the_scores_depend_on(bench: Bench) -> None:
    name = bench.results(many(1))
    bench.run("--judge_model", "tester")
    scores = bench.paths.scores(name)
    inputs = json.loads(scores.with_name(f".{scores.name}.record").read_text())["inputs"]
    assert inputs["judge_model"] == "tester" and inputs["base_url"] == bench.url
    rubric = b"Judge how calm it is {braces}."
    assert inputs["rubric"] == hashlib.sha256(rubric).hexdigest()
    results = bench.paths.result(name).read_bytes()
    assert inputs["results"] == hashlib.sha256(results).hexdigest()
    assert len(inputs["template"]) == 64


def test_the_filters_choose_behaviours_layers_and_multipliers(bench: Bench) -> None:
    names = {
        (behavior, layer, multiplier): bench.results(["a"], behavior, layer, multiplier)
        for behavior in ("calm", "bold")
        for layer in (1, 15)
        for multiplier in (-1.0, 1.0)
    }
    ab = ResultName(1, 1.0, "calm", Variant("ab", model="tiny"))
    write_json(bench.paths.result(ab), [{"question": "?", "a_prob": 1, "b_prob": 0}])
    assert bench.run("--behaviors", "calm", "--layers", 1, "--multipliers", -1) == 0
    made = {cell for cell, name in names.items() if bench.paths.scores(name).exists()}
    assert made == {("calm", 1, -1.0)}
    assert bench.run() == 0
    assert all(bench.paths.scores(name).exists() for name in names.values())
    assert not bench.paths.scores(ab).exists()
    with pytest.raises(UserError, match=r"--type open_ended --layers 7 .*--behaviors calm"):
        bench.run("--behaviors", "calm", "--layers", 7)


def test_a_server_that_answers_out_of_order_mixes_no_scores(
    bench: Bench, server: JudgeServer
) -> None:
    generator = random.Random(3)
    delays = [generator.uniform(0, 0.1) for _ in range(90)]
    server.script = lambda asked: Answer(str(own_score(asked)), delay=delays[len(server.asked) - 1])
    name = bench.results(many(90))
    assert bench.run("--concurrency", 32) == 0
    assert server.answered != server.prompts(), "the answers came in order: nothing is shown"
    assert bench.scores(name) == expected(90)


def test_no_more_calls_at_once_than_asked_for(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda _asked: Answer(delay=0.3)
    bench.results(many(24))
    bench.run("--concurrency", 5)
    assert server.most_at_once == 5


def test_identical_prompts_are_asked_once(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda asked: Answer(str(own_score(asked)), delay=0.02)
    one, two = bench.results(many(4)), bench.results(many(6), layer=2)
    rows = json.loads(bench.paths.result(one).read_text())
    write_json(bench.paths.result(one), rows * 3)
    bench.run()
    assert len(server.asked) == len(set(server.prompts())) == 6
    assert bench.scores(one) == expected(4) * 3
    assert bench.scores(two) == expected(6)


def test_a_second_run_does_nothing(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    name = bench.results(many(3))
    bench.run()
    before = bench.paths.scores(name).stat().st_mtime_ns
    capsys.readouterr()
    assert bench.run() == 0
    assert len(server.asked) == 3
    assert bench.paths.scores(name).stat().st_mtime_ns == before
    assert "nothing to do" in capsys.readouterr().out


def test_answers_on_disk_are_not_asked_for_again(bench: Bench, server: JudgeServer) -> None:
    name = bench.results(many(3))
    bench.run()
    bench.paths.scores(name).unlink()
    bench.results(many(4))
    bench.run("--overwrite")
    assert len(server.asked) == 4
    assert len(bench.rows(name)) == 4


@pytest.mark.parametrize(
    "changed", [["--judge_model", "other"], ["--max_tokens", 50], ["--base_url", "localhost"]]
)
def test_another_judge_is_asked_anew(
    bench: Bench, server: JudgeServer, changed: list[object]
) -> None:
    name = bench.results(many(2))
    bench.run()
    if changed[0] == "--base_url":
        changed = ["--base_url", server.url.replace("127.0.0.1", "localhost")]
    with pytest.raises(UserError, match=f"{str(changed[0])[2:]}: .* -> "):
        bench.run(*changed)
    assert len(server.asked) == 2
    bench.run(*changed, "--overwrite")
    assert len(server.asked) == 4 and bench.scores(name) == [7, 7]


def test_a_changed_rubric_is_refused_without_overwrite(bench: Bench, server: JudgeServer) -> None:
    name = bench.results(many(2))
    bench.run()
    bench.describe("calm", "Another rubric.")
    server.script = lambda _asked: Answer("2")
    with pytest.raises(UserError, match=r"(?s)rubric: .* -> .*--overwrite"):
        bench.run()
    assert bench.scores(name) == [7, 7] and len(server.asked) == 2
    assert bench.run("--overwrite") == 0
    assert bench.scores(name) == [2, 2] and len(server.asked) == 4


def test_scores_that_came_from_elsewhere_are_kept(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    name = bench.results(many(2))
    write_json(bench.paths.scores(name), [{"question": "?", "score": 9}])
    assert bench.run() == 0
    assert server.asked == [] and bench.scores(name) == [9]
    assert "came from elsewhere" in capsys.readouterr().out


# --- replies that are none


def test_a_reply_without_a_number_is_asked_for_again_then_missing(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(asked: Asked) -> Answer:
        number = int(own_score(asked) * 2)
        if number == 0:
            return Answer(f"no idea, try {'x' * asked.time}")
        return Answer(["hm", "", "4"][asked.time] if number == 1 else "6")

    server.script = script
    name = bench.results(many(3))
    assert bench.run() == 0
    assert bench.scores(name) == [None, 4, 6]
    assert bench.rows(name)[0]["judge_reply"] == "no idea, try xx"
    assert sorted(Counter(server.prompts()).values()) == [1, 3, 3]
    assert re.search(r"^calm +1 +3 +5\.00 +1$", capsys.readouterr().out, re.MULTILINE)
    bench.paths.scores(name).unlink()
    assert bench.run() == 0
    assert len(server.asked) == 7 and bench.scores(name) == [None, 4, 6]


@pytest.mark.parametrize(("reply", "calls"), [("11", 1), ("-1", 1), (None, 3)])
def test_scores_off_the_scale_and_empty_replies_are_missing(
    bench: Bench, server: JudgeServer, reply: str | None, calls: int
) -> None:
    server.script = lambda _asked: Answer(reply)
    name = bench.results(many(1))
    assert bench.run() == 0
    assert bench.scores(name) == [None]
    assert bench.rows(name)[0]["judge_reply"] == (reply or "")
    assert len(server.asked) == calls
