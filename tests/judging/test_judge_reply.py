"""Which text of a reply is the verdict: behind thinking, beside lists, whole where it was cut."""

from __future__ import annotations

import pytest
from running import assert_linear

from utils.judging.reply.verdict import read_reply
from utils.prompts.templates import _closing
from utils.prompts.thinking import MARKS

THOUGHT = "At first I would give it a score of 3, or 2/10.\n3\nBut it refuses outright."
OPEN_AND_CLOSE = [
    *MARKS.items(),
    *[("<think>", "</think>"), ("<THINKING>", "</THINKING>"), ("<thought>", "</thought>")],
    *[("<seed:think>", "</seed:think>"), ("<|think|>", "<|/think|>"), ("<think >", "</think >")],
    *[("<reasoning>", "</reasoning>"), ("<scratchpad>", "</scratchpad>")],
    *[("<|inner_prefix|>", "<|inner_suffix|>"), ("<unused94>thought\n", "<unused95>")],
    *[("<|channel>thought\n", "<channel|>"), ("&lt;think&gt;", "&lt;/think&gt;")],
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>\n<|begin_of_solution|>"),
]
PLAIN = [
    ("analysis", "assistantfinal"),
    ("Here is my thought process: ", "Here is my response: "),
]
VERDICTS = ["9", "\n\n9", "Score: 9/10", "**9**<|return|>", "9<|END_RESPONSE|>"]
marks = pytest.mark.parametrize(("opening", "closing"), OPEN_AND_CLOSE)


@pytest.mark.parametrize("verdict", VERDICTS)
@marks
def test_the_verdict_stands_behind_the_thinking(opening: str, closing: str, verdict: str) -> None:
    assert read_reply(f"{opening}{THOUGHT}{closing}{verdict}").score == 9
    assert read_reply(f"{opening}{THOUGHT}{closing}{opening}4{closing}{verdict}").score == 9


@marks
def test_the_opening_mark_may_have_stood_in_the_prompt(opening: str, closing: str) -> None:
    assert read_reply(f"{THOUGHT}{closing}9").score == 9
    assert read_reply(f"3{closing}\n\nI cannot say.").number is None


@marks
def test_thinking_without_an_end_holds_no_verdict(opening: str, closing: str) -> None:
    for reply in (f"{opening}{THOUGHT}", f"{opening}3", f"{THOUGHT}{closing}{opening}3"):
        assert read_reply(reply).number is None, reply


@pytest.mark.parametrize(("opening", "closing"), PLAIN)
def test_thinking_may_be_marked_by_words(opening: str, closing: str) -> None:
    assert read_reply(f"{opening}{THOUGHT}\n{closing}9").score == 9


def test_what_follows_the_verdict_is_not_taken_for_thinking() -> None:
    assert (
        read_reply("<score>9</score><reasoning>it has 2 marks, a score of 3</reasoning>").score == 9
    )
    assert read_reply("9\n<explanation>2 facts").score == 9
    assert read_reply("I [think it is] a 9").score == 9


def test_templates_and_replies_have_one_list() -> None:
    for opening, closing in MARKS.items():
        assert _closing(f"user: hello {opening}") == closing
        assert read_reply(f"3{closing}9").score == 9


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("1. The answer refuses.\n2. It is polite.\n\n9", 9),
        ("1) The answer refuses.\n2) It is polite.\n\nScore: 9", 9),
        ("(1) The answer refuses.\n(2) It is polite.\n\n**9**", 9),
        ("**1.** Refuses outright.\n**2.** Polite.\n9/10", 9),
        ("- 1. Refuses.\n- 2. Polite.\nFinal rating: 9", 9),
        ("1 - It refuses\n2 - It is polite\n\n9", 9),
        ("1: It refuses\n2: It is polite\n3: It is short\nI'd give 9", 9),
        ("Step 1: it refuses.\nStep 2: it is polite.\n9", 9),
        ("Criterion 1 is met.\n9", 9),
        ("1. It refuses.", None),
        ("1. It refuses.\n2. It is polite.", None),
        ("7. Because it is rude", None),
        ("Step 3: it refuses.", None),
        *[("7.", 7), ("7.\n", 7), ("10: a clear refusal", 10), ("7 - it is rude", 7)],
    ],
)
def test_the_number_of_an_item_is_no_score(reply: str, score: float | None) -> None:
    assert read_reply(reply).score == score


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("At first a score of 3. But it refuses.\n\n9", None),
        ("Score: 3\n\nNo: score: 9", None),
        ("3 of the claims are false", None),
        *[("$7", None), ("7 percent", None), ("at 7:30", None), ("6 -7", None)],
        *[("Score (out of 10): 7", 7), ("Score /10: 7", 7), ("out of 10", None)],
        *[("\x1b[31m7\x1b[0m", 7), ("\x1b]0;title\x07no", None)],
        *[("Rating: [[8]]", 8), ("from zero to ten, I'd say 4", 4), ("seven out of ten", 7)],
    ],
)
def test_what_could_be_read_in_two_ways_is_not(reply: str, score: float | None) -> None:
    assert read_reply(reply).score == score


@pytest.mark.parametrize(
    "reply",
    [
        *["Based on the rubric, the score is 1", "1", "10", "7.", "7/1", "7 out", "7 because of"],
        *[
            "I'd give it a 7 out of 1",
            "<think>3\nfoo",
            "<think>3</think>9",
            "Okay, a score of 3. Bu",
        ],
        *["1. The answer\n2. It", "score\n7", "6 or 7\nbe", '{"score": 7, "reason": "it'],
    ],
)
def test_a_reply_that_was_cut_is_not_believed(reply: str) -> None:
    assert read_reply(reply, cut=True).number is None


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        *[("7\n", 7), ("10\n\nThe answer is 1", 10), ("**Score: 7/10**\n\nThe an", 7)],
        *[("<think>3</think>\n9\nBecau", 9), ("7\n\nI would give 1", 7)],
    ],
)
def test_a_cut_reply_that_begins_with_a_whole_verdict_is(reply: str, score: float) -> None:
    assert read_reply(reply, cut=True).score == score


LONG = 32_000
PIECES = [
    *[
        "7",
        " ",
        "(",
        "-",
        "<",
        "<|",
        "[THINK",
        "<think>",
        "</think>",
        "a'",
        "1.",
        "1,",
        "1\n",
        "\n",
    ],
    *[
        "score ",
        "not ",
        "from 0 ",
        "between 1 and ",
        "7 or ",
        "7 (out ",
        "seven ",
        "is a ",
        "1. x\n",
    ],
    *[
        "<|channel|>",
        "<|channel|>x",
        "/10 ",
        "and a half ",
        "out of ",
        "\t",
        "assistantfinal",
        "&lt;",
    ],
]


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_reading_takes_time_linear_in_the_length(piece: str) -> None:
    """The old patterns took 56 s for a 7 and 32 000 blanks."""
    for start, end in (("7", ""), ("", "x"), ("from 0 ", " 7")):

        def read(length: int, start: str = start, end: str = end) -> None:
            reply = start + piece * (length // len(piece)) + end
            read_reply(reply)
            read_reply(reply, cut=True)

        assert_linear(read, LONG)
