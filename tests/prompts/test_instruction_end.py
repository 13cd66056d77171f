"""The end of the last instruction in tokens, against every window of them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.prompts.instruction_end import end_of_last


@given(
    st.lists(st.integers(0, 1), max_size=12),
    st.lists(st.integers(0, 1), min_size=1, max_size=3),
    st.integers(0, 12),
)
def test_the_last_occurrence_is_found_wherever_it_is(
    ids: list[int], marker: list[int], before: int
) -> None:
    windows = (
        torch.tensor(ids or [9]).unfold(0, len(marker), 1).tolist()
        if len(marker) <= max(len(ids), 1)
        else []
    )
    starts = [i for i, window in enumerate(windows) if window == marker and i < before]
    expected = starts[-1] + len(marker) - 1 if starts else None
    assert end_of_last(marker, ids, before) == expected
