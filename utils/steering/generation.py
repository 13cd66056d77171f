"""Greedy decoding of a batch of prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import head_in_float32
from utils.prompts.end_tokens import EndTokens


def generate(
    wrapper: LlamaWrapper,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    use_cache: bool = True,
) -> list[list[int]]:
    """Greedy continuations, under whatever steering is begun outside.

    Args:
        wrapper: the model.
        prompts: token ids; left-padded here.
        max_new_tokens: most tokens of a continuation.
        use_cache: keep keys and values between steps (the same tokens, faster).

    Returns:
        The new tokens of each prompt, up to and including the first end token.
    """
    tokenizer, model = wrapper.tokenizer, wrapper.model
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    ends = end_tokens(wrapper)
    with torch.inference_mode(), head_in_float32(model.get_output_embeddings()):
        output = model.generate(
            ids.to(wrapper.device),
            attention_mask=mask.to(wrapper.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=use_cache,
            pad_token_id=pad,
            eos_token_id=sorted(ends) or None,
        )
    return [_up_to_end(row, ends) for row in output[:, longest:].tolist()]


def end_tokens(wrapper: LlamaWrapper) -> set[int]:
    """The tokens at which the model's answers end."""
    config = wrapper.model.generation_config
    return set(EndTokens.of(wrapper.tokenizer, config, base=wrapper.base).places)


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens
