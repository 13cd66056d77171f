"""Which number in a judge's reply is the score.

A judge is asked for the score alone, and mostly obeys. What it says besides is read by these
rules, in this order; where they leave two candidates, the reply holds no score, because a score
that is missing is seen and a wrong one is not:

1. A mention of the scale is no score: "0 to 10", "(1-10)", "from 0 (never) to 10 (always)",
   "a 10-point scale". In "On a scale from 0 to 10, I'd say 6" the score is 6.
2. "7/10" and "7 out of 10" are 7. Another denominator ("3/5", "70%") is another scale: no score.
3. A number after a word that announces it: "Score: 7", "I'd give 3", "rating of 8".
4. The number that the reply begins with: "7 because of its 2 caveats".
5. The only number there is: "This is a 4".

A range ("6-7", "6 or 7") and a count ("2 reasons") are no scores. Number words are read where
nothing else can be meant: alone, first before a comma or stop, after an announcing word, or out
of ten. "This one refuses" holds no number. What a reasoning model thinks aloud is left out.
"""

import re
from dataclasses import dataclass

LOWEST, HIGHEST = 0.0, 10.0

_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
_CUE = (
    r"\b(?:scores?|scored|scoring|rating|rate[ds]?|grade[ds]?|mark|verdict|judge?ment|assessment|"
    r"gives?|say|assign|choose|pick)\b"
)
# "7", "7.5", "7,5", ".5", "-1"; no part of a word, of a version or of a longer number.
_NUMBER = (
    r"(?<![\w.,])(?<!\w-)(?:(?<![^\s:=(\[{>])[-+])?"
    r"(?:\d+(?:\.\d+|,\d{1,2}(?!\d))?|\.\d+)(?![\w%]|[.,]\d)"
)
_COUNTED = r"(?!\s+(?!points?\b|is\b|as\b|was\b|this\b|seems\b|fits\b|reflects\b)[a-z]{3,}s\b)"
_SCALE = re.compile(
    r"\bfrom\s+[01]\b[^.,;\n\d]{0,40}\bto\s+10\b(?:\s*\([^)]*\))?"
    r"|\bbetween\s+[01]\s+and\s+10\b"
    r"|(?<![\d./-])[01]\s*(?:-+|\bto\b)\s*10\b(?!\s*/)"
    r"|\bscale\s+of\s+10\b|\b10[\s-]points?\s+scale\b",
    re.IGNORECASE,
)
_DENOMINATOR = r"(?:\s*\(?\s*(?:/|(?:out\s+)?of(?:\s+a(?:\s+possible)?|\s+the)?\s)\s*)"
_OUT_OF = re.compile(rf"({_NUMBER}){_DENOMINATOR}({_NUMBER})", re.IGNORECASE)
_RANGE = re.compile(
    rf"(?<!/){_NUMBER}\s*(?:-+|\bto\b|\bor\b)\s*\d|\bbetween\s+{_NUMBER}\s+and\s+\d", re.IGNORECASE
)
_AFTER_CUE = re.compile(rf"{_CUE}[^\d\n.+-]{{0,40}}({_NUMBER}){_COUNTED}", re.IGNORECASE)
_CANDIDATE = re.compile(rf"({_NUMBER}){_COUNTED}")
_NOT = re.compile(r"(?:n't|n’t|\bnot|\bnever|\bcannot)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)

_HALF = rf"(?P<word>{_WORD})(?P<half>\s+and\s+a\s+half|\s+point\s+five)?"
_PLAIN_WORDS = re.compile(
    rf"(?P<before>^\W*|{_CUE}(?:\s+(?:it|this|the\s+answer))?\s*(?:is|of|as|would\s+be|[:=])?"
    rf"\s*(?:a|an)?\s*)\b{_HALF}\b(?=\W*$|\s*[.,;:!\n]|\s+because\b)",
    re.IGNORECASE,
)
_WORDS_OUT_OF = re.compile(
    rf"(?P<before>)\b(?:{_HALF}|(?P<digits>\d+(?:\.\d+)?))(?:\s+out\s+of\s+|\s*/\s*)(?:ten|10)\b",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.IGNORECASE | re.DOTALL)
_DASHES = str.maketrans({"–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-"} | dict.fromkeys("*_`#~"))


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


def read_reply(reply: str) -> Reading:
    """Find the score in a judge's reply.

    Args:
        reply: the text as it came.

    Returns:
        The number and, if it is on the scale, the score.
    """
    text = _THOUGHT.sub(" ", reply).translate(_DASHES).strip()
    text = _WORDS_OUT_OF.sub(_as_digits, text)
    text = _PLAIN_WORDS.sub(_as_digits, text)
    text = _SCALE.sub(" ", text)
    return Reading(_only(_candidates(text)))


def _as_digits(match: re.Match[str]) -> str:
    parts = match.groupdict()
    if parts.get("digits"):
        return f"{parts['digits']} out of 10"
    digits = f"{_WORDS.index(parts['word'].lower())}{'.5' if parts['half'] else ''}"
    outof = " out of 10" if match.re is _WORDS_OUT_OF else ""
    return f"{parts['before']}{digits}{outof}"


def _candidates(text: str) -> list[float]:
    """The numbers of the first rule that applies."""
    if _RANGE.search(text):
        return []
    fractions = _OUT_OF.findall(text)
    if fractions:
        on_scale = all(_value(whole) == HIGHEST for _, whole in fractions)
        return [_value(part) for part, _ in fractions] if on_scale else []
    announced: list[float] = []
    denied: list[float] = []
    for match in _AFTER_CUE.finditer(text):
        (denied if _NOT.search(text[: match.start()]) else announced).append(_value(match[1]))
    if announced or denied:
        # "I wouldn't give it a 10" says what the score is not, and "rather 6" is a guess.
        return announced
    first = _CANDIDATE.match(text.lstrip("([{\"' "))
    if first:
        return [_value(first[1])]
    return [_value(m[1]) for m in _CANDIDATE.finditer(text)]


def _value(number: str) -> float:
    return float(number.replace(",", "."))


def _only(values: list[float]) -> float | None:
    """The one value there is, however often; ``None`` if there is none or several differ."""
    return values[0] if len(set(values)) == 1 else None
