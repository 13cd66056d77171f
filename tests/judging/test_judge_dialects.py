"""Judges that are not GPT-4 of 2023, and items that a judge turns down."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable

import pytest
from conftest import write_json
from judge_bench import (
    Bench,
    bench,
    but,
    expected,
    is_harmless,
    many,
    own_score,
    server,
    surroundings,
)
from judge_server import Answer, Asked, JudgeServer, error
from running import artifacts, call, start_warm

from utils.errors import UserError

__all__ = ("bench", "server", "surroundings")  # fixtures

FILTER = "The response was filtered due to the prompt triggering a content management policy"
TOO_LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000"
REFUSALS = {
    "content filter": error(400, FILTER, "content_filter"),
    "prompt too long": error(400, TOO_LONG, "context_length_exceeded"),
    "body too large": error(413, "too large"),
    "no words": Answer(status=422, body=b""),
    "filtered reply": Answer(None, finish="content_filter"),
    "in a router's envelope": Answer(
        body=json.dumps({"error": {"code": 400, "message": "no"}}).encode()
    ),
}
refusals = pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)


@refusals
def test_an_item_that_will_never_be_answered_costs_one_item(
    bench: Bench, server: JudgeServer, refusal: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = but(1, refusal)
    name = bench.results(many(5))
    assert bench.run() == 0
    assert bench.scores(name) == [0, 0.5, None, 1.5, 2]
    assert bench.rows(name)[2]["judge_turned_down"]
    assert all("judge_turned_down" not in row for n, row in enumerate(bench.rows(name)) if n != 2)
    printed = capsys.readouterr().out
    assert re.search(r"^calm +1 +5 +1\.00 +1 \(1 turned down\)$", printed, re.MULTILINE)
    assert "row 3:" in printed
    # it is not asked again: neither by a rerun, nor for another file with the same answer
    asked = sum("answer 2" in prompt for prompt in server.prompts())
    bench.paths.scores(name).unlink()
    assert bench.run() == 0 and bench.scores(name)[2] is None
    assert asked == 1 == sum("answer 2" in prompt for prompt in server.prompts())


@refusals
def test_an_item_is_turned_down_for_its_own_sake_also_if_it_is_the_only_one(
    bench: Bench, server: JudgeServer, refusal: Answer
) -> None:
    server.script = but(0, refusal)
    name = bench.results(many(1))
    assert bench.run() == 0
    assert bench.scores(name) == [None] and len(server.asked) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        *[
            error(400, "Bad Request"),
            error(422, "no"),
            error(405),
            error(400, FILTER, "content_filter"),
        ],
        *[Answer(status=400, body=b"<html>blocked</html>"), error(415), error(402, "pay first")],
        *[error(400, "hard limit", "billing_hard_limit_reached"), error(400, "temperature tower")],
        Answer(status=307, headers={"Location": "http://127.0.0.1:9/v1"}, body=b""),
        Answer(body=json.dumps({"error": {"code": 402, "message": "no credits"}}).encode()),
    ],
)
def test_what_is_wrong_for_all_is_asked_twice_at_most_and_said(
    bench: Bench, server: JudgeServer, refusal: Answer
) -> None:
    server.script = lambda _asked: refusal
    name = bench.results(many(40))
    with pytest.raises(UserError, match=r"every call|paid|sends its callers on"):
        bench.run()
    assert len(server.asked) <= 2
    assert not bench.paths.scores(name).exists()


def test_a_server_that_breaks_in_the_middle_makes_no_item_missing(
    bench: Bench, server: JudgeServer
) -> None:
    server.script = lambda asked: (
        Answer(str(own_score(asked))) if len(server.asked) < 5 else error(400, "gone")
    )
    name = bench.results(many(12))
    with pytest.raises(UserError, match="every call"):
        bench.run("--concurrency", 2)
    server.script = lambda asked: Answer(str(own_score(asked)))
    assert bench.run() == 0
    assert bench.scores(name) == expected(12)


def test_passing_trouble_still_withholds_the_file(bench: Bench, server: JudgeServer) -> None:
    server.script = but(1, error(503))
    name = bench.results(many(5))
    assert bench.run("--max_retries", 1) == 1
    assert not bench.paths.scores(name).exists()
    server.script = lambda asked: Answer(str(own_score(asked)))
    assert bench.run() == 0 and bench.scores(name) == expected(5)


def test_missing_scores_are_counted_in_table_and_figure(
    bench: Bench, server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = but(1, error(400, FILTER, "content_filter"))
    for multiplier in (-1.0, 0.0, 1.0):
        bench.results(many(5), multiplier=multiplier)
    assert bench.run() == 0
    folders = ["--artifacts_dir", bench.paths.artifacts, "--datasets_dir", bench.paths.datasets]
    model = bench.root / "tiny"
    write_json(model / "config.json", {"model_type": "llama"})
    plot = ["--type", "open_ended", "--behaviors", "calm", "--model", model, "--summary", *folders]
    assert call("plot_results", *plot) == 0
    texts = list((bench.paths.artifacts / "analysis" / "calm").glob("*.txt"))
    assert texts
    header, *lines = (line.split("\t") for line in texts[0].read_text().splitlines())
    assert header[-2:] == ["n", "missing"]
    # the scores of three multipliers, and as many changes
    assert [line[-2:] for line in lines] == [["4", "1"]] * 6
    said = capsys.readouterr().out
    assert "without a score: calm 1 at \N{MINUS SIGN}1, 1 at 0, 1 at +1" in said
    (summary,) = (bench.paths.artifacts / "analysis").glob("summary_*.md")
    assert "-1:1 0:1 1:1" in summary.read_text()


# --- other dialects


Body = dict[str, object]
OPENAI_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. "
    "Use 'max_completion_tokens' instead."
)
OPENAI_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0 with this model. "
    "Only the default (1) value is supported."
)
FASTAPI = {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]}
DIALECTS: dict[str, tuple[Callable[[Body], bool], Answer, Body]] = {
    "max_completion_tokens": (
        lambda body: "max_tokens" in body,
        error(400, OPENAI_TOKENS, "unsupported_parameter"),
        {"length_name": "max_completion_tokens"},
    ),
    "no temperature": (
        lambda body: "temperature" in body,
        error(400, OPENAI_TEMPERATURE, "unsupported_value"),
        {"temperature": False},
    ),
    "no temperature, FastAPI's words": (
        lambda body: "temperature" in body,
        Answer(status=422, body=json.dumps(FASTAPI).encode()),
        {"temperature": False},
    ),
    "no system turn": (
        lambda body: '"system"' in json.dumps(body["messages"]),
        error(400, "System role not supported"),
        {"system_turn": False},
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_parameter_that_a_judge_does_not_take_is_left_out_for_the_run(
    bench: Bench, server: JudgeServer, dialect: str
) -> None:
    minded, refusal, changes = DIALECTS[dialect]
    server.script = lambda asked: refusal if minded(asked.body) else Answer(str(own_score(asked)))
    name = bench.results(many(20))
    assert bench.run() == 0
    assert bench.scores(name) == expected(20)
    assert len(server.asked) == 21, "only the first call was turned down"
    assert bench.record(name)["measured"] == {"judge_asked": [changes | {"rows": 20}]}
    bench.results(many(22), layer=2)
    assert bench.run() == 0 and len(server.asked) == 23, "the next run knows"


def test_a_judge_may_mind_several_parameters(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        for minded, refusal, _ in DIALECTS.values():
            if minded(asked.body):
                return refusal
        return Answer(str(own_score(asked)))

    server.script = script
    name = bench.results(many(6))
    assert bench.run() == 0
    assert bench.scores(name) == expected(6) and len(server.asked) == 6 + 3
    assert "Judge how calm it is" in server.prompts()[-1]


def test_the_usual_dialect_leaves_no_trace(bench: Bench) -> None:
    name = bench.results(many(2))
    assert bench.run() == 0
    assert "measured" not in bench.record(name)
    folder = bench.paths.artifacts / "results/open_ended_scores/.cache"
    (entry, _) = (json.loads(path.read_text()) for path in folder.glob("??/*.json"))
    assert sorted(entry) == ["call", "replies"]


# --- replies of another shape


TEXT = {"type": "text", "text": "8"}
SHAPES = {
    "parts": Answer([TEXT]),
    "thinking and text": Answer(
        [{"type": "thinking", "thinking": [{"type": "text", "text": "3"}]}, TEXT]
    ),
    "thinking in text": Answer([{"type": "reasoning", "text": "3"}, TEXT]),
    "plain strings": Answer(["Score: ", "8"]),
    "beside its thinking": Answer("8", message={"reasoning_content": "a score of 3"}),
}


@pytest.mark.parametrize("answer", SHAPES.values(), ids=SHAPES)
def test_only_the_text_of_a_reply_is_read(
    bench: Bench, server: JudgeServer, answer: Answer
) -> None:
    server.script = lambda _asked: answer
    name = bench.results(many(2))
    assert bench.run() == 0
    assert bench.scores(name) == [8, 8] and len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "items"),
    [
        (Answer(None, message={"reasoning_content": "a score of 3"}), 3),
        (Answer("", message={"reasoning": "3"}), 3),
        (Answer([{"type": "thinking", "thinking": "3"}]), 3),
        (Answer("I would rather not say."), 10),
    ],
)
def test_a_judge_that_gives_no_scores_is_left(
    bench: Bench, server: JudgeServer, answer: Answer, items: int
) -> None:
    server.script = lambda _asked: answer
    name = bench.results(many(40))
    with pytest.raises(UserError, match=rf"first {items} items"):
        bench.run()
    assert len(server.asked) == 3 * items
    assert not bench.paths.scores(name).exists()
    server.script = lambda asked: Answer(str(own_score(asked)))
    assert bench.run() == 0
    assert bench.scores(name) == [None] * items + expected(40)[items:]


# --- room


def cut_at(words: int, thinking: int) -> Callable[[Asked], Answer]:
    """A judge that thinks for some tokens (words) and says its score after them."""

    def script(asked: Asked) -> Answer:
        room = asked.body["max_tokens"]
        assert isinstance(room, int)
        if room < thinking:
            return Answer("", finish="length", message={"reasoning_content": "hm " * room})
        text = ["Based", "on", "it,", "the", "score", "is", f"{own_score(asked)}"][:words]
        return Answer(" ".join(text))

    return script


def test_a_reply_that_was_cut_is_asked_for_again_with_more_room(
    bench: Bench, server: JudgeServer
) -> None:
    server.script = cut_at(7, thinking=500)
    name = bench.results(many(15))
    assert bench.run() == 0
    assert bench.scores(name) == expected(15)
    rooms = [asked.body["max_tokens"] for asked in server.asked]
    assert rooms == [10, 160] + [2560] * 15, "the first item shows what the others need"
    assert bench.record(name)["measured"] == {"judge_asked": [{"max_tokens": 2560, "rows": 15}]}


def test_a_number_that_was_cut_is_no_score(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        if asked.body["max_tokens"] == 10:
            return Answer("Based on the rubric, the score is 1", finish="length")
        return Answer("Based on the rubric, the score is 10")

    server.script = script
    name = bench.results(many(4))
    assert bench.run() == 0
    assert bench.scores(name) == [10] * 4 and len(server.asked) == 5


def test_a_verdict_that_is_whole_needs_no_more_room(bench: Bench, server: JudgeServer) -> None:
    server.script = lambda _asked: Answer("7\n\nThe answer, I'd give 1", finish="length")
    name = bench.results(many(4))
    assert bench.run() == 0
    assert bench.scores(name) == [7] * 4 and len(server.asked) == 4


def test_a_judge_that_never_ends_is_given_room_once(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        if own_score(asked) == 0:
            return Answer("Your answer is 1", finish="length")
        return Answer("5")

    server.script = script
    name = bench.results(many(4))
    assert bench.run() == 0
    assert bench.scores(name) == [None, 5, 5, 5]
    assert [a.body["max_tokens"] for a in server.asked] == [10, 160] + [10] * 5


def test_where_more_room_is_turned_down_the_reply_is_missing(
    bench: Bench, server: JudgeServer
) -> None:
    def script(asked: Asked) -> Answer:
        if asked.body["max_tokens"] > 10:
            return error(400, "max_tokens is too large")
        return Answer("The score is 1", finish="length" if own_score(asked) == 0.5 else "stop")

    server.script = script
    name = bench.results(many(3))
    assert bench.run() == 0
    assert bench.scores(name) == [1, None, 1]


def test_a_killed_run_asks_on_in_the_same_way(bench: Bench, server: JudgeServer) -> None:
    def script(asked: Asked) -> Answer:
        if "max_tokens" in asked.body:
            return error(400, OPENAI_TOKENS, "unsupported_parameter")
        if asked.body["max_completion_tokens"] == 10:
            return Answer("", finish="length")
        return Answer(str(own_score(asked)), delay=0.05)

    server.script = script
    whole = Bench(bench.root / "whole", server.url)
    for each in (whole, bench):
        each.results(many(20))
    assert whole.run("--concurrency", 2) == 0
    process = start_warm("scoring", *bench.options("--concurrency", 2))
    while len(bench.cached()) < 4:
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert bench.run() == 0
    assert artifacts(bench.paths.artifacts) == artifacts(whole.paths.artifacts)


def test_the_harmless_question_is_under_the_items_rubric(bench: Bench, server: JudgeServer) -> None:
    server.script = but(0, error(400, "no"))
    bench.results(many(1))
    assert bench.run() == 0
    first, second = (asked.body["messages"] for asked in server.asked)
    assert first[0] == second[0] and is_harmless(server.asked[1])
