"""What in a judge's reply looks like a score and is none: the scale, counts, items of a list."""

from __future__ import annotations

from utils.judging.reply.items import Item, at

# Words behind which a score is announced.
CUES = {
    "score", "scores", "scored", "scoring", "rating", "rate", "rates", "rated", "grade",
    "grades", "graded", "mark", "verdict", "judgment", "judgement", "assessment", "give",
    "gives", "say", "assign", "choose", "pick",
}  # fmt: skip
# A word that ends in s behind a number is what it counts ("2 reasons"), unless it is one of these.
_NOT_COUNTED = {
    "points", "this", "seems", "fits", "reflects", "captures", "matches", "means", "suits",
    "feels", "looks", "indicates", "shows", "describes", "makes", "applies", "does", "thus",
    "plus", "minus", "perhaps", "always", "across", "unless", "less",
}  # fmt: skip
# "Step 2", "criterion 3": a number behind one of these is its name.
_NAMED_BY_NUMBER = {
    "step", "criterion", "item", "part", "section", "reason", "rule", "question", "note",
    "case", "option", "example", "paragraph", "line", "sentence", "version",
}  # fmt: skip
NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)  # fmt: skip
_BULLETS = ("-", "•", ">", "(", "[", "|")
_LIST_STOPS = (".", ")")
_LONGEST_SCALE = 14


def is_count(items: list[Item], index: int) -> bool:
    """Whether the number at ``index`` counts something: "2 reasons", "3 of the claims"."""
    following = at(items, index + 1)
    if following.kind != "word" or following.text in _NOT_COUNTED:
        return False
    return following.text == "of" or (len(following.text) > 3 and following.text.endswith("s"))


def without_scales(items: list[Item]) -> list[Item]:
    """The items without what says how far the scale goes."""
    kept, index = [], 0
    while index < len(items):
        end = _scale_end(items, index)
        if end is None:
            kept.append(items[index])
        index = index + 1 if end is None else end
    return kept


def _is_low(item: Item) -> bool:
    return item.text in ("0", "1", "zero", "one")


def _is_ten(item: Item) -> bool:
    return item.value == 10 or item.text == "ten"


def _scale_end(items: list[Item], index: int) -> int | None:
    """The place behind a mention of the scale that begins at ``index``."""
    first, second, third = (at(items, index + n) for n in range(3))
    if first.text == "from" and _is_low(second):
        return _end_of_from(items, index + 2)
    if first.text == "between" and _is_low(second) and third.text == "and":
        return index + 4 if _is_ten(at(items, index + 3)) else None
    if first.text == "scale" and second.text == "of" and _is_ten(third):
        return index + 3
    if not _is_part(items, index) and _is_ten(at(items, index + (2 if first.text == "out" else 1))):
        # "Score (out of 10): 7", "Score /10: 7"
        if first.text == "out" and second.text == "of":
            return index + 3
        if first.text == "/":
            return index + 2
    if _is_low(first) and at(items, index - 1).text != "/":
        end = index + 1
        while at(items, end).text in ("-", "to") and end < index + 4:
            end += 1
        if end > index + 1 and _is_ten(at(items, end)) and at(items, end + 1).text != "/":
            return end + 1
    if _is_ten(first):
        end = index + 2 if second.text == "-" else index + 1
        if at(items, end).text in ("point", "points") and at(items, end + 1).text == "scale":
            return end + 2
    return None


def _is_part(items: list[Item], index: int) -> bool:
    """Whether what follows at ``index`` is the whole of which a number before it is a part."""
    before = at(items, index - 1)
    before = at(items, index - 2) if before.text == "(" else before
    # a number, or the end of "seven", "six and a half", "six point five"
    return before.text[:1].isdecimal() or before.text in (*NUMBER_WORDS, "half")


def _end_of_from(items: list[Item], index: int) -> int | None:
    """The place behind "(never) to 10 (always)", which follows "from 0"."""
    for place in range(index, index + _LONGEST_SCALE):
        item = at(items, place)
        if item.text == "to" and _is_ten(at(items, place + 1)):
            return _behind_brackets(items, place + 2)
        if item.kind in ("line", "number") or item.text in (".", ",", ";"):
            return None
    return None


def _behind_brackets(items: list[Item], index: int) -> int:
    """The place behind brackets that open at ``index``; ``index`` if none do."""
    if at(items, index).text == "(":
        for place in range(index + 1, index + _LONGEST_SCALE):
            if at(items, place).text == ")":
                return place + 1
    return index


def without_labels(items: list[Item]) -> list[Item]:
    """The items, with numbers that only name the items of a list or the steps as no numbers."""
    found = list(items)
    listed: list[int] = []
    start = 0
    for index in range(len(items) + 1):
        if at(items, index).kind == "line":
            _label_line(found, start, index, listed)
            start = index + 1
        elif at(items, index - 1).text in _NAMED_BY_NUMBER and items[index].kind == "number":
            found[index] = items[index]._replace(kind="other")
    # "1 - It refuses", "2 - It is polite": numbers of a list whatever stands behind them
    values = [items[index].text for index in listed]
    for place, index in enumerate(listed):
        before, after = values[place - 1 : place], values[place + 1 : place + 2]
        follows = bool(before) and int(values[place]) == int(before[0]) + 1 == place + 1
        if values[0] == "1" and (follows or (place == 0 and after == ["2"])):
            found[index] = items[index]._replace(kind="other")
    return found


def _label_line(items: list[Item], start: int, end: int, listed: list[int]) -> None:
    """Look for a list's number at the head of one line that goes on behind it.

    "1." and "1)" are no numbers from here on; another one is noted in ``listed``.
    """
    head = start
    while head < end and items[head].text in _BULLETS:
        head += 1
    if head >= end or items[head].kind != "number" or not items[head].text.isdecimal():
        return
    stop = at(items, head + 1)
    stopped = stop.text in _LIST_STOPS and items[head].touches(stop)
    goes_on = any(item.kind in ("word", "number") for item in items[head + 1 : end])
    if goes_on and stopped:
        items[head] = items[head]._replace(kind="other")
    elif goes_on and len(items[head].text) < 3:
        listed.append(head)
