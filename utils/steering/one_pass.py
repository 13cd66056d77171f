"""Running packed branches: the fast way, and the slow way it must equal.

The slow way (one plain forward pass for each cell) is the oracle;
:mod:`utils.steering.self_check` compares the two and chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from llama_wrapper import LlamaWrapper
from utils.blocks.block_io import CannotBranch, keeps_state, keys_and_values
from utils.blocks.branches import AT_EMBEDDING, Layout, common_prefix
from utils.blocks.padding import left_padded
from utils.blocks.rotary import stretching
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.steering.self_check import COPIES, PADDINGS, RECURRENT

MAX_BRANCHES = 512
CPU_TOKENS, GPU_TOKENS = 768, 16384


@dataclass(frozen=True)
class Steer:
    """One steered variant: ``delta`` (shape (width,), multiplier applied) at block ``layer``."""

    layer: int
    delta: Tensor


@dataclass(frozen=True)
class Readings:
    """What contrast pairs read of the residual stream.

    Attributes:
        letters: at the answer letter, shape (pairs, 2, layers, width); index 0 is matching.
        norms: its length at every steered token: the last of the instruction, what follows it,
            and the letters of both answers; shape (pairs, tokens, layers).
    """

    letters: Tensor
    norms: Tensor


def default_budget(device: torch.device) -> int:
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


class PackedPrompts:
    """What packed runs over one set of prompts share: masks, and the common beginning's cache.

    Rows of one call must be of one regime of the rotary frequencies (:mod:`utils.blocks.rotary`).
    Where the run has several there is no common beginning: its keys would have those of a short
    prompt.

    Args:
        wrapper: the model.
        prompts: token ids of every prompt of the run.
        tail: most tokens of a branch; the common beginning ends before them.

    Raises:
        CannotBranch: the architecture does not allow it.
    """

    def __init__(self, wrapper: LlamaWrapper, prompts: Sequence[Sequence[int]], tail: int) -> None:
        self.wrapper = wrapper
        if keeps_state(wrapper.model.config):
            raise CannotBranch(RECURRENT)
        self.allowed = wrapper.allowed_positions(max(prompts, key=len))
        regime = stretching(wrapper.model.config).regime
        room = 0 if any(regime(len(p)) for p in prompts) else min(map(len, prompts)) - tail
        self.prefix = min(common_prefix(prompts), room)
        self._cache = self._prefix_cache(prompts[0][: self.prefix]) if self.prefix else []

    def _prefix_cache(self, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the common beginning, each (1, heads, tokens, head width).

        Raises:
            CannotBranch: recurrent blocks, or blocks that share or drop keys and values.
        """
        cache = DynamicCache()
        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self.wrapper.device)
            self.wrapper.decoder(input_ids=tokens, past_key_values=cache, use_cache=True)
        return keys_and_values(cache, self.wrapper.n_layers, len(ids))

    def layout(self, rows: Sequence[Sequence[int]], tail: int, joins: Sequence[int]) -> Layout:
        lengths = tuple(len(row) - self.prefix for row in rows)
        return Layout(self.prefix, lengths, tail, tuple(joins))

    def inputs(
        self, layout: Layout, rows: Sequence[Sequence[int]], last: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Arguments of one call of the model.

        Args:
            layout: where everything lies.
            rows: token ids of each row, the common beginning included.
            last: for each row the token that ends the last branch instead of the base's.
        """
        device = self.wrapper.device
        base = torch.zeros(len(rows), layout.base, dtype=torch.long)
        for i, row in enumerate(rows):
            base[i, layout.base - layout.lengths[i] :] = torch.tensor(row[self.prefix :])
        ids = base[:, layout.sources()]
        if last is not None:
            ids[:, -1] = torch.tensor(last)
        cache = None
        if self._cache:
            shape = (len(rows), -1, -1, -1)
            cache = DynamicCache([(k.expand(shape), v.expand(shape)) for k, v in self._cache])
        return {
            "input_ids": ids.to(device),
            "position_ids": layout.positions().to(device),
            "attention_mask": torch.ones(
                len(rows), self.prefix + layout.total, dtype=torch.long, device=device
            ),
            "past_key_values": cache,
            "use_cache": cache is not None,
        }

    def logits(self, rows: Sequence[Sequence[int]], tail: int, steers: Sequence[Steer]) -> Tensor:
        """Next-token logits of every row, unsteered and under every steer.

        Args:
            rows: token ids of each prompt; all have the same number of tail tokens.
            tail: tokens from the first steered one to the end.
            steers: in ascending order of layer.

        Returns:
            Shape (rows, 1 + steers, vocabulary); index 0 is unsteered.
        """
        layout = self.layout(rows, tail, [s.layer for s in steers])
        deltas = {
            layer: torch.stack([s.delta for s in steers if s.layer == layer])
            for layer in {s.layer for s in steers}
        }
        with self.wrapper.branch(layout, deltas, self.allowed):
            return self.wrapper.logits(**self.inputs(layout, rows))

    def last_token_outputs(
        self, rows: Sequence[Sequence[int]], others: Sequence[int], layers: Sequence[int], tail: int
    ) -> Readings:
        """Block outputs at the last token of each row, and at another token in its place.

        Args:
            rows: token ids of each row.
            others: for each row the token to put in place of its last one.
            layers: blocks to read, ascending; nothing above the last of them is computed.
            tail: tokens before the last one whose norms are wanted too.
        """
        layout = self.layout(rows, 1, [AT_EMBEDDING])
        with (
            self.wrapper.branch(layout, {}, self.allowed),
            self.wrapper.record(layers) as recorded,
        ):
            self.wrapper.run_until(layers[-1], **self.inputs(layout, rows, others))
        ends = [recorded[n][:, -2 - tail :] for n in layers]
        return Readings(
            torch.stack([hidden[:, -2:].to("cpu") for hidden in ends], dim=2),
            torch.stack([hidden.float().norm(dim=-1).cpu() for hidden in ends], dim=2),
        )


def slow_logits(
    wrapper: LlamaWrapper, prompt: LetterPrompt | OpenPrompt, steer: Steer | None
) -> Tensor:
    """The oracle: one plain forward pass for one cell, shape (vocabulary,)."""
    if steer is None:
        return wrapper.next_logits(prompt.ids)
    with wrapper.steer({steer.layer: steer.delta}, prompt.steer_from):
        return wrapper.next_logits(prompt.ids)


def batched_logits(
    wrapper: LlamaWrapper, prompts: Sequence[LetterPrompt | OpenPrompt], steer: Steer | None
) -> Tensor:
    """The slow way as rows of batches, see :mod:`utils.steering.self_check`.

    Returns:
        Shape (versions, prompts, vocabulary).
    """
    deltas = {} if steer is None else {steer.layer: steer.delta}
    firsts = torch.tensor([p.steer_from for p in prompts] * COPIES)
    found = []
    for padding in PADDINGS:
        inputs = left_padded([p.ids for p in prompts] * COPIES, wrapper.device, extra=padding)
        with wrapper.steer(deltas, firsts):
            found.append(wrapper.logits(**inputs, use_cache=False, logits_to_keep=1)[:, -1])
    return torch.cat(found).unflatten(0, (-1, len(prompts)))


def slow_outputs(
    wrapper: LlamaWrapper, row: Sequence[int], layers: Sequence[int], count: int
) -> Tensor:
    """The oracle: one plain pass over a whole prompt, its last tokens, (count, layers, width)."""
    tokens = torch.tensor([row], device=wrapper.device)
    # not by way of the next token's logits: some models compute late blocks for those alone
    with wrapper.record(layers) as recorded:
        wrapper.run_until(max(layers), input_ids=tokens, use_cache=False)
    return torch.stack([recorded[n][0, -count:].to("cpu") for n in layers], dim=1)


def slow_last_token_outputs(
    wrapper: LlamaWrapper, row: Sequence[int], layers: Sequence[int]
) -> Tensor:
    """The oracle at the last token alone, shape (layers, width)."""
    return slow_outputs(wrapper, row, layers, 1)[0]
