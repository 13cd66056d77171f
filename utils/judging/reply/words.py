"""Number words in a judge's reply, where nothing else can be meant by them."""

from __future__ import annotations

from utils.judging.reply.items import Item, at
from utils.judging.reply.marks import CUES, NUMBER_WORDS

_VALUES = {word: float(value) for value, word in enumerate(NUMBER_WORDS)}
# What may stand between an announcing word and a number word, last to first.
_BETWEEN = (("a", "an"), ("is", "of", "as", "be", ":", "="), ("it", "this", "would"), ("the",))
_STOPS = (".", ",", ":", ";", "!", "\n", "because")
# Words that add nothing to a verdict.
FILLING = {
    "the", "is", "a", "an", "of", "out", "my", "final", "overall", "answer", "it", "as",
    "point", "points", "this",
}  # fmt: skip


def words_as_numbers(items: list[Item]) -> list[Item]:
    """The items, with number words as numbers where they can be nothing else.

    That is: alone; first before a comma or a stop; behind an announcing word; out of ten.
    """
    found: list[Item] = []
    opening = True  # nothing but marks so far
    last = max((n for n, item in enumerate(items) if item.kind in ("word", "number")), default=0)
    index = 0
    while index < len(items):
        item = items[index]
        end = _end(items, index)
        if item.text in _VALUES and (
            _is_tenth(items, end)
            or ((opening or _is_announced(items, index)) and _ends(items, end, last))
        ):
            value = _VALUES[item.text] + (0.5 if end > index + 1 else 0.0)
            item = Item("number", f"{value:g}", item.start, items[end - 1].end, value)
            index = end
        else:
            index += 1
        opening = opening and item.kind in ("line", "other") and not item.text[0].isdecimal()
        found.append(item)
    return found


def _end(items: list[Item], index: int) -> int:
    """The place behind a number word and its half."""
    words = [at(items, index + n).text for n in range(1, 4)]
    if words == ["and", "a", "half"]:
        return index + 4
    return index + 3 if words[:2] == ["point", "five"] else index + 1


def _is_tenth(items: list[Item], end: int) -> bool:
    """Whether "out of ten" or "/10" follows."""
    words = [at(items, end + n).text for n in range(3)]
    return (words[:2] == ["out", "of"] and words[2] in ("ten", "10")) or (
        words[0] == "/" and words[1] in ("ten", "10")
    )


def _is_announced(items: list[Item], index: int) -> bool:
    place = index - 1
    for words in _BETWEEN:
        place -= at(items, place).text in words
    # "is" and "answer" stand one behind the other in "rate the answer a seven"
    place -= 2 if [at(items, place - n).text for n in (0, 1)] == ["answer", "the"] else 0
    return at(items, place).text in CUES


def _ends(items: list[Item], end: int, last: int) -> bool:
    """Whether a number word ends what is said: nothing, a stop or a reason follows."""
    return end > last or at(items, end).text in _STOPS
