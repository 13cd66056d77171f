"""The packed sequence: one prompt and many continuations of it, in one forward pass.

A row of the batch is laid out as ::

    prefix (cached) | base: left padding, rest of the prompt | branch 1 | branch 2 | ...

The *tail* is the last ``tail`` tokens of the base. Every branch is another version of that tail
(steered, or with another last token), at the same absolute positions. A branch sees the prompt
before the tail, and itself; nothing sees a branch of another. It joins the sequence right after
the block at which it begins to differ, so that no block computes it in vain.

Attention is causal and steering changes no token before the tail, so each branch gets exactly
the numbers of a forward pass of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

AT_EMBEDDING = -1


@dataclass(frozen=True)
class Layout:
    """Where everything lies in one packed batch.

    Attributes:
        prefix: number of cached tokens that all rows begin with.
        lengths: real base tokens of each row (prefix not counted).
        tail: tokens of a branch.
        joins: for each branch the block after which it joins, ascending;
            ``AT_EMBEDDING`` for one that is there from the first block on.
    """

    prefix: int
    lengths: tuple[int, ...]
    tail: int
    joins: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if list(self.joins) != sorted(self.joins):
            raise ValueError("branches must come in the order in which they join")
        if self.tail < 1 or min(self.lengths) < self.tail:
            raise ValueError("every row must hold the whole tail")

    @property
    def base(self) -> int:
        """Length of the base, padding included."""
        return max(self.lengths)

    @property
    def total(self) -> int:
        return self.base + self.tail * len(self.joins)

    def length_at(self, block: int) -> int:
        """Tokens that stand in the sequence when it enters ``block``."""
        return self.base + self.tail * sum(join < block for join in self.joins)

    def last_tokens(self) -> Tensor:
        """Index of the last token of the base and of each branch, shape (1 + branches,)."""
        return self.base - 1 + self.tail * torch.arange(len(self.joins) + 1)

    def sources(self) -> Tensor:
        """For every token the base token at the same position, shape (total,)."""
        tail = torch.arange(self.base - self.tail, self.base)
        return torch.cat([torch.arange(self.base), tail.repeat(len(self.joins))])

    def positions(self) -> Tensor:
        """Absolute position of every token, shape (rows, total); padding has position 0."""
        padding = self.base - torch.tensor(self.lengths)
        return (self.sources()[None] - padding[:, None]).clamp(min=0) + self.prefix

    def visible(self, allowed: Tensor | None) -> Tensor:
        """Which token may attend to which.

        Args:
            allowed: for one plain sequence, whether the query at position i may attend to the
                key at position j (bool, square, at least as long as the longest row); ``None``
                for plain causal attention.

        Returns:
            Bool, shape (rows, total, prefix + total). Padding sees itself only.
        """
        rows, sources = len(self.lengths), self.sources()
        owner = torch.cat(
            [
                torch.zeros(self.base),
                torch.arange(1, len(self.joins) + 1).repeat_interleave(self.tail),
            ]
        )
        shared = (owner == 0) & (sources < self.base - self.tail)
        related = (owner[:, None] == owner[None]) | shared[None]
        real = sources[None] >= self.base - torch.tensor(self.lengths)[:, None]
        related = related[None] & real[:, None, :] & real[:, :, None]
        related |= torch.eye(self.total, dtype=torch.bool)[None] & ~real[:, :, None]
        prefix = real[:, :, None].expand(rows, self.total, self.prefix)

        queries = self.positions()
        prefix_keys = torch.arange(self.prefix).expand(rows, self.prefix)
        keys = torch.cat([prefix_keys, queries], dim=1)
        if allowed is None:
            ordered = keys[:, None, :] <= queries[:, :, None]
        else:
            ordered = allowed[queries[:, :, None], keys[:, None, :]]
        return torch.cat([prefix, related], dim=2) & ordered

    def additive_mask(self, allowed: Tensor | None, dtype: torch.dtype) -> Tensor:
        """:meth:`visible` as attention takes it: 0 or the lowest number, (rows, 1, q, k)."""
        visible = self.visible(allowed)
        mask = torch.zeros(visible.shape, dtype=dtype)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


class BranchMasks:
    """The additive attention masks of one packed pass, made once for all blocks that share one.

    Args:
        layout: where everything lies.
        allowed: for each block what one plain sequence allows, see :meth:`Layout.visible`.
        dtype: of the masks.
    """

    def __init__(
        self, layout: Layout, allowed: Sequence[Tensor | None], dtype: torch.dtype
    ) -> None:
        self.layout, self.allowed, self.dtype = layout, allowed, dtype
        self._made: dict[int, Tensor] = {}

    def at(self, block: int, device: torch.device) -> Tensor:
        """The mask of a block for the tokens that have joined before it, (rows, 1, q, k)."""
        key = id(self.allowed[block])
        if key not in self._made:
            self._made[key] = self.layout.additive_mask(self.allowed[block], self.dtype)
        self._made[key] = self._made[key].to(device)
        length = self.layout.length_at(block)
        return self._made[key][:, :, :length, : self.layout.prefix + length]


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all sequences share."""
    shortest, longest = min(map(tuple, sequences)), max(map(tuple, sequences))
    for index, (a, b) in enumerate(zip(shortest, longest, strict=False)):
        if a != b:
            return index
    return min(len(shortest), len(longest))


def length_batches(costs: Sequence[tuple[Any, int]], *, extra: int, budget: int) -> list[list[int]]:
    """Split items into batches of like length.

    The split depends on the items and the budget only, so that a run that is resumed has the
    batches, and so the bits, of one that was never stopped.

    Args:
        costs: (group, length) of each item; a batch holds items of one group only. Groups are
            anything that can be ordered.
        extra: tokens that every item needs on top of its length.
        budget: most tokens in one batch (a single item may be longer).

    Returns:
        Lists of item indices, the longest items first, so that a lack of memory shows at once.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i][0], -costs[i][1], i))
    batches: list[list[int]] = []
    for index in order:
        group, _ = costs[index]
        if batches:
            first_group, longest = costs[batches[-1][0]]
            fits = (len(batches[-1]) + 1) * (longest + extra) <= budget
            if first_group == group and fits:
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches


def grouped(order: Sequence[int], size: int, key: Callable[[int], Hashable]) -> list[list[int]]:
    """Consecutive runs of at most ``size`` items with the same key."""
    groups: list[list[int]] = []
    for item in order:
        if groups and len(groups[-1]) < size and key(groups[-1][0]) == key(item):
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups
