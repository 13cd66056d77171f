"""Answers that end in a loop: the same words over and over, as steering too strongly makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TIMES, LEAST = 3, 30


@dataclass(frozen=True)
class Loop:
    """The end of a text that repeats itself.

    Attributes:
        start: index of the first character of what is repeated.
        period: its length in characters.
        times: how often it stands there whole.
    """

    start: int
    period: int
    times: int


def find_loop(text: str) -> Loop | None:
    """The loop in which a text ends; ``None`` if it ends in none.

    A loop is a piece that stands at the end at least three times in a row, over 30 characters
    or more. Of several readings, the one that explains most of the text, in its shortest period.
    """
    best: Loop | None = None
    for period, same in enumerate(_z_function(text[::-1])):
        covered = same + period
        if not period or covered < max(LEAST, TIMES * period):
            continue
        if best is None or covered > len(text) - best.start:
            best = Loop(len(text) - covered, period, covered // period)
    return best


def marked(text: str, *, whole: bool) -> str:
    """A text with a mark where its loop begins; it goes on to its end, or is cut there.

    A text without a loop stays as it is.
    """
    loop = find_loop(text)
    if loop is None:
        return text
    mark = f"[repeats {loop.times} times from here] "
    end = None if whole else loop.start + loop.period
    shown = text[loop.start : end]
    return text[: loop.start] + mark + shown + ("" if whole else " [...]")


def distinct_share(tokens: Sequence[int], n: int = 3) -> float:
    """How many different runs of ``n`` tokens there are, in parts of all; 1 where there is none.

    Near 1 for text, near 0 for the same words over and over.
    """
    found = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(found)) / len(found) if found else 1.0


def _z_function(text: str) -> list[int]:
    """For each place, how many characters from there agree with the text's beginning."""
    found = [0] * len(text)
    left = right = 0
    for i in range(1, len(text)):
        if i < right:
            found[i] = min(right - i, found[i - left])
        while i + found[i] < len(text) and text[found[i]] == text[i + found[i]]:
            found[i] += 1
        if i + found[i] > right:
            left, right = i, i + found[i]
    return found
