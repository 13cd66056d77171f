"""What a block's attention and its MLP add to the residual stream, across architectures.

Families differ in what stands between a submodule and the residual stream: nothing (Llama),
a norm (Gemma 2), a factor (Granite); and in whether the MLP reads the stream before or after
attention (GPT-NeoX). So no family is listed here. The possible contributions are tried, and
those are taken with which, at every token and in every dimension,

    block input + attention's contribution + MLP's contribution = block output

up to the rounding of the model's dtype. Where none fits, the architecture is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.errors import UserError

PARTS = ("attention", "after_attention", "mlp", "output")
_ATTENTION, _MLP = ("attn", "attention"), ("mlp", "feed_forward", "feedforward", "moe", "ffn")
_NO_PART = ("norm", "dropout", "ln_")
# Each of the up to four roundings of a sum and a scaling is half an eps of what is rounded.
_ROUNDINGS = 2.0

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class BlockParts:
    """One block, all tensors of shape (tokens, width).

    Attributes:
        attention: what attention adds to the residual stream.
        after_attention: block input + ``attention``. Where attention and MLP both read the
            block's input (GPT-NeoX, Cohere), the model itself never has this sum.
        mlp: what the MLP (or the mixture of experts) adds.
        output: the residual stream after the block, steering contained.
    """

    attention: Tensor
    after_attention: Tensor
    mlp: Tensor
    output: Tensor


@dataclass(frozen=True)
class Anatomy:
    """One forward pass in its parts.

    Attributes:
        entry: input of the first block, shape (tokens, width).
        blocks: every block's parts.
        logits: the model's own, at the last token, shape (vocabulary,).
    """

    entry: Tensor
    blocks: tuple[BlockParts, ...]
    logits: Tensor


def take_apart(
    wrapper: LlamaWrapper,
    ids: Sequence[int],
    deltas: Mapping[int, Tensor] | None = None,
    from_position: int = 0,
) -> Anatomy:
    """One forward pass over one prompt, taken apart into the blocks' contributions.

    Steering is given here, not begun outside: otherwise what it adds could not be told from
    what the block adds.

    Args:
        wrapper: the model.
        ids: token ids.
        deltas: layer -> what is added to that block's output (multiplier applied), (width,).
        from_position: first steered token.

    Raises:
        UserError: no tokens; a layer or a width that the model does not have; an architecture
            whose blocks are not the sum of their parts.
    """
    deltas = {} if deltas is None else dict(deltas)
    check_run(wrapper, ids, deltas)
    children = {
        (layer, name): child
        for layer, block in enumerate(wrapper.blocks)
        for name, child in block.named_children()
        if any(word in name for word in _ATTENTION + _MLP)
    }
    before = dict(wrapper.decoder.named_children())
    with (
        # Hooks run in the order in which they were registered: this one sees a block's output
        # before it is steered, the one of record() after.
        wrapper.observe(dict(enumerate(wrapper.blocks))) as unsteered,
        wrapper.steer(deltas, from_position),
        wrapper.record(range(wrapper.n_layers)) as outputs,
        wrapper.observe(children) as inside,
        wrapper.observe(before) as entries,
    ):
        logits = wrapper.next_logits(ids)
    contributions = [
        {name: inside[layer, name] for name, _ in block.named_children() if (layer, name) in inside}
        for layer, block in enumerate(wrapper.blocks)
    ]
    entry = _entry(wrapper, entries, contributions[0], unsteered[0])
    parts, stream = [], entry
    for layer in range(wrapper.n_layers):
        added = _added(wrapper, layer, contributions[layer], stream, unsteered[layer])
        if added is None:
            raise _cannot(wrapper, layer)
        after = stream.to(added[0].device) + added[0]
        parts.append(BlockParts(*(x[0] for x in (added[0], after, added[1], outputs[layer]))))
        stream = outputs[layer]
    return Anatomy(entry[0], tuple(parts), logits)


def check_run(wrapper: LlamaWrapper, ids: Sequence[int], deltas: Mapping[int, Tensor]) -> None:
    """Check tokens, layers and widths before anything runs.

    Raises:
        UserError: saying what was found and what was expected.
    """
    if not ids:
        raise UserError("no tokens: give a text that is not empty")
    wrapper.check_steering(deltas)


def _entry(wrapper: LlamaWrapper, entries: Outputs, inside: Outputs, output: Tensor) -> Tensor:
    """The input of block 0: an embedding, or the last thing done to it, that fits block 0."""
    config = wrapper.model.config.get_text_config()
    scale = float(getattr(config, "embedding_multiplier", 1.0))
    for x in entries.values():
        if not isinstance(x, Tensor) or x.shape != output.shape:
            continue
        candidate = x if scale == 1.0 else x * scale
        if _added(wrapper, 0, inside, candidate, output) is not None:
            return candidate
    raise _cannot(wrapper, 0)


def _added(
    wrapper: LlamaWrapper, layer: int, inside: Outputs, stream: Tensor, output: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Contributions of attention and MLP that make up the block, or ``None``."""
    scale = float(getattr(wrapper.blocks[layer], "residual_multiplier", 1.0))
    attention = _candidates(inside, _ATTENTION, scale, output)
    mlp = _candidates(inside, _MLP, scale, output)
    return next((p for p in product(attention, mlp) if _adds_up(stream, *p, output)), None)


def _candidates(
    inside: Outputs, words: Sequence[str], scale: float, like: Tensor
) -> Iterator[Tensor]:
    """What the submodule named by ``words`` may add: its output, or that of a norm after it."""
    own = [n for n in inside if any(w in n for w in words)]
    modules = [n for n in own if not any(w in n for w in _NO_PART)]
    # A sum of attention and MLP is the same with the two exchanged, so a norm must bear the
    # name of the part that it follows.
    norms = [n for n in own if n.startswith("post") and "norm" in n]
    # With two kinds of attention or MLP in one block it would be open which is meant.
    for name in [*modules, *norms] if len(modules) == 1 else []:
        value = inside[name]
        if isinstance(value, Tensor) and value.numel() == like.numel():
            value = value.reshape(like.shape)
            yield value if scale == 1.0 else value * scale


def _adds_up(stream: Tensor, attention: Tensor, mlp: Tensor, output: Tensor) -> bool:
    """Whether input and contributions sum to the output, element by element, up to rounding."""
    # On the CPU, because not every accelerator has float64.
    x, a, m, y = (t.cpu().double() for t in (stream, attention, mlp, output))
    info = torch.finfo(output.dtype)
    allowed = (x.abs() + a.abs() + m.abs()) * (_ROUNDINGS * info.eps) + info.smallest_normal
    # Infinities and NaN compare as false: a model that overflows is refused, not explained.
    return bool(((x + a + m - y).abs() <= allowed).all())


def _cannot(wrapper: LlamaWrapper, layer: int) -> UserError:
    names = ", ".join(name for name, _ in wrapper.blocks[layer].named_children())
    return UserError(
        f"architecture {wrapper.architecture!r}: block {layer} (made of {names}) is not its input "
        "plus what its attention and its MLP add, so it cannot be taken apart"
    )
