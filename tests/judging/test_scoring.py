"""The judge stage against a real local server, through the real client."""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import time
from collections import Counter
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import write_json
from judge_bench import (
    KEY,
    Bench,
    bench,
    but,
    everything_in,
    expected,
    is_harmless,
    many,
    own_score,
    server,
    surroundings,
)
from judge_server import Answer, Asked, JudgeServer, error
from running import ROOT, artifacts, call, start, start_warm
from warm import WarmProcess

from utils.errors import UserError
from utils.files.names import ResultName, Variant
from utils.judging.errors import retry_after
from utils.judging.reply.verdict import read_reply

__all__ = ("bench", "server", "surroundings")  # fixtures

# --- what a reply says


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        *[("7", 7), ("7.5", 7.5), ("0", 0), ("10", 10), ("10.0", 10), ("7,5", 7.5), (" 7.\n", 7)],
        *[("Score: 7/10", 7), ("7 out of 10", 7), ("10/10", 10), ("0/10", 0), ("**8**", 8)],
        *[("I'd give 3.", 3), ("Score: **7**/10", 7), ("7 / 10.", 7), ("8 (out of 10)", 8)],
        ("On a scale from 0 to 10, I'd say 6", 6),
        ("On a scale of 1 to 10: 3", 3),
        ("from 0 (refuses) to 10 (complies), 4", 4),
        ("Score (0-10): 7", 7),
        ("On a 0–10 scale, 4", 4),
        ("7 on a 10-point scale", 7),
        ("7 because of its 2 caveats", 7),
        ("Score: 8\n\nReason: it lists 3 facts", 8),
        *[("This is a 4", 4), ('{"score": 7}', 7), ("<score>7</score>", 7), ("\\boxed{7}", 7)],
        *[("seven", 7), ("Seven.", 7), ("ten", 10), ("zero", 0), ("Score: seven", 7)],
        *[("I'd give it a seven.", 7), ("seven out of ten", 7), ("six and a half", 6.5)],
        ("<think>maybe 3</think>5", 5),
        *[("12", None), ("11", None), ("-1", None), ("−1", None), ("Score: -1", None)],
        *[("eleven", None), ("10.5", None), ("12/10", None), ("100", None)],
    ],
)
def test_the_number_that_is_the_score_is_read(reply: str, score: float | None) -> None:
    reading = read_reply(reply)
    assert reading.number is not None
    assert reading.score == score


@pytest.mark.parametrize(
    "reply",
    [
        *["", "   ", "I cannot judge this.", "This one refuses", "No one would", "N/A"],
        *["6-7", "6 or 7", "between 6 and 7", "7-8/10", "3/5", "70%", "1,000", "gpt-4", "3rd"],
        *["On a scale from 0 to 10", "from 0 to 10", "The answer lists 2 reasons"],
        *["Score: 5 or score: 6", "<think>maybe 3", "I wouldn't give it a 10", "4/10 to 5/10"],
    ],
)
def test_a_reply_without_one_clear_score_has_none(reply: str) -> None:
    assert read_reply(reply).number is None
    assert read_reply(reply).score is None


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


# --- trouble that passes


@pytest.mark.parametrize(
    "trouble",
    [
        *[error(429), error(500), error(503), error(408), Answer(drop=True)],
        *[Answer(body=b"<html>"), Answer(body=b'{"choices": ['), Answer(body=b"[]")],
        *[Answer(body=b'{"choices": []}'), Answer(body=b'{"error": {"message": "busy"}}')],
        *[Answer(body=b"\xff\xfe"), Answer(body=b"hello", headers={"Content-Type": "text/html"})],
    ],
)
def test_passing_trouble_is_tried_again(bench: Bench, server: JudgeServer, trouble: Answer) -> None:
    server.script = lambda asked: trouble if asked.time < 3 else Answer(str(own_score(asked)))
    name = bench.results(many(2))
    assert bench.run() == 0
    assert bench.scores(name) == expected(2)
    assert Counter(Counter(server.prompts()).values()) == {4: 2}


@pytest.mark.parametrize("slow", [Answer("1", delay=0.8), Answer("1", drip=0.02)])
def test_a_time_out_is_tried_again(bench: Bench, server: JudgeServer, slow: Answer) -> None:
    server.script = lambda asked: Answer("5") if asked.time else slow
    name = bench.results(many(2))
    assert bench.run("--timeout", 0.25) == 0
    assert bench.scores(name) == [5, 5] and len(server.asked) == 4


def waited(server: JudgeServer) -> float:
    first, second = server.asked
    return second.at - first.at


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_honoured(bench: Bench, server: JudgeServer, status: int) -> None:
    trouble = error(status, Retry_After="0.6")
    server.script = lambda asked: Answer() if asked.time else trouble
    bench.results(many(1))
    assert bench.run() == 0
    assert 0.6 <= waited(server) < 1.2


def test_retry_after_as_a_date_is_honoured(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        # whole seconds only, so two ahead of now are between one and two to wait
        until = formatdate(time.time() + 2, usegmt=True)
        return Answer() if asked.time else error(429, Retry_After=until)

    server.script = script
    bench.results(many(1))
    assert bench.run() == 0
    assert 0.9 <= waited(server) < 2.6


def test_retry_after_is_read_in_both_forms() -> None:
    date, now = "Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": date, "date": now}) == 30
    assert retry_after({"retry-after": date}) == 0
    for nonsense in ("", "soon", "nan", "inf"):
        assert retry_after({"retry-after": nonsense}) is None
    assert retry_after({}) is None


def test_without_retry_after_the_pauses_grow(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_BACKOFF_SECONDS", "0.08")
    server.script = lambda asked: Answer() if asked.time == 3 else error(429)
    bench.results(many(1))
    bench.run()
    times = [asked.at for asked in server.asked]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert len(pauses) == 3
    for n, pause in enumerate(pauses):
        assert 0.04 * 2**n <= pause < 0.08 * 2**n + 0.15


# --- trouble that stays


def test_a_failed_item_is_listed_and_the_others_are_kept(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(asked: Asked) -> Answer:
        return error(500, "on fire") if own_score(asked) == 2.5 else Answer("6")

    server.script = script
    failed, whole = bench.results(many(7)), bench.results(many(3), "bold")
    assert bench.run("--max_retries", 2) == 1
    assert bench.scores(whole) == [6, 6, 6]
    assert not bench.paths.scores(failed).exists()
    printed = capsys.readouterr()
    assert printed.err.rstrip().endswith(
        f"1 failed:\n  calm/{failed.filename()}, row 6: HTTP 500: on fire (3 tries)"
    )
    assert len(server.asked) == 3 + 6 + 3
    server.script = lambda _asked: Answer("6")
    assert bench.run() == 0
    assert bench.scores(failed) == [6] * 7 and len(server.asked) == 13


def test_an_item_that_is_turned_down_is_not_tried_again(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = but(0.5, error(400, "content policy", "content_filter"))
    name = bench.results(many(2))
    assert bench.run() == 0
    assert bench.scores(name) == [0, None]
    assert sum("answer 1" in prompt for prompt in server.prompts()) == 1
    assert "row 2: HTTP 400: content policy" in capsys.readouterr().out


def test_a_dead_server_is_given_up_and_nothing_is_scored(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda _asked: error(502)
    name = bench.results(many(60))
    assert bench.run("--concurrency", 4, "--max_retries", 1) == 1
    assert len(server.asked) <= 2 * (10 + 4), "all sixty were tried"
    assert "not asked" in capsys.readouterr().err
    assert not bench.paths.scores(name).exists()


def test_an_unreachable_server_fails_with_its_address(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.results(many(1))
    assert bench.run("--base_url", "http://127.0.0.1:9/v1", "--max_retries", 1) == 1
    assert "connection to http://127.0.0.1:9/v1 failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (error(401, f"Incorrect API key: {KEY}"), "does not accept the key"),
        (error(403, f"{KEY} may not"), "does not let this key use gpt-9"),
        (error(404, "no model", "model_not_found"), "has no judge model gpt-9"),
        (error(404), "has no judge model gpt-9"),
        (error(400, "no model", "model_not_found"), "has no judge model gpt-9"),
        (error(429, "you are broke", "insufficient_quota"), "you are broke"),
    ],
)
def test_what_no_call_can_overcome_stops_at_once(
    bench: Bench,
    server: JudgeServer,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Answer,
    message: str,
) -> None:
    monkeypatch.setenv("OPEN_AI_KEY", KEY)
    server.script = lambda _asked: refusal
    name = bench.results(many(50))
    with pytest.raises(UserError, match=message) as raised:
        bench.run("--judge_model", "gpt-9", "--concurrency", 4, "--send_key")
    assert KEY not in str(raised.value)
    assert len(server.asked) <= 4
    assert not bench.paths.scores(name).exists()


def test_answers_that_came_before_a_refusal_are_kept(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        return error(401) if own_score(asked) == 2 else Answer("5", delay=0.1)

    server.script = script
    name = bench.results(many(8))
    with pytest.raises(UserError):
        bench.run("--concurrency", 5)
    # the first went out alone, then five at once
    assert sorted(bench.cached()) == sorted(server.answered) and len(server.answered) == 5
    server.script = lambda _asked: Answer("5")
    assert bench.run() == 0
    assert bench.scores(name) == [5] * 8 and len(server.answered) == 8


# --- kills


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
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first Ctrl-C did not wait for the calls on their way"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 4
    assert process.returncode == 130 and "Traceback" not in errors
    assert len(bench.cached()) == 1


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


# --- before anything is asked


def test_a_dry_run_asks_nothing_and_counts_what_is_left(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.results(many(4))
    bench.run()
    bench.results([*many(6), "answer 5"], layer=2)
    rows = json.loads(bench.paths.result(bench.results(many(6), layer=2)).read_text())
    write_json(bench.paths.result(bench.results(many(6), layer=2)), [*rows, rows[-1]])
    bench.results(many(2), "bold")
    before = everything_in(bench.paths.artifacts)
    capsys.readouterr()
    assert bench.run("--dry_run") == 0
    assert len(server.asked) == 4 and everything_in(bench.paths.artifacts) == before
    printed = capsys.readouterr().out
    lines = {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}
    assert lines["calm"][:3] == ["2", "11", "2"], "two of the six are not yet answered"
    assert lines["bold"][:3] == ["1", "2", "2"]
    assert lines["all"][:3] == ["3", "13", "4"] and lines["all"][4] == "40"
    assert "4 characters" in printed
    bench.run()
    new = server.asked[4:]
    assert len(new) == 4
    sizes = [sum(len(m["content"]) for m in asked.body["messages"]) for asked in new]
    assert int(lines["all"][3]) == sum(-(-size // 4) for size in sizes)


def test_no_key_and_no_server_is_said_before_anything_else(tmp_path: Path, bench: Bench) -> None:
    bench.results(many(1))
    before = everything_in(tmp_path)
    folders = ["--artifacts_dir", tmp_path / "new", "--datasets_dir", bench.paths.datasets]
    with pytest.raises(UserError, match=r"(?s)OPEN_AI_KEY=.*\.env.*--base_url"):
        call("scoring", *folders)
    assert not (tmp_path / "new").exists() and everything_in(tmp_path) == before


@pytest.mark.skipif((ROOT / ".env").exists(), reason="this checkout has a .env of its own")
def test_no_key_leaves_with_status_2_within_a_second(tmp_path: Path) -> None:
    started = time.monotonic()
    process = start("scoring", "--artifacts_dir", tmp_path / "new", "--datasets_dir", "nowhere")
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 1.5
    assert process.returncode == 2 and "OPEN_AI_KEY" in errors and "Traceback" not in errors
    assert not (tmp_path / "new").exists()


def authorization(server: JudgeServer) -> str:
    return server.asked[-1].headers["authorization"].removeprefix("Bearer ")


def test_the_key_is_found_in_the_environment_and_in_both_env_files(
    bench: Bench, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repository").mkdir()
    monkeypatch.setattr("utils.judging.settings.REPOSITORY", tmp_path / "repository")
    bench.results(many(5))

    def key_sent(layer: int, *flag: str) -> str:
        bench.results([f"layer {layer}"], layer=layer)
        assert bench.run("--layers", layer, *flag) == 0
        return authorization(server)

    assert key_sent(1) == "no-key-needed"
    (tmp_path / "repository" / ".env").write_text("OPEN_AI_KEY=of-the-repository\n")
    assert key_sent(2, "--send_key") == "of-the-repository"
    Path(".env").write_text("OPEN_AI_KEY=of-the-folder\nOPENAI_API_KEY=other\n")
    assert key_sent(3, "--send_key") == "of-the-folder"
    monkeypatch.setenv("OPENAI_API_KEY", "second-name")
    assert key_sent(4, "--send_key") == "of-the-folder"
    monkeypatch.setenv("OPEN_AI_KEY", "of-the-environment")
    assert key_sent(5, "--send_key") == "of-the-environment"
    for file in (Path(".env"), tmp_path / "repository" / ".env"):
        file.unlink()
    monkeypatch.delenv("OPEN_AI_KEY")
    assert key_sent(6, "--send_key") == "second-name"


def test_the_server_is_found_in_the_environment(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    bench.results(many(1))
    folders = ["--artifacts_dir", bench.paths.artifacts, "--datasets_dir", bench.paths.datasets]
    assert call("scoring", *folders) == 0
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://x/v1", f"http://me:{KEY}@x/v1", f"http://x/v1?key={KEY}", "http://"],
)
def test_a_server_that_is_no_plain_address_is_refused(bench: Bench, url: str) -> None:
    with pytest.raises(UserError, match="must look like http://host:port/v1") as raised:
        bench.run("--base_url", url)
    assert KEY not in str(raised.value)


def test_the_key_is_in_no_file_and_no_output(
    bench: Bench, server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_AI_KEY", KEY)

    def script(asked: Asked) -> Answer:
        echo = asked.headers["authorization"]
        number = -1 if is_harmless(asked) else own_score(asked) * 2
        if number == 0:
            return error(500, f"bad: {echo}")
        if number == 1:
            return error(400, f"bad: {echo} and sk-other-9876543210")
        if is_harmless(asked):
            return Answer("10")
        return Answer(f"6 {echo}") if number == 2 else Answer("no")

    server.script = script
    bench.results(many(5))
    bench.results(many(5)[2:3], layer=2)
    process = start_warm("scoring", *bench.options("--max_retries", 1, "--send_key"))
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert authorization(server) == KEY, "the key was not sent: nothing is shown"
    assert KEY not in out + errors and "[key]" in errors
    assert "sk-other" not in errors
    written = everything_in(bench.paths.artifacts)
    assert KEY.encode() not in written and b"[key]" in written


def test_a_behaviour_without_a_rubric_names_its_description(
    bench: Bench, server: JudgeServer
) -> None:
    bench.describe("bold", None)
    bench.results(many(1))
    assert bench.run() == 0, "a behaviour without results needs no rubric"
    bench.results(many(1), "bold")
    where = re.escape(str(bench.paths.description("bold")))
    with pytest.raises(UserError, match=rf"(?s)bold has no rubric.*{where}"):
        bench.run()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "rows", [[{"question": "?"}], [{"question": "?", "model_output": 3}], [], {"a": 1}, ["x"]]
)
def test_results_of_another_shape_are_refused_before_anything_is_asked(
    bench: Bench, server: JudgeServer, rows: object
) -> None:
    bench.results(many(2))
    name = bench.results(many(2), "bold")
    write_json(bench.paths.result(name), rows)
    with pytest.raises(UserError, match=re.escape(str(bench.paths.result(name)))):
        bench.run()
    assert server.asked == []


def test_no_results_names_the_command_that_makes_them(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"prompting_with_steering.py --type open_ended"):
        bench.run()
