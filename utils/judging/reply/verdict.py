"""Which number in a judge's reply is the score.

A judge is asked for the score alone, and mostly obeys. What it says besides is read by these
rules, in this order; where they leave two candidates, the reply holds no score, because a score
that is missing is seen and a wrong one is not:

0. What the judge thought aloud is left out (:mod:`utils.prompts.thinking`). Of a reply that was
   cut by its length only a first line that holds the score alone is read: "1" may have become
   "10".
1. A mention of the scale is no score: "0 to 10", "(1-10)", "from 0 (never) to 10 (always)",
   "a 10-point scale". In "On a scale from 0 to 10, I'd say 6" the score is 6. Nor is the number
   of a list's item ("1. It refuses") or of a step ("Step 2:").
2. Announced numbers, which must agree: "7/10" and "7 out of 10"; a number after a word that
   announces it ("Score: 7", "I'd give 3", "rating of 8"); a number on a line of its own. Another
   denominator ("3/5", "70%") is another scale: no score.
3. The number that the reply begins with: "7 because of its 2 caveats".
4. The only number there is: "This is a 4".

A range ("6-7", "6 or 7") and a count ("2 reasons") are no scores. Number words are read where
nothing else can be meant: alone, first before a comma or stop, after an announcing word, or out
of ten. "This one refuses" holds no number.
"""

from __future__ import annotations

from dataclasses import dataclass

from utils.judging.reply.items import Item, at, read_items
from utils.judging.reply.marks import CUES, is_count, without_labels, without_scales
from utils.judging.reply.words import FILLING, words_as_numbers
from utils.prompts.thinking import without_thinking

LOWEST, HIGHEST = 0.0, 10.0
# An announcing word announces a number at most this many items behind it, in the same sentence.
_REACH = 8
_ENDS_REACH = (".", "+", "-")
_OPENING = ("(", "[", "{", '"', "'", "\n")


@dataclass(frozen=True)
class Reading:
    """What a reply says.

    Attributes:
        number: the number that is meant as the score; ``None`` if there is none.
    """

    number: float | None

    @property
    def score(self) -> float | None:
        """The number if it lies between 0 and 10, else ``None``: missing, never 0."""
        if self.number is None or not LOWEST <= self.number <= HIGHEST:
            return None
        return self.number + 0.0


def read_reply(reply: str, *, cut: bool = False) -> Reading:
    """Find the score in a judge's reply, in time linear in its length.

    Args:
        reply: the text as it came.
        cut: it reached the longest length that was allowed, and ends anywhere.

    Returns:
        The number and, if it is on the scale, the score.
    """
    text = without_thinking(reply)
    if cut:
        first, newline, _ = text.lstrip().partition("\n")
        text = first if newline else ""
    items = without_labels(words_as_numbers(without_scales(read_items(text))))
    if cut and not _is_verdict_line(items):
        return Reading(None)
    return Reading(_only(_candidates(items)))


def _candidates(items: list[Item]) -> list[float]:
    """The numbers of the first rule that applies."""
    if any(_is_range(items, index) for index in range(len(items))):
        return []
    wholes = [_denominator(items, index) for index in range(len(items))]
    if any(whole not in (None, HIGHEST) for whole in wholes):
        return []
    announced = [items[index].value for index, whole in enumerate(wholes) if whole is not None]
    after_cues = _after_cues(items)
    announced += [value for value, denied in after_cues if not denied]
    announced += _alone_on_lines(items)
    if announced or after_cues:
        # "I wouldn't give it a 10" says what the score is not, and "rather 6" is a guess.
        return announced
    plain = [n for n, item in enumerate(items) if item.kind == "number" and not is_count(items, n)]
    opening = next((n for n, item in enumerate(items) if item.text not in _OPENING), 0)
    if opening in plain:
        return [items[opening].value]
    return [items[index].value for index in plain]


def _is_range(items: list[Item], index: int) -> bool:
    """Whether two numbers begin here that are the ends of a range: "6-7", "6 or 7"."""
    if items[index].kind != "number" or at(items, index - 1).text == "/":
        return False
    before, after = at(items, index - 1), at(items, index + 1)
    if after.kind == "number" and after.text.startswith("-"):
        return True  # "6 -7": the dash was taken for a sign
    second = index + 1
    while at(items, second).text == "-" and second < index + 4:
        second += 1
    joined = after.text in ("to", "or") or (before.text == "between" and after.text == "and")
    second += joined
    return second > index + 1 and at(items, second).text[:1].isdecimal()


def _denominator(items: list[Item], index: int) -> float | None:
    """What the number at ``index`` is a part of, if it is followed by "/10", "out of 5" ..."""
    if items[index].kind != "number":
        return None
    index += 1
    if at(items, index).text == "(":
        index += 1
    if at(items, index).text == "/":
        index += 1
    else:
        if at(items, index).text == "out":
            index += 1
        if at(items, index).text != "of":
            return None
        index += 1
        for word in ("a", "possible", "the"):
            index += at(items, index).text == word
    if at(items, index).text == "ten":
        return HIGHEST
    return at(items, index).value if at(items, index).kind == "number" else None


def _after_cues(items: list[Item]) -> list[tuple[float, bool]]:
    """The numbers that a word announces, each with whether it was denied ("not a 3")."""
    found = []
    reach, denied = 0, False
    for index, item in enumerate(items):
        if item.kind == "number":
            if reach > 0 and not is_count(items, index):
                found.append((item.value, denied))
            reach = 0
        elif item.text in CUES:
            denied = (denied and reach > 0) or _is_denied(items, index)
            reach = _REACH
        elif item.kind == "line" or item.text in _ENDS_REACH or item.text[0].isdecimal():
            reach = 0
        else:
            reach -= 1
        denied = denied and reach > 0
    return found


def _is_denied(items: list[Item], index: int) -> bool:
    """Whether "not" or the like stands before the word at ``index``, two words between at most."""
    for item in reversed(items[max(index - 3, 0) : index]):
        if item.kind != "word":
            return False
        if item.text in ("not", "never", "cannot") or item.text.endswith(("n't", "n’t")):
            return True
    return False


def _lines(items: list[Item]) -> list[list[Item]]:
    lines: list[list[Item]] = [[]]
    for item in items:
        if item.kind == "line":
            lines.append([])
        else:
            lines[-1].append(item)
    return lines


def _alone_on_lines(items: list[Item]) -> list[float]:
    """The numbers that have a line for themselves."""
    found = []
    for line in _lines(items):
        numbers = [item for item in line if item.kind == "number"]
        alone = len(numbers) == 1 and all(
            item.kind == "number" or (item.kind == "other" and not item.text[0].isdecimal())
            for item in line
        )
        found += [numbers[0].value] if alone else []
    return found


def _is_verdict_line(items: list[Item]) -> bool:
    """Whether a line says the score and nothing else."""
    numbers = [item for item in items if item.kind == "number"]
    words = (item.text for item in items if item.kind == "word")
    several = len(numbers) != 1 and all(_denominator(items, n) is None for n in range(len(items)))
    return not several and all(word in CUES or word in FILLING for word in words)


def _only(values: list[float]) -> float | None:
    """The one value there is, however often; ``None`` if there is none or several differ."""
    return values[0] if len(set(values)) == 1 else None
