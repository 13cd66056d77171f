"""Rows that decode together: each with a length, a vector and a first steered position of its own.

Rows may leave at any step, and others that were read elsewhere may join. The last token of every
row is at the end of the batch, so a row that joins a longer batch is padded in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Cache

from llama_wrapper import LlamaWrapper
from utils.blocks.padding import left_padded
from utils.blocks.vocabulary import head_in_parts
from utils.steering.row_cache import joined, room_of, row_cache


@dataclass
class Rows:
    """Rows of one batch; all tensors are indexed by row.

    Attributes:
        wrapper: the model.
        cache: keys and values of what was fed.
        mask: shape (rows, tokens fed), 0 where a row is padded.
        position: of the next token of each row, shape (rows,).
        first: first steered position, shape (rows,).
        deltas: layer -> what each row adds there, shape (rows, width).
        recorded: layer -> the residual stream at the last token of the last step, what is added
            contained, shape (rows, width).
    """

    wrapper: LlamaWrapper
    cache: Cache
    mask: Tensor
    position: Tensor
    first: Tensor
    deltas: dict[int, Tensor]
    recorded: dict[int, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.position)

    @property
    def longest(self) -> int:
        """Tokens of the longest row, padding aside."""
        return int(self.position.max())

    def step(self, ids: Tensor, layers: Sequence[int] = ()) -> Tensor:
        """Feed new tokens of every row.

        Args:
            ids: shape (rows, new).
            layers: where to record.

        Returns:
            Logits after the last of them, shape (rows, vocabulary).
        """
        new = ids.shape[1]
        positions = self.position[:, None] + torch.arange(new, device=ids.device)
        logits = self.feed(ids, self.mask.new_ones(ids.shape), positions, 1, layers)
        self.position = self.position + new
        return logits[:, -1]

    def feed(
        self, ids: Tensor, mask: Tensor, positions: Tensor, keep: int, layers: Sequence[int] = ()
    ) -> Tensor:
        """Feed tokens, padding among them; ``position`` stays the caller's affair.

        Args:
            ids, mask, positions: shape (rows, new).
            keep: after how many of the last tokens logits are wanted.
            layers: where to record.

        Returns:
            Logits, shape (rows, keep, vocabulary).
        """
        self.mask = torch.cat([self.mask, mask], dim=1)
        head = self.wrapper.model.get_output_embeddings()
        steered = self.wrapper.steer(self.deltas, self.first)
        with head_in_parts(head), steered, self.wrapper.record(layers) as kept:
            logits = self.wrapper.logits(
                input_ids=ids,
                attention_mask=self.mask,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
                logits_to_keep=keep,
            )
        self.recorded = {layer: hidden[:, -1] for layer, hidden in kept.items()}
        return logits

    def keep(self, order: Tensor) -> None:
        """Go on with some of the rows, in the order of their numbers (on the CPU)."""
        self.cache.batch_select_indices(order)
        there = order.to(self.position.device)
        self.mask, self.position = self.mask[there], self.position[there]
        self.first = self.first[there]
        deltas = {layer: delta[there] for layer, delta in self.deltas.items()}
        self.deltas = {layer: delta for layer, delta in deltas.items() if bool(delta.any())}

    @property
    def room(self) -> int:
        """Steps that the memory taken for keys and values still allows."""
        return room_of(self.cache) - self.mask.shape[1]


def empty_rows(
    wrapper: LlamaWrapper,
    prompts: Sequence[Sequence[int]],
    firsts: Sequence[int],
    deltas: Sequence[Mapping[int, Tensor]],
) -> tuple[Rows, tuple[Tensor, Tensor, Tensor]]:
    """Rows that have read nothing yet, and what :meth:`Rows.feed` is to be given of their prompts.

    Args:
        wrapper: the model.
        prompts: token ids.
        firsts: the first steered position of each.
        deltas: of each, layer -> what is added there, shape (width,).

    Returns:
        The rows; ids, mask and positions of all prompts, each of shape (rows, longest).
    """
    inputs = left_padded(prompts, wrapper.device)
    rows = Rows(
        wrapper,
        row_cache(0),
        inputs["attention_mask"][:, :0],
        torch.tensor([len(p) for p in prompts], device=wrapper.device),
        torch.tensor(firsts, device=wrapper.device),
        deltas_by_layer(deltas, wrapper.width, wrapper.device),
    )
    return rows, (inputs["input_ids"], inputs["attention_mask"], inputs["position_ids"])


def together(parts: Sequence[Rows], more: int) -> Rows:
    """The rows of several batches as one, with room for more steps.

    Args:
        parts: batches of one model, which are not to be used any more.
        more: steps; padding that no row needs any longer is dropped.
    """
    longest = max(part.longest for part in parts)
    masks = [part.mask[:, -longest:] for part in parts]
    padded = [torch.nn.functional.pad(m, (longest - m.shape[1], 0)) for m in masks]
    return Rows(
        parts[0].wrapper,
        joined([part.cache for part in parts], longest, longest + more),
        torch.cat(padded),
        torch.cat([part.position for part in parts]),
        torch.cat([part.first for part in parts]),
        _stacked(parts),
    )


def deltas_by_layer(
    rows: Sequence[Mapping[int, Tensor]], width: int, device: torch.device
) -> dict[int, Tensor]:
    """layer -> what each row adds there, shape (rows, width); zero where it adds nothing.

    Args:
        rows: of each row layer -> what it adds, shape (width,).
        width: of the residual stream.
        device: where the tensors go.
    """
    found: dict[int, Tensor] = {}
    for number, deltas in enumerate(rows):
        for layer, delta in deltas.items():
            if layer not in found:
                found[layer] = torch.zeros(len(rows), width)
            found[layer][number] = delta
    return {layer: delta.to(device) for layer, delta in found.items()}


def _stacked(parts: Sequence[Rows]) -> dict[int, Tensor]:
    like = {layer: delta for part in parts for layer, delta in part.deltas.items()}
    return {
        layer: torch.cat(
            [p.deltas.get(layer, delta.new_zeros(len(p), delta.shape[1])) for p in parts]
        )
        for layer, delta in like.items()
    }
