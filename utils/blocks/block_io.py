"""What goes into a decoder block and what comes out, across architectures and versions."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel

from utils.blocks.architectures import refuse_by_name
from utils.blocks.branches import Layout
from utils.blocks.hooks import Arguments, Named, Output
from utils.errors import UserError


class CannotBranch(Exception):
    """This architecture cannot run packed branches; the message says why."""


def hidden_of(output: Output) -> Tensor:
    """The residual stream in a block's output, shape (rows, tokens, width)."""
    # Blocks return a tensor in recent versions of transformers, a tuple in older ones, GPT a list.
    return output[0] if isinstance(output, tuple | list) else output


def with_hidden(output: Output, hidden: Tensor) -> Output:
    """A block's output with another residual stream in it."""
    if isinstance(output, tuple | list):
        return type(output)([hidden, *output[1:]])
    return hidden


def cut_arguments(arguments: Named, block: int, layout: Layout) -> Named:
    """The arguments of a block, cut down to the tokens that have joined before it.

    Raises:
        CannotBranch: one of them depends on the token in a way that is not known here.
    """
    length = layout.length_at(block)
    return {name: _cut(name, value, length, layout) for name, value in arguments.items()}


def _cut(name: str, value: Any, length: int, layout: Layout) -> Any:
    """One argument of a block, cut down to the first ``length`` of the layout's tokens."""
    if name in ("hidden_states", "position_ids"):
        return value if value is None else value[:, :length]
    if name == "position_embeddings" and value is not None:
        # cosines and sines, or (Llama 4, DeepSeek V2) one complex tensor
        parts = (value,) if isinstance(value, Tensor) else value
        cut = tuple(part[:, :length] for part in parts)
        return cut[0] if isinstance(value, Tensor) else cut
    if name == "cache_position" and value is not None:
        return value[:length]
    if name != "attention_mask" and isinstance(value, Tensor):
        sizes = {layout.total, layout.prefix + layout.total}
        if sizes & set(value.shape):
            raise CannotBranch(f"its blocks are given {name}, which depends on the token")
    return value


def positions_of_call(args: Arguments, kwargs: Named) -> Tensor:
    """Absolute positions of the tokens of one call of the decoder, shape (rows or 1, tokens)."""
    given = kwargs.get("position_ids")
    if given is not None:
        # Qwen-VL counts in three directions; for text they are the same
        return given[0] if given.ndim == 3 else given
    tokens = kwargs.get("input_ids", args[0] if args else None)
    tokens = kwargs["inputs_embeds"] if tokens is None else tokens
    cache, mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")
    seen = 0 if cache is None else cache.get_seq_length()
    new = tokens.shape[1]
    if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] == seen + new:
        # padding on the left has no position: count the real tokens
        return (mask.long().cumsum(1) - 1).clamp(min=0)[:, seen:]
    return torch.arange(seen, seen + new, device=tokens.device)[None]


def checked_mask(arguments: Named, layer: int) -> Tensor | None:
    """The attention mask among a block's arguments.

    Raises:
        CannotBranch: it is of another kind than (rows, 1, queries, keys).
    """
    mask = arguments.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.ndim != 4):
        raise CannotBranch(f"block {layer} takes no 4-D attention mask")
    return mask


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes; its weights may lie elsewhere until then (accelerate's hooks)."""
    hook = getattr(module, "_hf_hook", None)
    planned = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if planned is None else torch.device(planned)


def allowed_squares(masks: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Each block's own attention mask for one sequence as bool, shape (queries, keys)."""

    def square(mask: Tensor) -> Tensor:
        return (mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0).cpu()

    # Most models hand all blocks one mask object: keep it one, it is looked up by identity.
    squares = {id(mask): square(mask) for mask in masks if mask is not None}
    return [None if mask is None else squares[id(mask)] for mask in masks]


def checked_delta(delta: Tensor, width: int) -> Tensor:
    """What is added to a residual stream of that width: shape (width,) or (rows, width).

    Raises:
        UserError: it has another shape.
    """
    if delta.ndim not in (1, 2) or delta.shape[-1] != width:
        raise UserError(
            f"a vector of shape {tuple(delta.shape)}; this model's residual stream has "
            f"width {width}, so the vector belongs to another model"
        )
    return delta


def add_from(hidden: Tensor, delta: Tensor, positions: Tensor, first: Tensor) -> Tensor:
    """Add vectors at every position from a first one on.

    Args:
        hidden: residual stream, shape (rows, tokens, width).
        delta: shape (rows or 1, 1, width).
        positions: absolute position of every token, shape (rows or 1, tokens).
        first: shape (rows or 1, 1).

    Raises:
        UserError: another number of vectors than of rows (it would make rows of one row).
    """
    if len(delta) not in (1, len(hidden)):
        raise UserError(f"{len(delta)} vectors for {len(hidden)} rows: one for each row, or one")
    # Gemma 4 hands its last blocks the last tokens only, where nothing else is read
    positions = positions[:, -hidden.shape[1] :]
    steered = positions.to(hidden.device) >= first.to(hidden.device)
    return hidden + torch.where(steered[..., None], delta.to(hidden), 0.0)


def join_branches(hidden: Tensor, deltas: Tensor, layout: Layout) -> Tensor:
    """Append a copy of the tail for each delta, with that delta added.

    Args:
        hidden: residual stream, shape (rows, tokens, width).
        deltas: shape (branches, width).
        layout: says where the tail lies.
    """
    tail = hidden[:, layout.base - layout.tail : layout.base]
    copies = tail[:, None] + deltas.to(hidden)[None, :, None]
    return torch.cat([hidden, copies.flatten(1, 2)], dim=1)


def keys_and_values(cache: Cache, blocks: int, tokens: int) -> list[tuple[Tensor, Tensor]]:
    """What each block has put into a cache, shape (rows, heads, tokens, head width) each.

    Raises:
        CannotBranch: recurrent blocks, or blocks that share or drop keys and values.
    """
    stored = [(getattr(x, "keys", None), getattr(x, "values", None)) for x in cache.layers]
    found = [(k, v) for k, v in stored if k is not None and v is not None]
    if len(found) != blocks or any(k.shape[2] != tokens for k, _ in found):
        raise CannotBranch("its blocks do not keep keys and values of every token")
    return found


def keeps_state(config: PreTrainedConfig) -> bool:
    """Whether some of a model's blocks keep a state instead of (or with) keys and values."""
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False  # a cache of its own kind: other checks find out
    return any(hasattr(layer, "update_recurrent_state") for layer in layers)


def find_blocks(decoder: nn.Module, count: int, architecture: str) -> list[nn.Module]:
    """The decoder's list of blocks.

    Raises:
        UserError: the architecture cannot be steered: it has no list of that length, or nothing
            in its calls tells at which position a token stands.
    """
    refuse_by_name(architecture, "this model")
    if not {"position_ids", "past_key_values"} & set(signature(decoder.forward).parameters):
        raise UserError(
            f"architecture {architecture!r} cannot be steered: its calls do not tell at which "
            "position a token stands"
        )
    # Llama 4 names itself as its decoder; the list is one model further in.
    models = [decoder, *(c for c in decoder.children() if isinstance(c, PreTrainedModel))]
    for child in (c for model in models for c in model.children()):
        if isinstance(child, nn.ModuleList) and len(child) == count:
            return list(child)
    raise UserError(
        f"architecture {architecture!r} cannot be steered: no list of {count} decoder blocks in it"
    )
