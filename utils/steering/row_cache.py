"""Keys and values of rows that decode together, in memory that is taken once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer


def row_cache(room: int) -> Cache:
    """A cache for prompts that are then shared out to rows, each ``room`` tokens long at most.

    Args:
        room: tokens of a row, prompt and answer together.
    """
    make: Any = partial(RowLayer, room)
    return Cache(layer_class_to_replicate=cast("type[RowLayer]", make))


class RowLayer(DynamicLayer):
    """One block's keys and values, shape (rows, heads, tokens, head width) each.

    The library's own layer copies all of them at every step, and once more when rows leave.
    Here the buffers are made when the prompts are shared out (``batch_repeat_interleave``); a
    step writes its own token, and a row that leaves is overwritten by one that moves.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self._buffers: tuple[Tensor, ...] = ()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self._buffers:
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.get_seq_length()
        end = length + key_states.shape[2]
        if end > self.room:  # writing one token into nothing would pass without a word
            raise RuntimeError(f"{end} tokens in a cache with room for {self.room}")
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[: len(new), :, length:end] = new
        return self._show(len(key_states), end)

    def batch_repeat_interleave(self, repeats: int) -> None:
        length = self.get_seq_length()
        if length == 0:
            return
        parts = (cast(Tensor, self.keys), cast(Tensor, self.values))
        self._buffers = tuple(_shared_out(part, repeats, self.room) for part in parts)
        self._show(len(self._buffers[0]), length)

    @torch.inference_mode()
    def batch_select_indices(self, indices: Tensor) -> None:
        length = self.get_seq_length()
        if length == 0:
            return
        moved = (indices != torch.arange(len(indices))).nonzero()[:, 0]
        for buffer in self._buffers if len(moved) else ():
            to, source = moved.to(buffer.device), indices[moved].to(buffer.device)
            buffer[to, :, :length] = buffer[source, :, :length]
        self._show(len(indices), length)

    def _show(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:rows, :, :length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values

    @classmethod
    def of(cls, parts: Sequence[Tensor], filled: int) -> RowLayer:
        """A layer that holds keys and values that are there, in buffers of their own.

        Args:
            parts: keys and values in buffers of ``room`` tokens, shape (rows, heads, room, width).
            filled: how many tokens of them are there.
        """
        layer = cls(parts[0].shape[2])
        layer.lazy_initialization(*parts)
        layer._buffers = tuple(parts)
        layer._show(len(parts[0]), filled)
        return layer


def joined(caches: Sequence[Cache], longest: int, room: int) -> Cache:
    """One cache for the rows of several, the last token of every row at the same place.

    Args:
        caches: whose last ``longest`` tokens hold all that their rows need.
        longest: tokens of the longest row.
        room: tokens of a row, those to come included.
    """
    layers = []
    for parts in zip(*(cache.layers for cache in caches), strict=True):
        keys = [cast(Tensor, part.keys) for part in parts]
        values = [cast(Tensor, part.values) for part in parts]
        both = [_at_the_end(tensors, longest, room) for tensors in (keys, values)]
        layers.append(RowLayer.of(both, longest))
    return Cache(layers=cast(Any, layers))


def room_of(cache: Cache) -> int:
    """Tokens of a row that a cache has room for."""
    return cast(RowLayer, cache.layers[0]).room


@torch.inference_mode()
def _at_the_end(parts: Sequence[Tensor], longest: int, room: int) -> Tensor:
    rows = sum(map(len, parts))
    _, heads, _, width = parts[0].shape
    # zeros and not whatever lies there: a weight of nothing times NaN is NaN
    buffer = parts[0].new_zeros(rows, heads, room, width)
    start = 0
    for part in parts:
        kept = part[:, :, -longest:]
        buffer[start : start + len(part), :, longest - kept.shape[2] : longest] = kept
        start += len(part)
    return buffer


def _shared_out(part: Tensor, repeats: int, room: int) -> Tensor:
    """A buffer that holds each row of ``part`` so many times, with room for more tokens."""
    rows, heads, length, width = part.shape
    buffer = part.new_empty(rows, repeats, heads, room, width)
    buffer[:, :, :, :length] = part[:, None]
    return buffer.flatten(0, 1)


def survivors(running: Tensor) -> Tensor:
    """Which rows go on, in an order in which few change place: the last ones fill the gaps.

    Args:
        running: bool, shape (rows,), on the CPU.

    Returns:
        Row numbers, shape (rows that run,).
    """
    count = int(running.sum())
    order = torch.arange(count)
    order[~running[:count]] = count + running[count:].nonzero()[:, 0]
    return order
