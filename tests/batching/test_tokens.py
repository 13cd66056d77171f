"""Tokens as text: each by itself, and an answer that grows up to where it stops."""

from __future__ import annotations

from conftest import decoded, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import llama_like_tokenizer

from utils.batching.tokens import GrowingText, TokenTexts

TOKENIZER = make_tokenizer()
END = 3
TEXT = "Hello there, Ünïcode 漢字 🎈 and more.\n\nSTOP me"


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def grown(tokens: list[int], stops: tuple[str, ...] = (), *, strip: bool = False) -> list[str]:
    text = GrowingText(TOKENIZER, stops, {END}, strip=strip)
    parts = []
    for token in tokens:
        parts.append(text.push(token))
        if text.stopped:
            break
    return [*parts, text.finish()]


def test_the_pieces_are_the_whole_and_none_holds_half_a_character() -> None:
    parts = grown(ids(TEXT))
    assert "".join(parts) == TEXT
    assert sum(map(bool, parts)) > 10
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(parts[:-1])


@settings(max_examples=200, deadline=None)
@given(
    st.text("ab \n.", max_size=30), st.lists(st.text("ab \n.", min_size=1, max_size=4), max_size=3)
)
def test_an_answer_ends_before_the_first_stop_and_shows_no_part_of_it(
    text: str, stops: list[str]
) -> None:
    # the first of them that is there when a character has come
    ends = [n for n in range(len(text) + 1) if any(stop in text[:n] for stop in stops)]
    expected = text
    if ends:
        expected = text[: min(p for s in stops if (p := text[: ends[0]].find(s)) >= 0)]
    # one character a token, so that every stop crosses tokens
    tokens = [i for character in text for i in ids(character)]
    assert len(tokens) == len(text)
    assert "".join(grown(tokens, tuple(stops))) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(4, len(TOKENIZER) - 1), max_size=25), st.booleans())
def test_whatever_tokens_come_the_pieces_are_what_they_are_together(
    tokens: list[int], strip: bool
) -> None:
    whole = decoded(TOKENIZER, tokens)
    assert "".join(grown(tokens, strip=strip)) == (whole.strip() if strip else whole)


def test_a_stop_across_tokens_is_held_back_from_its_first_character_on() -> None:
    parts = grown(ids("one two") + ids("STO") + ids("P and"), ("STOP",))
    assert "".join(parts) == "one two"
    assert "S" not in "".join(parts)


def test_what_only_looked_like_a_stop_comes_later() -> None:
    assert "".join(grown(ids("an ST") + ids("ONE"), ("STOP",))) == "an STONE"
    assert "".join(grown(ids("it ends in ST"), ("STOP",))) == "it ends in ST"


def test_a_stripped_answer_streams_no_white_space_that_goes_again() -> None:
    parts = grown([*ids(" \n a b \n "), END], strip=True)
    assert "".join(parts) == "a b"
    assert next(p for p in parts if p).startswith("a")
    assert grown(ids("  \n"), strip=True)[-1] == ""


def test_an_end_token_is_no_text() -> None:
    assert "".join(grown([*ids("yes"), END])) == "yes"


def test_a_tokens_bytes_make_up_the_text() -> None:
    texts = TokenTexts(TOKENIZER)
    assert b"".join(texts.bytes_of(i) for i in ids(TEXT)) == TEXT.encode()
    assert texts.text(END) == "<|im_end|>"
    parts = [texts.text(i) for i in ids("🎈")]
    assert parts == ["bytes:\\xf0", "bytes:\\x9f", "bytes:\\x8e", "bytes:\\x88"]


def test_a_text_that_goes_on_keeps_the_blank_in_front() -> None:
    context, more = ids("one"), ids(" two")
    text = GrowingText(TOKENIZER, strip=False, context=context)
    assert "".join([*(text.push(i) for i in more), text.finish()]) == " two"
    assert decoded(TOKENIZER, more) == " two"


def test_pieces_that_mark_their_blanks_keep_them() -> None:
    texts = TokenTexts(llama_like_tokenizer())
    found = texts.tokenizer("so it is so", add_special_tokens=False)["input_ids"]
    assert b"".join(texts.bytes_of(i) for i in found).decode().strip() == "so it is so"
    assert sum(texts.text(i).startswith(" ") for i in found) >= 2
