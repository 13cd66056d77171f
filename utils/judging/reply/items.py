"""A judge's reply as a list of numbers, words, line ends and other marks, in one pass.

The rules of :mod:`utils.judging.reply.verdict` look at these items, each at a bounded number of its
neighbours, so that reading takes time linear in the reply's length whatever the reply is.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|\n|\S")
_DASHES = dict.fromkeys(map(ord, "–—−‐‑"), "-")
_MARKDOWN = dict.fromkeys(map(ord, "*_`#~"))
_MARKS = str.maketrans({**_DASHES, **_MARKDOWN, ord("⁄"): "/"})
# What colours a terminal's text or sets its title; its digits are no numbers.
_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[\d;?]{0,20}[A-Za-z]?|\x1b\][^\x07\n]{0,80}\x07?")
_BEFORE_SIGN = ":=([{>"
_MONEY = "$€£¥"


class Item(NamedTuple):
    """A piece of a reply.

    Attributes:
        kind: a ``"number"`` that may be a score, a ``"word"``, the end of a ``"line"``, or
            anything ``"other"``: a mark, or digits that are part of something else (a version,
            a percentage, ``1,000``).
        text: in lower case.
        start, end: its place; two items touch where one ends and the next starts.
        value: of a number, else NaN.
    """

    kind: Literal["number", "word", "line", "other"]
    text: str
    start: int
    end: int
    value: float = float("nan")

    def touches(self, following: Item | None) -> bool:
        return following is not None and self.end == following.start


# Stands beyond both ends of a reply and touches nothing.
NOTHING = Item("line", "", -9, -9)


def at(items: list[Item], index: int) -> Item:
    """The item at a place, :data:`NOTHING` beyond the ends."""
    return items[index] if 0 <= index < len(items) else NOTHING


def read_items(text: str) -> list[Item]:
    """The items of a text; Markdown's marks are left out, every dash is a minus."""
    # blanks around it, so that what touches a number can be looked at unchecked
    text = f"  {_ESCAPE.sub(' ', text).translate(_MARKS)}  "
    items: list[Item] = []
    for match in _TOKEN.finditer(text):
        token, start, end = match[0].lower(), match.start(), match.end()
        if token[0].isdecimal():
            items.append(_numeral(text, start, end, items))
        elif token == "\n":
            items.append(Item("line", token, start, end))
        else:
            items.append(Item("word" if token[0].isalpha() else "other", token, start, end))
    return items


def _numeral(text: str, start: int, end: int, before: list[Item]) -> Item:
    """A number, or digits that are none; its sign or leading dot is taken off ``before``."""
    digits = text[start:end]
    parts = re.split("[.,]", digits)
    # a comma is a decimal one before one or two digits, else it sets off thousands
    whole = len(parts) == 1 or (len(parts) == 2 and ("." in digits or len(parts[1]) < 3))
    if text[start - 1] == "." and len(parts) == 1 and not _in_word(text[start - 2]):
        digits, start = f"0.{digits}", before.pop().start
    if text[start - 1] in "-+" and (text[start - 2].isspace() or text[start - 2] in _BEFORE_SIGN):
        digits, start = before.pop().text + digits, start - 1
    left, right = text[start - 1], text[end]
    glued = (
        _in_word(left)
        or left in _MONEY
        or (left == "-" and _in_word(text[start - 2]) and not text[start - 2].isdecimal())
        or right.isalnum()
        or text[end : end + 9].lstrip().lower().startswith(("%", "percent"))
        or (right == ":" and text[end + 1].isdecimal())
        or (left == ":" and text[start - 2].isdecimal())
    )
    if glued or not whole:
        return Item("other", digits, start, end)
    return Item("number", digits, start, end, float(digits.replace(",", ".")))


def _in_word(character: str) -> bool:
    return character.isalnum() or character in ".,"
