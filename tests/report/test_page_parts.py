"""The parts of the page without a browser: markup, verdicts, words that differ, axes."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_results import CALM, Results, random_scores

from utils.files.names import Variant
from utils.report.answers import differing
from utils.report.headline import sentence
from utils.report.markup import joined, safe_json, tag
from utils.report.panels import five, ticks
from utils.report.sweeps import Found, Sweep
from utils.report.verdict import FEW, LITTLE, MOVES, STILL, UNSURE, WRONG, verdict
from utils.scores.cells import Selection


class Read(HTMLParser):
    """Elements, attributes and texts of some markup, as a browser would take them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
def test_any_text_stays_text(text: str) -> None:
    found = Read(tag("p", text, [text], title=text, data_x=text))
    assert found.tags == ["p"] and found.text == text + text
    assert found.attributes == [{"title": text, "data-x": text}]


@given(st.text(max_size=40))
def test_json_cannot_end_its_script(text: str) -> None:
    written = safe_json({text: [text, 1.5]})
    assert json.loads(written) == {text: [text, 1.5]}
    assert not set("<>&") & set(written)


@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=30))
def test_marking_changes_no_text_and_marks_nothing_that_is_alike(plain: str, text: str) -> None:
    found = Read(joined(differing(plain, text)))
    assert found.text == text
    assert ("mark" in found.tags) <= (plain != text)


def test_only_words_that_differ_are_marked() -> None:
    assert joined(differing("I can help.", "I can not help.")) == "I can <mark>not </mark>help."
    assert "<mark>" not in joined(differing("a  b", "a b"))


@given(st.floats(-3, -0.001), st.floats(0.001, 3))
def test_ticks_are_round_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 0.0 in found and len(found) <= 8
    assert all(low - 1e-9 <= x <= high + 1e-9 for x in found)


def test_numbers_have_five_digits_and_no_minus_before_zero() -> None:
    assert [five(0.1234567), str(five(-1e-9))] == [0.12346, "0.0"]


def sweep(folder: Path, changes: np.ndarray, layers: int = 1) -> Sweep:
    """A sweep whose change from -1 to 1 is this for every question, at its last layer; else 0."""
    results = Results(folder, {})
    level = np.linspace(0.3, 0.6, len(changes))
    scores = {
        (layer, m): level + (m / 2) * changes * (layer == layers - 1)
        for layer in range(layers)
        for m in (-1.0, 0.0, 1.0)
    }
    table = results.table(scores)
    selection = Selection("calm", table.variant, frozenset(scores), tuple(scores))
    return Sweep(Found(CALM, selection, {}), table, None, None)


def spread(mean: float, width: float, n: int = 40) -> np.ndarray:
    return mean + width * np.tile([-1.0, 1.0], n // 2)


@pytest.mark.parametrize(
    ("changes", "layers", "word"),
    [
        (spread(0.2, 0.1), 1, MOVES),
        (spread(0.02, 0.02), 1, LITTLE),
        (spread(-0.2, 0.1), 1, WRONG),
        (spread(0.0, 0.05), 1, STILL),
        (spread(0.05, 0.3), 1, UNSURE),
        (spread(0.2, 0.1, n=4), 1, FEW),
        # p over questions about 0.02: enough for one layer, not for the best of thirty
        (spread(0.08, 0.21), 1, MOVES),
        (spread(0.08, 0.21), 30, UNSURE),
        (spread(0.2, 0.1), 30, MOVES),
    ],
)
def test_a_verdict_follows_its_rules(
    tmp_path: Path, changes: np.ndarray, layers: int, word: str
) -> None:
    found = verdict(sweep(tmp_path, changes, layers))
    assert found is not None and found.word == word
    assert found.moves == (word in (MOVES, LITTLE, WRONG))


def test_one_strength_has_no_verdict(tmp_path: Path) -> None:
    table = Results(tmp_path, {}).table(random_scores([1.0], layers=[3]))
    selection = Selection("calm", Variant("ab"), frozenset(table.scores), tuple(table.scores))
    assert verdict(Sweep(Found(CALM, selection, {}), table, None, None)) is None


def test_the_sentence_says_what_moves_and_what_does_not(tmp_path: Path) -> None:
    strong = sweep(tmp_path / "a", spread(0.2, 0.1))
    still = sweep(tmp_path / "b", spread(0.0, 0.05))
    unsure = sweep(tmp_path / "c", spread(0.05, 0.3))
    other = replace(unsure.found, behavior=replace(CALM, name="Bold {x}"))
    named = Sweep(other, unsure.table, None, None)
    assert sentence([strong], "m").startswith("Steering m moves Calm: the mean P(matching answer)")
    assert "0.350 at multiplier −1 to 0.550 at multiplier +1" in sentence([strong], "m")
    assert sentence([strong, still], "m{}").startswith("Steering m{} moves 1 of 2 behaviours, Calm")
    assert sentence([strong], "m").endswith(" Nothing was run beside it as a control.")
    assert sentence([still], "m") == "Steering m does not move Calm."
    assert sentence([still, still], "m") == "Steering m moves none of 2 behaviours."
    assert sentence([named], "m") == "Whether steering m moves Bold {x} is not sure."
    expected = "Steering m surely moves none of 2 behaviours (1 not surely)."
    assert sentence([still, named], "m") == expected
