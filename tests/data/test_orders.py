"""Both orders of the choices: exchanging twice gives the question back."""

from __future__ import annotations

import numpy as np
import pytest
from running import ROOT

from utils.data.evaluation import LETTER_TESTS
from utils.data.items import ABFields, ABItem, Items, load_ab_items, split_choices
from utils.data.orders import (
    Asked,
    ask_in_both_orders,
    both_orders,
    exchanged,
    question_count,
    question_means,
    why_kept,
)
from utils.errors import UserError
from utils.files.paths import Paths

PATHS = Paths(ROOT, ROOT / "datasets")
BEHAVIORS = sorted(p.name for p in (ROOT / "datasets/generate").iterdir())


def item(text: str, matching: str = "A", other: str = "B") -> ABItem:
    return ABItem(text, matching, other, {})


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_exchanging_twice_gives_every_shipped_question_back(behavior: str) -> None:
    sets = [
        load_ab_items(PATHS.generate_data(behavior), made_by=""),
        load_ab_items(PATHS.test_data(behavior, "ab"), made_by=""),
    ]
    sets += [
        LETTER_TESTS[name].load(PATHS, behavior, None)
        for name in ("bundled_misconceptions", "bundled_knowledge")
    ]
    for items in sets:
        turned, kept = both_orders(items)
        assert len(kept) <= len(items) / 20, [k.reason for k in kept]
        for before, after in zip(items, turned, strict=True):
            if after is None:
                continue
            assert exchanged(after) == before
            assert (after.matching, after.other) == (before.other, before.matching)
            stem, choices = split_choices(before.question)
            turned_stem, turned_choices = split_choices(after.question)
            assert turned_stem == stem
            assert dict(turned_choices) == {"A": dict(choices)["B"], "B": dict(choices)["A"]}
            answer = dict(choices)[before.matching]
            assert dict(turned_choices)[after.matching] == answer, "the same answer matches"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Q\n\nChoices:\n (A) yes\n (B) no", "Q\n\nChoices:\n (A) no\n (B) yes"),
        ("Q\n(A)  yes \r\n(B)\tno\r\n", "Q\n(A)  no \r\n(B)\tyes\r\n"),
        ("Q\n(A) one\n  two\n(B) three\n\nAnswer:", "Q\n(A) three\n(B) one\n  two\n\nAnswer:"),
        ("(A) or (B)?\n(A) a cat\n(B) a dog", "(A) or (B)?\n(A) a dog\n(B) a cat"),
        ("Q\n(A) I am A\n(B) I am not", "Q\n(A) I am not\n(B) I am A"),
    ],
)
def test_only_the_two_texts_change_places(before: str, after: str) -> None:
    turned = exchanged(item(before))
    assert (turned.question, turned.matching, turned.other) == (after, "B", "A")
    assert exchanged(turned) == item(before)


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("no choices here", "not lines that begin"),
        ("Q\n(A) a\n(B) b\n(C) c", "3 choices"),
        ("Q\n(A) the same\n(B) the same ", "say the same"),
        ("Q\n(A) me\n(B) both A and B", "names a letter"),
        ("Q\n(A) me\n(B) see (A)", "names a letter"),
        ("Q\n(A) the former\n(B) it", "names a letter or a place"),
        ("Q\n(A) this\n(B) None of the above", "names a letter or a place"),
        ("Q\n(A) this\n(B) neither of these options", "names a letter or a place"),
        ("Q\n(A) the second answer\n(B) it", "names a letter or a place"),
        ("Q\n(A) option B\n(B) it", "names a letter or a place"),
    ],
)
def test_what_means_something_else_at_the_other_letter_is_kept_and_listed(
    question: str, reason: str
) -> None:
    (turned,), (kept,) = both_orders([item(question)])
    assert turned is None and kept.number == 1 and reason in kept.reason
    with pytest.raises(ValueError, match=r"choice|answers"):
        exchanged(item(question))


def test_an_answer_beyond_b_is_kept() -> None:
    assert why_kept(item("Q\n(A) a\n(B) b", matching="D", other="A")) == (
        "its answers are not A and B"
    )


@pytest.mark.parametrize("text", ["Plan B works for me", "Vitamin C and A are fine.", "The second"])
def test_a_letter_that_names_no_choice_is_no_reason(text: str) -> None:
    assert why_kept(item(f"Q\n(A) {text}\n(B) no")) is None or " and " in text


# ---------------------------------------------------------------- questions as they are asked


def test_the_row_of_an_exchanged_question_says_what_is_asked() -> None:
    names = ABFields("prompt", "correct", "incorrect", extra=("category",))
    text = "Q\n(A) yes\n(B) no"
    row = {"prompt": text, "correct": " (A) yes", "incorrect": "(B)", "category": "(A)"}
    turned = exchanged(ABItem(text, "A", "B", row, names))
    assert turned.row == {
        "prompt": "Q\n(A) no\n(B) yes",
        "correct": " (B) yes",
        "incorrect": "(A)",
        "category": "(A)",
    }
    assert exchanged(turned) == ABItem(text, "A", "B", row, names)


def test_questions_are_asked_in_pairs_and_those_kept_once() -> None:
    texts = ["Q\n(A) a\n(B) b", "no choices", "R\n(A) c\n(B) d"]
    asked = ask_in_both_orders(Items(map(item, texts), "hash"))
    orders = ["published", "exchanged", "published", "published", "exchanged"]
    assert [i.row["order"] for i in asked.items] == orders
    assert asked.numbers == [1, 1, 2, 3, 3] and asked.items.sha256 == "hash"
    assert [i.question for i in asked.items][::2] == [texts[0], "no choices", "R\n(A) d\n(B) c"]
    assert asked.inputs == {"both_orders": {"kept": [2]}}
    told = "1 of 3 things in the published order only (item 2: its choices are not lines"
    assert asked.told("things").startswith(told)
    assert ask_in_both_orders(Items([item(texts[0])], "")).told("things") == (
        "all 1 things in both orders"
    )
    assert Asked(asked.items).told("things") == ""


ONE, OTHER = {"order": "published"}, {"order": "exchanged"}


def test_a_question_counts_once_however_often_it_is_asked() -> None:
    rows = [ONE, OTHER, ONE, {}, OTHER]
    means = question_means(np.array([1.0, 3.0, 5.0, np.nan, 1.0]), rows)
    assert np.array_equal(means, [2.0, 5.0, np.nan], equal_nan=True)
    assert question_count(rows) == 3
    plain = np.array([0.1, 0.2])
    assert question_means(plain, [{}, {}]) is plain


@pytest.mark.parametrize("rows", [[OTHER], [ONE, OTHER, OTHER], [ONE, {"order": "turned"}]])
def test_an_order_that_cannot_be_is_refused(rows: list[dict[str, object]]) -> None:
    fields = {"answer_matching_behavior": "(A)", "a_prob": 0.5, "b_prob": 0.5}
    with pytest.raises(UserError, match=rf"file, row {len(rows)}: no question stands before it"):
        LETTER_TESTS["ab"].scores([row | fields for row in rows], "file")
