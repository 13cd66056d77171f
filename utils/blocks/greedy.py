"""Greedy decoding of a batch of prompts by the library's own ``generate``, within the context."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from utils.blocks.hooked_model import HookedModel
from utils.blocks.library_output import library_output
from utils.blocks.vocabulary import head_in_float32
from utils.errors import UserError


def greedy(
    model: HookedModel,
    prompts: Sequence[Sequence[int]],
    *,
    pad: int,
    ends: Collection[int],
    max_new_tokens: int,
    use_cache: bool = True,
) -> list[list[int]]:
    """Greedy continuations, under whatever steering is begun outside.

    Args:
        model: the model.
        prompts: token ids; left-padded here.
        pad: the token to pad with.
        ends: the tokens at which an answer ends.
        max_new_tokens: most tokens of a continuation.
        use_cache: keep keys and values between steps (the same tokens, faster).

    Returns:
        The new tokens of each prompt, up to and including the first end token.
    """
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    head = model.model.get_output_embeddings()
    with torch.inference_mode(), head_in_float32(head), library_output(bars=False):
        output = model.model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=use_cache,
            pad_token_id=pad,
            eos_token_id=sorted(ends) or None,
        )
    return [_up_to_end(row, ends) for row in output[:, longest:].tolist()]


def check_room(model: HookedModel, length: int, more: int) -> None:
    """Check that a prompt and the tokens that are to follow it fit into the model.

    Raises:
        UserError: with what fits.
    """
    context = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(context, int) and length + more > context:
        raise UserError(
            f"a prompt of {length} tokens and {more} new ones are beyond the {context} that the "
            f"model takes: max_new_tokens={max(0, context - length)} at most"
        )


def _up_to_end(tokens: list[int], ends: Collection[int]) -> list[int]:
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens
