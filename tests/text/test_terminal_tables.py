"""Tables for the terminal: whole, aligned, and in 80 columns where the cells leave room."""

from __future__ import annotations

import pytest

from utils.text.terminal_tables import plain_table, side_by_side

NAME, INTERVAL = "a-behaviour-of-a-long-name", "+0.123 [+0.100, +0.200]"


def test_a_table_that_fits_is_set_as_it_is() -> None:
    text = plain_table(["layer", "H"], [["5", "87.4"], ["12", "131.8"]], align="rr", title="norms")
    assert text.splitlines() == [
        "norms",
        "layer      H",
        "────────────",
        "    5   87.4",
        "   12  131.8",
    ]


def test_headings_and_texts_are_broken_for_80_columns_and_numbers_never() -> None:
    header = ["behaviour", "steered against it", "steered with it", "number of questions"]
    text = plain_table(header, [[NAME, INTERVAL, INTERVAL, "50"], ["b", "1", "2", "3"]])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert text.count(INTERVAL) == 2, "each is whole, in one line"
    assert lines[-1].split() == ["b", "1", "2", "3"]


def test_a_table_that_cannot_be_made_to_fit_is_wide_and_whole() -> None:
    header = ["behaviour", *(f"heading {n}" for n in range(5))]
    lines = plain_table(header, [[NAME, *[INTERVAL] * 5]]).splitlines()
    assert len(lines) == 3 and {len(line) for line in lines} == {len(NAME) + 5 * 25}
    assert lines[-1].split("  ") == [NAME, *[INTERVAL] * 5]


@pytest.mark.parametrize(
    "text", ["[red]x[/red]", ":smile:", "[link=a]b", "\N{CJK UNIFIED IDEOGRAPH-4E00}"]
)
def test_no_text_is_taken_for_markup(text: str) -> None:
    assert plain_table([text, "n"], [[text, "1"]]).count(text) == 2


def test_a_table_without_rows_has_its_headings() -> None:
    assert plain_table(["behaviour", "files"], []).splitlines()[0] == "behaviour  files"


def test_a_question_without_answers_stands_alone() -> None:
    """As on a rank that sees no files yet."""
    assert side_by_side("Is it raining?", {}) == "Is it raining?"


def test_a_name_too_long_for_its_column_is_broken_at_its_hyphens() -> None:
    rows = [["corrigible-neutral-HHH", *["+0.123 [-0.100, +0.300]"] * 2, "+0.12345"]]
    lines = plain_table(["name", *"abc"], rows).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["corrigible-neutral-", "HHH"]
