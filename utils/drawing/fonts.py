"""Which font has which character: the texts in figures are in whatever script users write.

The font of all figures comes with matplotlib. Where it lacks a character
another font of the machine is looked for; where there is none, matplotlib would draw a box, so
the character's code point is written instead. Figures without such a character are the same
bytes on every machine.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping

from utils.drawing.style import FONT, Figure, Text, font_manager

# Fonts that have a picture for every character (its block's name in a box, or nothing).
_PLACEHOLDERS = ("last resort", "adobe blank", "adobe notdef")
_SHOWN = 5


def shown_names(names: Mapping[str, str]) -> dict[str, str]:
    """What figures call each behaviour: its name, and its id too where two have one name.

    A name that no font here can draw is replaced by the id, which a line on stderr says.

    Args:
        names: id -> name for people.
    """
    drawn = {behavior: _drawn_name(behavior, name) for behavior, name in names.items()}
    shared = Counter(drawn.values())
    return {b: name if shared[name] == 1 else f"{name} ({b})" for b, name in drawn.items()}


@functools.cache
def _drawn_name(behavior: str, name: str) -> str:
    missing = families(name)[1]
    if not missing:
        return name
    some = ", ".join(missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
    print(
        f"{behavior}: no font on this machine has {some}, so figures show the behaviour's id, not "
        "its name; install a font that has them (such as Noto Sans CJK)",
        file=sys.stderr,
    )
    return behavior


def drawable(text: str) -> str:
    """A text with code points (``\\u62d2``) for the characters that no font here has."""
    missing = families(text)[1]
    return "".join(_code_point(c) if c in missing else c for c in text)


def families(text: str) -> tuple[list[str], list[str]]:
    """The fonts that have a text's characters, and the characters that none has, in order."""
    wanted = [c for c in dict.fromkeys(text) if c not in "\n " and not _invisible(c)]
    missing = frozenset(c for c in wanted if ord(c) not in _characters(_base()))
    if not missing:
        return [FONT], []
    more, lost = _others(missing)
    return [FONT, *more], [c for c in wanted if c in lost]


def fit(figure: Figure) -> None:
    """Have every text of a figure drawn in fonts that have its characters."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            names = [tick.label1.get_text() for tick in axis.majorTicks]
            if any(families(name)[1] for name in names):
                # An axis writes its labels anew whenever it is drawn.
                axis.set_ticklabels([drawable(name) for name in names])
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        found, lost = families(text.get_text())
        if len(found) > 1:
            text.set_fontfamily(found)
        if lost:
            text.set_text(drawable(text.get_text()))


def _code_point(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _invisible(character: str) -> bool:
    """Whether a character says only how others are to be drawn (joiners, variants, direction)."""
    return unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"


def _base() -> font_manager.FontPath:
    return font_manager.findfont(FONT)


@functools.cache
def _others(missing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Other fonts that have these characters, each that which has most; those that none has."""
    found = []
    for name, path in sorted(_installed().items(), key=lambda font: -_count(missing, font[1])):
        usable = {c for c in missing if ord(c) in _characters(path) and _draws(path, c)}
        if usable:
            found.append(name)
            missing -= usable
        if not missing:
            break
    return found, missing


def _count(wanted: frozenset[str], path: font_manager.FontPath) -> int:
    return sum(ord(c) in _characters(path) for c in wanted)


@functools.cache
def _installed() -> dict[str, font_manager.FontPath]:
    """Every upright font but the base, by its name.

    One that was installed after matplotlib's first start, too: it keeps its list from then.
    """
    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            # bitmaps, broken files
            with contextlib.suppress(RuntimeError, OSError, ValueError, NotImplementedError):
                manager.addfont(path)
    upright = (e for e in manager.ttflist if e.style == "normal" and e.name != FONT)
    fonts = [e for e in upright if not e.name.lower().startswith(_PLACEHOLDERS)]
    # of several files the one nearest to the usual weight, as matplotlib itself takes it
    fonts.sort(key=lambda e: (e.name, -abs(_weight(e.weight) - 400), e.fname))
    return {e.name: font_manager.FontPath(e.fname, e.index) for e in fonts}


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else font_manager.weight_dict.get(weight, 400)


@functools.cache
def _characters(path: font_manager.FontPath) -> frozenset[int]:
    """The code points that a font has a glyph for; none if its file cannot be read."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (RuntimeError, OSError, ValueError):
        return frozenset()


def _draws(path: font_manager.FontPath, character: str) -> bool:
    """Whether a font's glyph has an outline (those of colour fonts may have none)."""
    try:
        font = font_manager.get_font(path)
        font.set_size(12, 100)
        glyph = font.load_char(ord(character))
    except (RuntimeError, OSError, ValueError):
        return False
    return glyph.width > 0 or character.isspace()
