"""What a residual stream says: logit lens, its change under steering, projections on a vector.

The logit lens (nostalgebraist, 2020) reads any vector of the residual stream as if it came out
of the last block: final norm, unembedding, the family's scaling of logits, softmax. The part of
one block (what its attention or its MLP adds) is read the same way. The final norm brings every
vector to one length, so a part is read at full strength however little it adds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from llama_wrapper import LlamaWrapper
from utils.blocks.block_io import device_of
from utils.blocks.vocabulary import head_in_float32
from utils.errors import UserError
from utils.lens.block_parts import PARTS, Anatomy, check_run, take_apart
from utils.steering.self_check import difference


@dataclass(frozen=True)
class Change:
    """One token's probability without and with steering."""

    token: int
    before: float
    after: float

    @property
    def difference(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Lens:
    """The logit lens at one position of one prompt.

    Attributes:
        probabilities: shape (layers, parts, vocabulary), float32 on CPU; the parts are those of
            :data:`utils.lens.block_parts.PARTS`, in that order.
    """

    probabilities: Tensor

    def at(self, layer: int, part: str) -> Tensor:
        """Probabilities of one layer's part, shape (vocabulary,).

        Raises:
            UserError: no such layer or part.
        """
        layers = self.probabilities.shape[0]
        if not 0 <= layer < layers:
            raise UserError(f"layer {layer}: this lens has layers 0 to {layers - 1}")
        if part not in PARTS:
            raise UserError(f"part {part!r}: the parts of a block are {', '.join(PARTS)}")
        return self.probabilities[layer, PARTS.index(part)]

    def top(self, layer: int, part: str, count: int) -> list[tuple[int, float]]:
        """The most probable tokens, as (token id, probability), most probable first."""
        found = self.at(layer, part).topk(count)
        return list(zip(found.indices.tolist(), found.values.tolist(), strict=True))


def lens_logits(wrapper: LlamaWrapper, states: Tensor) -> Tensor:
    """Read vectors of the residual stream as logits.

    Args:
        wrapper: the model.
        states: shape (..., width).

    Returns:
        Shape (..., vocabulary). Of the last block's output these are the model's own logits.

    Raises:
        UserError: another width, or no final norm or unembedding can be found.
    """
    if states.shape[-1] != wrapper.width:
        raise UserError(f"states of width {states.shape[-1]}; the model has {wrapper.width}")
    norm, unembedding = _final_norm(wrapper), wrapper.model.get_output_embeddings()
    if unembedding is None:
        raise UserError(f"architecture {wrapper.architecture!r} has no unembedding")
    with torch.inference_mode(), head_in_float32(unembedding):
        # The unembedding lies where the last block does, also if a model is spread over devices.
        states = states.to(device=device_of(unembedding), dtype=wrapper.dtype)
        return _scaled(wrapper, unembedding(norm(states)))


def read_lens(
    wrapper: LlamaWrapper,
    ids: Sequence[int],
    *,
    position: int = -1,
    deltas: Mapping[int, Tensor] | None = None,
    from_position: int = 0,
) -> Lens:
    """The logit lens of every block's four parts at one token.

    Args:
        wrapper: the model.
        ids: the prompt.
        position: the token; negative ones count from the end.
        deltas: layer -> what is added to that block's output (multiplier applied), (width,).
        from_position: first steered token.

    Raises:
        UserError: as :func:`utils.lens.block_parts.take_apart`; a position outside the prompt; a
            model whose own logits are not those of the lens of its last block.
    """
    if ids and not -len(ids) <= position < len(ids):
        raise UserError(f"position {position}: the prompt has {len(ids)} tokens")
    anatomy = take_apart(wrapper, ids, deltas, from_position)
    _check_last(wrapper, anatomy)
    # Layer by layer: in half precision and with 128 000 words all at once would be gigabytes.
    layers = []
    for block in anatomy.blocks:
        states = torch.stack([getattr(block, part)[position] for part in PARTS])
        layers.append(lens_logits(wrapper, states).float().softmax(-1).cpu())
    return Lens(torch.stack(layers))


def largest_changes(
    before: Lens, after: Lens, layer: int, part: str, count: int, *, least: float = 1e-3
) -> tuple[list[Change], list[Change]]:
    """The tokens whose probability rises most and those whose falls most.

    Args:
        before, after: lenses of one model at one token, without and with steering.
        layer, part: what to compare.
        count: most tokens of each.
        least: smallest change of a probability that counts.

    Returns:
        Rising and falling, largest change first.

    Raises:
        UserError: no such layer or part, or lenses of two models.
    """
    old, new = before.at(layer, part), after.at(layer, part)
    if old.shape != new.shape:
        raise UserError("the two lenses are of models with different vocabularies")
    difference = new.double() - old.double()
    found = []
    for sign in (1, -1):
        tokens = (sign * difference).topk(count).indices.tolist()
        changes = [Change(t, float(old[t]), float(new[t])) for t in tokens]
        found.append([c for c in changes if sign * c.difference >= least])
    return found[0], found[1]


def projections(
    wrapper: LlamaWrapper,
    ids: Sequence[int],
    vector: Tensor,
    layer: int,
    *,
    cosine: bool = False,
    deltas: Mapping[int, Tensor] | None = None,
    from_position: int = 0,
) -> Tensor:
    """The residual stream after one layer, projected on a vector, at every token.

    Args:
        wrapper: the model.
        ids: token ids.
        vector: shape (width,).
        layer: the block whose output is read.
        cosine: cosine of the angle (-1 to 1) instead of the dot product (in the units of the
            residual stream times those of the vector).
        deltas: steering while the stream is read: layer -> what is added there, (width,).
        from_position: first steered token.

    Returns:
        Shape (tokens,), float64.

    Raises:
        UserError: no tokens; a layer or width that the model does not have; a vector of zeros.
    """
    deltas = {} if deltas is None else dict(deltas)
    check_run(wrapper, ids, deltas)
    check_run(wrapper, ids, {layer: vector})
    vector = vector.double().cpu()
    if not bool(vector.any()):
        raise UserError("the vector is zero: nothing can be projected on it")
    with wrapper.steer(deltas, from_position), wrapper.record([layer]) as kept:
        wrapper.run_until(layer, input_ids=torch.tensor([list(ids)], device=wrapper.device))
    stream = kept[layer][0].cpu().double()
    found = stream @ vector
    return found / (stream.norm(dim=-1) * vector.norm()) if cosine else found


def from_mean(values: Tensor) -> Tensor:
    """Numbers of tokens less their mean, to see one token against the others.

    Residual streams share a large common direction, so that all tokens may project to one side.

    Args:
        values: shape (tokens,). The first token does not count in the mean: many models keep a
            residual stream a hundred times longer than any other there (an attention sink).
    """
    return values - (values[1:] if len(values) > 1 else values).mean()


def letter_spellings(
    tokenizer: PreTrainedTokenizerBase, letters: Mapping[str, int]
) -> dict[str, list[int]]:
    """All tokens that spell an answer letter, with and without a space or a bracket before it.

    After ``(`` the letter comes without a space, but before the last blocks many models still
    think of it as a word, with one. Where a tokenizer has ``(A`` in one token that is what is
    read, but the model may also think of the letter alone.

    Args:
        tokenizer: the model's.
        letters: letter -> its token in the prompt (:class:`utils.prompts.format.LetterPrompt`).
    """
    words = tokenizer.get_vocab()
    return {
        letter: sorted({token, *(words[word] for word in _spelt(letter) if word in words)})
        for letter, token in letters.items()
    }


def _spelt(letter: str) -> tuple[str, ...]:
    # How byte-level tokenizers and SentencePiece write a space.
    spaces = ("", "\u0120", "\u2581")
    return tuple(f"{space}{bracket}{letter}" for space in spaces for bracket in ("", "("))


def _final_norm(wrapper: LlamaWrapper) -> nn.Module:
    """The norm between the last block and the unembedding; :func:`read_lens` checks it."""
    found = [
        module
        for name, module in wrapper.decoder.named_children()
        if ("norm" in name or name.startswith("ln_")) and "emb" not in name
    ]
    if not found:
        raise UserError(f"architecture {wrapper.architecture!r} has no final norm to read through")
    return found[-1]


def _scaled(wrapper: LlamaWrapper, logits: Tensor) -> Tensor:
    """What some families do to logits after the unembedding, in the order in which they do it."""
    config = wrapper.model.config.get_text_config()
    if getattr(config, "logit_scale", None) is not None:  # Cohere
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None) is not None:  # Granite
        logits = logits / config.logits_scaling
    if getattr(config, "final_logit_softcapping", None) is not None:  # Gemma 2
        cap = config.final_logit_softcapping
        logits = torch.tanh(logits / cap) * cap
    return logits


def _check_last(wrapper: LlamaWrapper, anatomy: Anatomy) -> None:
    found = lens_logits(wrapper, anatomy.blocks[-1].output[-1])
    if difference(wrapper, found, anatomy.logits) is not None:
        raise UserError(
            f"architecture {wrapper.architecture!r}: final norm and unembedding of the last block "
            "are not the model's own logits, so its logit lens cannot be computed"
        )
