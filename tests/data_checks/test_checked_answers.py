"""Checks of letters, choices and lengths: what gives an answer away, or merges it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from checked_data import (
    GENERATE,
    MATCHING,
    OPEN,
    OTHER,
    PAIRS,
    TEST,
    TESTS,
    changed,
    check,
    item,
    only,
    words,
)
from conftest import ROWS, make_tokenizer, pair
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from utils.data_checks.items import split_choices

# ---------------------------------------------------------------- letters and choices


@pytest.mark.parametrize(
    ("n", "a_items", "warned"),
    [
        (50, 25, False),
        (50, 26, False),
        (50, 24, False),
        (50, 27, True),
        (50, 23, True),
        (5, 3, False),
        (5, 4, True),
        (1, 1, False),
        (300, 156, False),
        (300, 157, True),
        (300, 143, True),
    ],
)
def test_letter_balance(tmp_path: Path, n: int, a_items: int, warned: bool) -> None:
    rows = [pair(words(5, i), "A" if i < a_items else "B") for i in range(n)]
    for row in rows:
        row["question"] = row["question"].replace("No, that is not so.", "No, it is not.")
    report = check(tmp_path, {GENERATE: rows})
    assert report.rows[0].generate and report.rows[0].generate.a_share == a_items / n
    if not warned:
        assert report.findings == ()
        return
    finding = only(report)
    assert (finding.severity, finding.file) == ("warning", GENERATE)
    assert f"letter is A in {a_items} of {n} items ({100 * a_items / n:.1f} %)" in finding.message


def test_letters_beyond_a_and_b_are_named_with_their_items(tmp_path: Path) -> None:
    more = "\n (C) Perhaps.\n (D) Never."
    rows = [dict(row, question=row["question"] + more) for row in ROWS]
    rows[1][MATCHING], rows[2][MATCHING], rows[5][OTHER] = "(C)", "(D)", "(C)"
    report = check(tmp_path, {GENERATE: rows, TEST: None, OPEN: None}, make_tokenizer())
    finding = only(report)
    assert (finding.severity, finding.file, finding.items) == ("warning", GENERATE, (2, 3, 6))
    assert finding.message == "letters beyond A and B: C in items 2, 6; D in item 3"
    assert report.rows[0].letters == "A B C D"
    assert report.rows[0].generate and report.rows[0].generate.beyond == 3


@pytest.mark.parametrize(
    ("question", "stem", "choices"),
    [
        ("Q?\n\nChoices:\n (A) Yes\n (B) No", "Q?", {"A": "Yes", "B": "No"}),
        ("Q?\n (A) Yes\n (B) No", "Q?", {"A": "Yes", "B": "No"}),
        ("Q?\n\nChoices:\n(A) Yes\n(B) No, it\nis not\n(C) X", "Q?", None),
        ("Two:\n(A) one\n(B) two\nWhich?\n (A) Both\n (B) None", "Two:\n(A) one\n(B) two\nWhich?",
         {"A": "Both", "B": "None"}),
        ("Q?", "Q?", {}),
        ("Q? (A) Yes (B) No", "Q? (A) Yes (B) No", {}),
        ("Q?\n (A) Yes", "Q?\n (A) Yes", {}),
        ("Q?\n (A) Yes\n (B) \n", "Q?\n (A) Yes\n (B) \n", {}),
        ("Q?\n (A) Yes\n (B) No\n (B) No", "Q?\n (A) Yes\n (B) No\n (B) No", {}),
        ("Q?\n (a) Yes\n (b) No", "Q?\n (a) Yes\n (b) No", {}),
    ],
)  # fmt: skip
def test_splitting_off_the_choices(
    question: str, stem: str, choices: dict[str, str] | None
) -> None:
    if choices is None:
        choices = {"A": "Yes", "B": "No, it\nis not", "C": "X"}
    assert split_choices(question) == (stem, tuple(choices.items()))


@pytest.mark.parametrize("question", ["Say so.", "So? (A) Yes (B) No", "So?\n(A) Yes\n(B)"])
def test_choices_that_cannot_be_parsed(tmp_path: Path, question: str) -> None:
    finding = only(check(tmp_path, {TEST: changed(TESTS, 2, question=question)}))
    assert (finding.severity, finding.file, finding.items) == ("warning", TEST, (2,))
    assert finding.message == "choices cannot be parsed, or one has no text: item 2"


@pytest.mark.parametrize("name", [MATCHING, OTHER])
def test_a_letter_that_names_no_choice(tmp_path: Path, name: str) -> None:
    report = check(tmp_path, {TEST: changed(TESTS, 2, **{name: "(C)"})})
    beyond, finding = report.findings
    assert beyond.message == "letters beyond A and B: C in item 2"
    assert (finding.severity, finding.file, finding.items) == ("warning", TEST, (2,))
    assert finding.message == "a letter that names no choice of the question: item 2"


@pytest.mark.parametrize(
    ("matching", "other", "warned"),
    [
        ("(A) Yes", "(B) No", True),
        ("(A)", "(B).", True),
        (" (A)", "(B)", True),
        (" (A)", " (B)", False),
        ("(A).", "(B).", False),
    ],
)
def test_answers_that_differ_in_more_than_the_letter(
    tmp_path: Path, matching: str, other: str, warned: bool
) -> None:
    report = check(tmp_path, {GENERATE: changed(PAIRS, 1, **{MATCHING: matching, OTHER: other})})
    if not warned:
        assert report.findings == ()
        return
    finding = only(report)
    assert (finding.severity, finding.file, finding.items) == ("warning", GENERATE, (1,))
    assert finding.message == "the answers differ in more than the letter: item 1"


# ---------------------------------------------------------------- tokenizer


def test_a_letter_that_the_tokenizer_merges_alone_is_an_error(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["(B"])
    report = check(tmp_path, {}, tokenizer)
    finding = only(report)
    assert (finding.severity, finding.behavior) == ("error", "calm")
    assert "does not tell the answers apart" in finding.message
    assert "'(B'" in finding.message
    assert report.rows[0].letters == "A B!"


@pytest.mark.parametrize("tokens", [["(A", "(B"], ["B)"]])
def test_letters_that_part_at_tokens_which_hold_them_are_none(
    tmp_path: Path, tokens: list[str]
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(tokens)
    report = check(tmp_path, {}, tokenizer)
    assert report.errors == [] and report.rows[0].letters == "A B"


def test_only_letters_that_occur_are_asked_of_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["(C"])
    assert check(tmp_path / "without", {}, tokenizer).errors == []
    question = f"{TESTS[0]['question']}\n (C) Perhaps."
    rows = changed(TESTS, 1, question=question, **{MATCHING: "(C)"})
    report = check(tmp_path / "with", {TEST: rows}, tokenizer)
    assert [(f.file, f.items) for f in report.errors] == [(TEST, (1,))]
    assert report.rows[0].letters == "A B C!"


def test_letters_that_are_the_same_token_are_an_error(tmp_path: Path) -> None:
    core = Tokenizer(models.WordLevel({"?": 0, "(": 1, ")": 2, ":": 3}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="?")
    report = check(tmp_path, {}, tokenizer)
    assert "does not tell the answers apart" in only(report).message
    assert report.rows[0].letters == "A! B!"


def test_a_tokenizer_without_a_chat_template_is_tried_in_the_base_format(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(None)
    assert check(tmp_path, {}, tokenizer).findings == ()
    tokenizer.add_tokens(["Response: ("])
    assert check(tmp_path, {}, tokenizer).errors == []
    tokenizer.add_tokens(["Response: (A"])
    assert "'Response: (A'" in only(check(tmp_path, {}, tokenizer)).message


# ---------------------------------------------------------------- length bias


def biased(longer: int, shorter: int, words_longer: int) -> list[dict[str, str]]:
    long, short = " ".join(["yes"] * words_longer), " ".join(["no"] * 20)
    rows = []
    for i in range(longer + shorter):
        matching = "AB"[i % 2]
        a_is_long = (matching == "A") == (i < longer)
        rows.append(item(words(5, i), *((long, short) if a_is_long else (short, long)), matching))
    return rows


@pytest.mark.parametrize(
    ("longer", "shorter", "words_longer", "warned"),
    [
        (12, 0, 24, True),  # p = 0.0005
        (0, 12, 24, True),
        (10, 0, 24, False),  # p = 0.002
        (12, 0, 21, False),  # 5 % more words
        (12, 0, 22, True),
        (16, 16, 30, False),
    ],
)
def test_length_bias(
    tmp_path: Path, longer: int, shorter: int, words_longer: int, warned: bool
) -> None:
    report = check(tmp_path, {GENERATE: biased(longer, shorter, words_longer)})
    lengths = report.rows[0].generate and report.rows[0].generate.lengths
    assert lengths and (lengths.longer, lengths.shorter) == (longer, shorter)
    if not warned:
        assert report.findings == ()
        return
    finding = only(report)
    means = (words_longer, 20) if longer else (20, words_longer)
    assert (lengths.matching, lengths.other) == means
    assert (finding.severity, finding.file) == ("warning", GENERATE)
    assert f"has {means[0]}.0 words on average, the other {means[1]}.0" in finding.message
    assert f"longer in {longer} items and shorter in {shorter} (sign test p = 0.0005)" in (
        finding.message
    )


@pytest.mark.parametrize(("longer", "shorter"), [(0, 0), (1, 0), (1, 3), (9, 9), (40, 12)])
def test_the_p_value_of_a_row_is_the_exact_binomial_one(
    tmp_path: Path, longer: int, shorter: int
) -> None:
    rows = biased(longer, shorter, 30) or [item(words(5, 0), "one word", "two words")]
    report = check(tmp_path, {GENERATE: rows})
    n, k = longer + shorter, min(longer, shorter)
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    lengths = report.rows[0].generate and report.rows[0].generate.lengths
    assert lengths and lengths.p_value == pytest.approx(exact, rel=1e-9, abs=0)
