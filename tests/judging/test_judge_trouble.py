"""Trouble with the judge: what passes is tried again, what stays stops the run and is named."""

from __future__ import annotations

import time
from collections import Counter
from email.utils import formatdate
from itertools import pairwise

import pytest
from judge_bench import (
    KEY,
    Bench,
    bench,
    but,
    expected,
    many,
    own_score,
    server,
    surroundings,
)
from judge_server import Answer, Asked, JudgeServer, error

from utils.errors import UserError
from utils.judging.errors import retry_after

__all__ = ("bench", "server", "surroundings")  # fixtures


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
    # each half drawn, half sure; the sure half of the third is more than all of a pause that stays
    for n, pause in enumerate(pauses):
        assert pause >= 0.04 * 2**n


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
