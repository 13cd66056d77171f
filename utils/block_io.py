"""What goes into a decoder block and what comes out, across architectures and versions."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from utils.branches import Layout
from utils.errors import UserError


class CannotBranch(Exception):
    """This architecture cannot run packed branches; the message says why."""


def hidden_of(output: Any) -> Tensor:
    """The residual stream in a block's output, shape (rows, tokens, width)."""
    # Blocks return a tensor in recent versions of transformers, a tuple in older ones.
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """A block's output with another residual stream in it."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def cut_argument(name: str, value: Any, length: int, layout: Layout) -> Any:
    """One argument of a block, cut down to the first ``length`` of the layout's tokens."""
    if name in ("hidden_states", "position_ids"):
        return value if value is None else value[:, :length]
    if name == "position_embeddings" and value is not None:
        return tuple(part[:, :length] for part in value)
    if name == "cache_position" and value is not None:
        return value[:length]
    if name != "attention_mask" and isinstance(value, Tensor):
        sizes = {layout.total, layout.prefix + layout.total}
        if sizes & set(value.shape):
            raise CannotBranch(f"its blocks are given {name}, which depends on the token")
    return value


def positions_of_call(args: Any, kwargs: Any) -> Tensor:
    """Absolute positions of the tokens of one call of the decoder, shape (rows or 1, tokens)."""
    if kwargs.get("position_ids") is not None:
        return kwargs["position_ids"]
    tokens = kwargs.get("input_ids", args[0] if args else None)
    tokens = kwargs["inputs_embeds"] if tokens is None else tokens
    cache = kwargs.get("past_key_values")
    seen = 0 if cache is None else cache.get_seq_length()
    return torch.arange(seen, seen + tokens.shape[1], device=tokens.device)[None]


def allowed_square(mask: Tensor) -> Tensor:
    """A block's own attention mask for one sequence as bool, shape (queries, keys)."""
    square = mask[0, 0]
    return (square if square.dtype == torch.bool else square == 0).cpu()


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


def find_blocks(decoder: nn.Module, count: int, architecture: str) -> list[nn.Module]:
    """The decoder's list of blocks.

    Raises:
        UserError: it has no list of that length, so the architecture cannot be steered.
    """
    for child in decoder.children():
        if isinstance(child, nn.ModuleList) and len(child) == count:
            return list(child)
    raise UserError(
        f"architecture {architecture!r} cannot be steered: no list of {count} decoder blocks in it"
    )
