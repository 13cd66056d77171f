"""The score that a judge's reply says, and the replies that say none."""

from __future__ import annotations

import pytest

from utils.judging.reply.verdict import read_reply


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
