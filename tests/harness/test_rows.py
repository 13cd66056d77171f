"""Which rows can be scored together, and how a row's first steered position is found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.harness.rows import PAD, firsts_of, input_of, key_of, rounds

# Few tokens, padding among them, so that rows coincide often.
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=4)


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=8), st.integers(4, 7))
def test_every_row_of_a_padded_batch_is_given_its_own_first_position(
    requests: list[tuple[list[int], list[int]]], longest: int
) -> None:
    rows = [input_of(context, continuation, longest) for context, continuation in requests]
    firsts = [len(row) - len(c) for row, (_, c) in zip(rows, requests, strict=True)]
    seen: list[int] = []
    keyed = [(key_of(row), first) for row, first in zip(rows, firsts, strict=True)]
    for part in rounds(keyed):
        width = max(len(rows[i]) for i in part.members)
        batch = [rows[i] + [PAD] * (width - len(rows[i])) for i in part.members]
        assert firsts_of(batch, part.firsts) == [firsts[i] for i in part.members]
        seen += part.members
    assert sorted(seen) == list(range(len(requests)))


def test_requests_that_agree_are_one_round() -> None:
    keyed = [(key_of([5, 6, n]), 1) for n in range(9)] * 2
    assert len(rounds(keyed)) == 1


def test_the_same_tokens_split_at_two_places_are_two_rounds() -> None:
    parts = rounds([(key_of([5, 6, 7]), 1), (key_of([5, 6, 7]), 2), (key_of([5, 6, 7]), 1)])
    assert [part.members for part in parts] == [[0, 2], [1]]


def test_a_row_unknown_to_the_round_is_an_error_not_a_guess() -> None:
    with pytest.raises(KeyError):
        firsts_of([[1, 2]], {key_of([1, 3]): 0})


def test_the_row_is_the_one_that_the_harness_cuts() -> None:
    context, continuation = [1, 2, 3, 4], [5, 6]
    assert input_of(context, continuation, 100) == [1, 2, 3, 4, 5]
    # the harness: the last max_length + 1 tokens, and of those all but the last
    assert input_of(context, continuation, 3) == [3, 4, 5]
    assert input_of([1], [2, 3, 4], 3) == [1, 2, 3]
