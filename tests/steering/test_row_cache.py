"""The cache of rows that decode together = the library's own, which copies; and who moves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from utils.steering.row_cache import row_cache, survivors

HEADS, WIDTH, PROMPT, ROOM = 2, 4, 5, 12


def states(rows: int, tokens: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, HEADS, tokens, WIDTH), torch.randn(rows, HEADS, tokens, WIDTH)


def filled(cache: Cache) -> tuple[Cache, Cache]:
    """The cache and the library's own, three prompts in both, shared out to four rows each."""
    torch.manual_seed(3)
    both = (cache, Cache(layer_class_to_replicate=DynamicLayer))
    prompt = states(3, PROMPT)
    for one in both:
        one.update(*prompt, 0)
        one.batch_repeat_interleave(4)
    return both


def grow(both: tuple[Cache, Cache], rows: int, tokens: int) -> None:
    new = states(rows, tokens)
    ours, library = (cache.update(*new, 0) for cache in both)
    for mine, theirs in zip(ours, library, strict=True):
        assert mine.shape == (rows, HEADS, theirs.shape[2], WIDTH)
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "order", [[0, 1, 2], [0, 11, 2, 10], [5, 3, 0, 1], list(range(12)), list(range(12))[::-1], [7]]
)
def test_keys_and_values_are_those_of_the_library(order: list[int]) -> None:
    both = filled(row_cache(ROOM))
    grow(both, 12, 2)
    for cache in both:
        cache.batch_select_indices(torch.tensor(order))
    grow(both, len(order), 1)
    for cache in both:
        cache.batch_select_indices(torch.arange(len(order))[-1:])
    for _ in range(ROOM - PROMPT - 3):
        grow(both, 1, 1)
    assert both[0].get_seq_length() == both[1].get_seq_length() == ROOM


def test_memory_is_taken_once() -> None:
    both = filled(row_cache(ROOM))
    places = set()
    for rows in (12, 9, 2):
        both[0].batch_select_indices(torch.arange(rows))
        keys, values = both[0].update(*states(rows, 1), 0)
        places.add((keys.untyped_storage().data_ptr(), values.untyped_storage().data_ptr()))
    assert len(places) == 1


def test_an_answer_longer_than_the_room_is_an_error() -> None:
    both = filled(row_cache(PROMPT + 1))
    both[0].update(*states(12, 1), 0)
    with pytest.raises(RuntimeError, match="room for 6"):
        both[0].update(*states(12, 1), 0)


def test_the_last_rows_fill_the_gaps_and_no_other_row_moves() -> None:
    generator = torch.Generator().manual_seed(1)
    for share in (0.1, 0.5, 0.9):
        for _ in range(50):
            running = torch.rand(13, generator=generator) < share
            kept = survivors(running).tolist()
            assert sorted(kept) == running.nonzero()[:, 0].tolist()
            moved = [row for place, row in enumerate(kept) if row != place]
            assert all(row >= len(kept) for row in moved)
            assert len(moved) == int((~running[: len(kept)]).sum())
