"""The packed mask against a definition written out token by token."""

from __future__ import annotations

import pytest
import torch

from utils.blocks.branches import AT_EMBEDDING, Layout, common_prefix, length_batches


def brute_force(layout: Layout, row: int, window: int | None) -> torch.Tensor:
    """Every token as (branch, position); a query sees what its own unpacked sequence would hold."""
    padding = layout.base - layout.lengths[row]
    end = layout.prefix + layout.lengths[row]
    keys: list[tuple[str, int]] = [("base", p) for p in range(layout.prefix)]
    keys += [("pad", -1)] * padding
    keys += [("base", p) for p in range(layout.prefix, end)]
    for branch in range(len(layout.joins)):
        keys += [(f"branch {branch}", p) for p in range(end - layout.tail, end)]
    queries = keys[layout.prefix :]
    visible = torch.zeros(len(queries), len(keys), dtype=torch.bool)
    for q, (mine, at) in enumerate(queries):
        for k, (theirs, where) in enumerate(keys):
            if mine == "pad":
                visible[q, k] = k == q + layout.prefix
                continue
            own = theirs == mine or (theirs == "base" and where < end - layout.tail)
            near = window is None or at - where < window
            visible[q, k] = theirs != "pad" and own and where <= at and near
    return visible


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("tail", [1, 2, 3])
def test_mask_equals_definition(prefix: int, window: int | None, tail: int) -> None:
    layout = Layout(prefix, (5, 8, 3), tail, (AT_EMBEDDING, 0, 0, 2))
    allowed = None
    if window is not None:
        i = torch.arange(20)
        allowed = (i[None] <= i[:, None]) & (i[:, None] - i[None] < window)
    found = layout.visible(allowed)
    for row in range(3):
        assert torch.equal(found[row], brute_force(layout, row, window)), row


def test_every_token_sees_something() -> None:
    layout = Layout(0, (1, 6), 1, (0, 1))
    seen = layout.visible(None)
    assert seen.shape == (2, layout.total, layout.total)
    assert seen.any(-1).all()


def test_branches_join_after_their_block() -> None:
    layout = Layout(2, (6,), 2, (AT_EMBEDDING, 0, 0, 3))
    assert [layout.length_at(block) for block in range(5)] == [8, 12, 12, 12, 14]
    assert layout.total == 14
    assert layout.last_tokens().tolist() == [5, 7, 9, 11, 13]
    assert layout.positions()[0].tolist() == [2, 3, 4, 5, 6, 7] + [6, 7] * 4


def test_layout_refuses_disorder() -> None:
    with pytest.raises(ValueError, match="order"):
        Layout(0, (4,), 1, (2, 1))
    with pytest.raises(ValueError, match="tail"):
        Layout(0, (4, 1), 2)


def test_common_prefix() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4, 5], [1, 2]]) == 2
    assert common_prefix([[1, 2], [3]]) == 0
    assert common_prefix([[7, 8]]) == 2


def test_batches_hold_every_item_once_within_budget() -> None:
    costs = [(i % 2, 10 + i) for i in range(17)]
    batches = length_batches(costs, extra=5, budget=70)
    assert sorted(i for batch in batches for i in batch) == list(range(17))
    for batch in batches:
        assert len({costs[i][0] for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * (max(costs[i][1] for i in batch) + 5) <= 70
    assert length_batches([(0, 100)], extra=5, budget=10) == [[0]]
