"""Tokens as text and colours, and the bar charts of the lens."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import torch
from conftest import make_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from utils.errors import UserError
from utils.lens import lens_figures
from utils.lens.block_parts import PARTS
from utils.lens.coloured_text import (
    NEGATIVE,
    POSITIVE,
    coloured_html,
    contrast,
    diverging_color,
    largest_magnitude,
    token_pieces,
    token_text,
    visible,
)
from utils.lens.logit_lens import Change, Lens

TEXT = "Hi \N{GRINNING FACE} 你好\n\n  x\t<|im_start|>user <b>&\n"


class Spans(HTMLParser):
    """What a browser would show of each span, its style and what hovering shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.open: dict[str, str] | None = None
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "span" and "title" in dict(attrs):
            self.open = {**dict(attrs), "text": ""}

    def handle_data(self, data: str) -> None:
        if self.open is not None:
            self.open["text"] += data

    def handle_endtag(self, tag: str) -> None:
        if self.open is not None:
            self.found.append((self.open["text"], self.open["title"], self.open["style"]))
            self.open = None


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer as SentencePiece makes them: spaces are part of words, bytes a last resort."""
    words = ["<unk>", "\u2581the", "\u2581cat", "a", "\u2581a", "<0xC3>", "<0xA9>"]
    core = Tokenizer(models.Unigram([(w, -1.0) for w in words], unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def test_pieces_join_to_the_text_and_split_characters_are_shown_once() -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(p for p in pieces if p != "\u25c2") == TEXT
    at = pieces.index("\N{GRINNING FACE}")
    assert pieces[at : at + 5] == ["\N{GRINNING FACE}", *["\u25c2"] * 3, " "]
    assert "<|im_start|>" in pieces


def test_bytes_that_are_no_character_are_shown_as_bytes() -> None:
    tokenizer = make_tokenizer()
    ids = tokenizer("a\N{GRINNING FACE}b", add_special_tokens=False)["input_ids"]
    assert token_pieces(tokenizer, ids[:3]) == ["a", "<F0>", "<9F>"]
    assert token_pieces(tokenizer, [*ids[:3], *ids]) == [
        *["a", "<F0>", "<9F>", "a", "\N{GRINNING FACE}"],
        *["\u25c2", "\u25c2", "\u25c2", "b"],
    ]
    assert token_text(tokenizer, ids[2]) == "<9F>"


def test_a_word_keeps_its_space_with_sentencepiece() -> None:
    tokenizer = metaspace_tokenizer()
    words = ["\u2581the", "\u2581cat", "a", "<0xC3>", "<0xA9>"]
    ids = [tokenizer.get_vocab()[word] for word in words]
    assert token_pieces(tokenizer, ids) == [" the", " cat", "a", "é", "\u25c2"]
    assert token_text(tokenizer, ids[3]) == "<C3>"


def test_white_space_and_control_characters_can_be_seen() -> None:
    assert visible(" a\n\t\r\x00\u200b") == "␣a⏎⇥␍\\x00\\x200b"
    assert visible("") == "(empty)"


def test_html_escapes_tokens_and_shows_white_space() -> None:
    pieces = ["<|im_start|>", "user", "\n", "  ", " <b>\"'&", "</span><script>", "\n\n"]
    page = coloured_html(pieces, [9.0, 1, -2, 0, 0.5, -1, 2], title="dot <product> & more")
    assert "<|" not in page and "<script" not in page and "dot &lt;product&gt; &amp; more" in page
    spans = Spans(page)
    texts = [text for text, _, _ in spans.found]
    assert texts == [*pieces[:2], "⏎\n", "␣␣", *pieces[4:6], "⏎\n⏎\n"]
    assert spans.found[0][1] == "token 0: <|im_start|>  +9"
    assert spans.found[2][1] == "token 2: ⏎  -2"
    assert set(spans.tags) <= {"div", "span", "b", "br", "small"}
    for tag in ("div", "span"):
        assert page.count(f"<{tag}") == page.count(f"</{tag}>")


def test_each_token_has_the_colour_of_its_number_and_the_scale_says_its_ends() -> None:
    page = coloured_html(list("abcd"), [-90.0, 3, -6, 0], title="t", answer_from=2)
    assert "\N{MINUS SIGN}6 <span" in page and "</span> +6 " in page
    styles = (style for _, _, style in Spans(page).found)
    colors = [c for style in styles for c in re.findall("background:(#[0-9a-f]{6})", style)]
    blue, orange = "#0072b2", "#d55e00"
    assert colors[0] == colors[2] == blue and colors[3] == "#ffffff"
    assert colors[1] not in (blue, orange, "#ffffff")
    assert page.index(">b</span>") < page.index("border-top") < page.index(">c</span>")
    assert f"to right, {blue}, #ffffff, {orange}" in page
    wider = coloured_html(list("abcd"), [-90.0, 3, -6, 0], title="t", limit=90)
    assert "+90" in wider and wider.count(f"background:{blue};") == 1


def test_colours_are_symmetric_and_text_on_them_can_be_read() -> None:
    assert diverging_color(0, 5)[0] == diverging_color(3, 0)[0] == (255, 255, 255)
    assert diverging_color(5, 5)[0] == diverging_color(99, 5)[0] == POSITIVE
    assert diverging_color(-5, 5)[0] == diverging_color(-99, 5)[0] == NEGATIVE
    for step in range(-100, 101):
        background, text = diverging_color(step / 20, 5)
        assert contrast(background, text) >= 4.5, step
        other = diverging_color(-step / 20, 5)[0]
        end, other_end = (POSITIVE, NEGATIVE) if step > 0 else (NEGATIVE, POSITIVE)
        for color, far in ((background, end), (other, other_end)):
            expected = [255 + abs(step) / 100 * (f - 255) for f in far]
            assert color == pytest.approx(expected, abs=0.51)
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)  # W3C's


def test_an_attention_sink_does_not_set_the_scale_but_any_other_first_token_does() -> None:
    assert largest_magnitude([900.0, -3, 2]) == largest_magnitude([-31.0, -3, 2]) == 3
    assert largest_magnitude([-29.0, -3, 2]) == 29
    assert largest_magnitude([4.0]) == largest_magnitude([4.0, 0.0]) == 4
    assert largest_magnitude([0.0, 0.0]) == 0


@pytest.mark.parametrize("values", [[], [1.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_numbers_that_cannot_be_coloured_are_refused(values: list[float]) -> None:
    with pytest.raises(UserError, match="numbers"):
        coloured_html(["a", "b"], values, title="t")
    with pytest.raises(UserError, match="0 tokens"):
        coloured_html([], [], title="t")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that were drawn, and no warning of a missing glyph."""
    drawn: list[Any] = []
    saved = lens_figures.finished

    def kept(figure: Any, *rest: Any) -> bytes | None:
        drawn.append(figure)
        return saved(figure, *rest)

    monkeypatch.setattr(lens_figures, "finished", kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield drawn


def lens_of(*rows: list[float]) -> Lens:
    """A lens whose every part reads the same, one row of probabilities for each layer."""
    return Lens(torch.tensor(rows)[:, None].expand(-1, len(PARTS), -1))


def check_png(data: bytes) -> None:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 900 < width < 1400 and 300 < height < 1400 and len(data) < 200_000


def test_letter_bars_add_the_spellings_of_a_letter(figures: list[Any]) -> None:
    lenses = {
        1.0: lens_of([0.4, 0.1, 0.2, 0.3], [0.1, 0.1, 0.1, 0.7]),
        0.0: lens_of([0.25, 0.25, 0.25, 0.25], [0.7, 0.1, 0.1, 0.1]),
        -1.0: lens_of([0.0, 0.0, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4]),
    }
    letters = {"A": [0, 1], "B": [3]}
    check_png(lens_figures.letter_bars(lenses, letters, title="t", steered=1))
    above, below = figures[0].axes
    heights = [bar.get_height() for bar in above.patches]
    assert heights == pytest.approx([0, 0.3, 0.5, 0.8, 0.5, 0.2]), "in the order -1, 0, +1"
    assert [b.get_height() for b in below.patches] == pytest.approx([0.5, 0.4, 0.25, 0.1, 0.3, 0.7])
    places = [bar.get_x() + bar.get_width() / 2 for bar in above.patches]
    assert [round(x) for x in places] == [0, 1] * 3 and sorted(places)[:3] == places[::2]
    assert [t.get_text() for t in figures[0].legends[0].get_texts()] == ["−1", "0", "+1"]
    assert above.get_ylabel() == "P(A)"


def test_change_bars_and_text_show_what_rises_and_falls(figures: list[Any]) -> None:
    tokenizer = make_tokenizer()
    a, b, c = (tokenizer.get_vocab()[x] for x in "abc")
    changes = {
        1: ([], []),
        2: ([Change(a, 0.1, 0.4)], [Change(b, 0.5, 0.2), Change(c, 0.1, 0.05)]),
    }
    check_png(lens_figures.change_bars(changes, tokenizer, title="t"))
    (axes,) = figures[0].axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.3, -0.05, -0.3])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "c", "b"]
    lines = lens_figures.change_text(changes, tokenizer).splitlines()
    assert [re.split(r" +\| +", line) for line in lines[1:]] == [
        ["1", "nothing", "nothing"],
        ["2", "a +30.0", "b −30.0  c −5.0"],
    ]
    with pytest.raises(UserError, match="no probability changes"):
        lens_figures.change_bars({1: ([], [])}, tokenizer, title="t")


def test_token_bars_leave_an_attention_sink_out_of_the_scale(figures: list[Any]) -> None:
    values = [5000.0, 3, -4, 2]
    pieces = ["<s>", "$a$", "你", "\n"]
    check_png(lens_figures.token_bars(pieces, values, y_label="dot", title="t"))
    (axes,) = figures[0].axes
    assert [bar.get_height() for bar in axes.patches] == values
    assert axes.get_ylim() == pytest.approx((-4.32, 4.32))
    assert [t.get_text() for t in axes.get_xticklabels()] == ["<s>", "$a$", "\\u4f60", "⏎"]
    with pytest.raises(UserError, match="2 tokens and 1 numbers"):
        lens_figures.token_bars(["a", "b"], [1.0], y_label="dot", title="t")
