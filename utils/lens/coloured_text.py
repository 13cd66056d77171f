"""Tokens as text that can be seen, and as HTML coloured by a number for each token.

Colours run from Okabe and Ito's blue over white to their orange, which colour-blind readers tell
apart, symmetric about 0; on each the text is black or white, whichever is read more easily.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.text.numbers import formatted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Color = tuple[int, int, int]
NEGATIVE, ZERO, POSITIVE = (0, 114, 178), (255, 255, 255), (213, 94, 0)
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTINUED = "\N{BLACK LEFT-POINTING SMALL TRIANGLE}"
_NEWLINE = "\N{RETURN SYMBOL}"
_VISIBLE = {
    "\n": _NEWLINE,
    "\t": "\N{RIGHTWARDS ARROW TO BAR}",
    "\r": "\N{SYMBOL FOR CARRIAGE RETURN}",
}
_BOX = (
    "background:#fff;color:#000;border:1px solid #ccc;border-radius:4px;padding:10px 12px;"
    "font:13px/1.9 'DejaVu Sans Mono',Menlo,Consolas,monospace;"
)


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text of each token of a sequence.

    Byte-level tokenizers may cut one character (an emoji, say) into several tokens, none of
    which is text alone: then the first of them shows all of it and the others a small triangle.
    Bytes that never become a character are shown as hexadecimal numbers.
    """
    pieces = [token_text(tokenizer, token) for token in ids]
    broken = [_REPLACEMENT in _decoded(tokenizer, [token]) for token in ids]
    start = 0
    while start < len(ids):
        end = start + 1
        while broken[start] and end < len(ids) and broken[end]:
            end += 1
            joined = _decoded(tokenizer, ids[start:end])
            if _REPLACEMENT not in joined:
                pieces[start:end] = [joined, *[_CONTINUED] * (end - start - 1)]
                break
        else:
            # Nothing whole was found from here on: the next token may still begin one.
            end = start + 1
        start = end
    return pieces


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """One token by itself; bytes that are no text as ``<F0 9F>``."""
    text = _decoded(tokenizer, [token])
    if _REPLACEMENT not in text:
        return text
    raw = str(tokenizer.convert_ids_to_tokens(token))
    if raw.startswith("<0x"):  # SentencePiece
        return f"<{raw[3:]}"
    alphabet = _byte_alphabet()
    if all(character in alphabet for character in raw):
        return "<" + " ".join(f"{alphabet[character]:02X}" for character in raw) + ">"
    return raw


def visible(text: str) -> str:
    """Text on one line whose white space and control characters can be seen."""
    text = text.replace(" ", "\N{OPEN BOX}")
    text = "".join(_VISIBLE.get(character, character) for character in text)
    shown = (c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return "".join(shown) or "(empty)"


def diverging_color(value: float, limit: float) -> tuple[Color, Color]:
    """Colours of a number between -limit and limit; beyond it the colour of the end.

    Returns:
        Background and text, as red, green and blue from 0 to 255.
    """
    share = max(-1.0, min(1.0, value / limit)) if limit > 0 else 0.0
    end = POSITIVE if share > 0 else NEGATIVE
    mixed = [round(z + abs(share) * (e - z)) for z, e in zip(ZERO, end, strict=True)]
    background = (mixed[0], mixed[1], mixed[2])
    return background, max((_BLACK, _WHITE), key=lambda c: contrast(c, background))


def contrast(one: Color, other: Color) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2; 4.5 is asked of small text)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def largest_magnitude(values: Sequence[float]) -> float:
    """The end of the colour scale: the largest absolute value, an attention sink left out.

    Many models keep a residual stream a hundred times longer than any other at the first token:
    on its scale all other tokens would be white. So the first number does not count where it is
    more than ten times as large as every other.
    """
    first, rest = abs(values[0]), max(map(abs, values[1:]), default=0.0)
    return rest if 0 < 10 * rest < first else max(first, rest)


def coloured_html(
    pieces: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    limit: float | None = None,
    answer_from: int | None = None,
) -> str:
    """Tokens on a background that says their number, under a scale; each number on hovering.

    Args:
        pieces: text of each token.
        values: a number for each token.
        title: what the numbers are.
        limit: end of the colour scale; ``None`` for that of :func:`largest_magnitude`.
        answer_from: begin a new paragraph, under a line, with this token.

    Raises:
        UserError: no tokens, another number of values, or NaN or infinity among them.
    """
    values = [float(v) for v in values]
    if not pieces or len(pieces) != len(values):
        raise UserError(f"{len(pieces)} tokens and {len(values)} numbers: need one for each")
    if not all(map(math.isfinite, values)):
        raise UserError("NaN or infinity among the numbers of the tokens")
    limit = largest_magnitude(values) if limit is None else limit
    spans = []
    for index, (piece, value) in enumerate(zip(pieces, values, strict=True)):
        if index == answer_from:
            spans.append('</div><div style="border-top:1px dashed #888;padding-top:6px">')
        spans.append(_token_html(index, piece, value, limit))
    return (
        f'<div style="{_BOX}">{_scale_html(title, limit)}'
        f'<div style="padding-bottom:6px">{"".join(spans)}</div></div>'
    )


def _token_html(index: int, piece: str, value: float, limit: float) -> str:
    background, text = diverging_color(value, limit)
    # A space before a word is seen as coloured room; one that is all of a token is not.
    shown = visible(piece) if not piece.strip(" ") else piece
    shown = "".join(_VISIBLE.get(c, c) if c != "\n" else _NEWLINE + "\n" for c in shown)
    hover = html.escape(f"token {index}: {visible(piece)}  {formatted(value, '+.4g')}", quote=True)
    style = f"background:{_css(background)};color:{_css(text)};white-space:pre-wrap;"
    style += "padding:2px 0;border-right:1px solid #fff"
    return f'<span title="{hover}" style="{style}">{html.escape(shown)}</span>'


def _scale_html(title: str, limit: float) -> str:
    ends = ", ".join(_css(c) for c in (NEGATIVE, ZERO, POSITIVE))
    bar = (
        f'<span style="display:inline-block;width:160px;height:11px;border:1px solid #888;'
        f'vertical-align:middle;background:linear-gradient(to right, {ends})"></span>'
    )
    low, high = f"\N{MINUS SIGN}{limit:.3g}", f"+{limit:.3g}"
    return (
        f'<div style="font-family:sans-serif;padding-bottom:8px"><b>{html.escape(title)}</b><br>'
        f"{low} {bar} {high} <small>(0 is white; beyond the ends as at the ends)</small></div>"
    )


def _css(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _luminance(color: Color) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2.2)."""
    parts = [c / 255 for c in color]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Tokens as they read in the middle of a text."""
    # Some decoders drop the space before a first word; so no token is decoded as the first.
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    alone = str(tokenizer.decode(anchor, **options))
    return str(tokenizer.decode([*anchor, *ids], **options)).removeprefix(alone)


def _byte_alphabet() -> dict[str, int]:
    """The character that stands for each byte in byte-level tokenizers (GPT-2's table)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(rest)}
