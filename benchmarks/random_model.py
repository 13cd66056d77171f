"""A Llama of any shape with random weights, made where it runs, with the numbers of a trained one.

Every block changes the residual stream, the answers' letters are what comes after a prompt, and a
steering vector moves them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from llama_wrapper import LlamaWrapper
from utils.prompts.format import LetterPrompt

VOCABULARY = 32000


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama; its vocabulary is always Llama 2's."""

    blocks: int
    width: int
    heads: int
    hidden: int


SHAPES = {
    "7b": Shape(32, 4096, 32, 11008),
    "small": Shape(12, 1024, 16, 2816),
    "tiny": Shape(4, 64, 4, 172),
}


def random_model(
    shape: Shape, tokenizer: Any, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> LlamaWrapper:
    """A model whose every matrix keeps the size of what it is given.

    Only what a block adds is halved: else rounding grows from block to block as it does in no
    trained model.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.blocks,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.hidden,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(std=1 / math.sqrt(module.in_features))
            elif isinstance(module, nn.Embedding):
                module.weight.normal_()
        for name, module in model.named_modules():
            if name.endswith(("o_proj", "down_proj")):
                module.weight.mul_(0.5)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return LlamaWrapper(model, tokenizer)


@torch.no_grad()
def favour_letters(wrapper: LlamaWrapper, prompts: Sequence[LetterPrompt]) -> None:
    """Let the letters be what follows these prompts, and their difference be large.

    Without this a random model gives each letter the probability of any other of 32000 tokens,
    and no deviation would show. The direction that the prompts' ends share is written into the
    letters' rows of the output matrix, so that the two together get about nine tenths; which of
    them gets more depends on the rest, on what is asked.
    """
    rows = [torch.tensor([p.ids], device=wrapper.device) for p in prompts]
    ends = [wrapper.decoder(row).last_hidden_state[0, -1].float() for row in rows]
    shared = torch.stack(ends).mean(0)
    head = wrapper.model.get_output_embeddings().weight
    logit = math.log(len(head)) + 2
    for letter in prompts[0].letters.values():
        row = 3 * head[letter].float()
        row += (logit - row.dot(shared)) * shared / shared.dot(shared)
        head[letter] = row.to(head)


def steering_vectors(
    wrapper: LlamaWrapper, prompt: LetterPrompt, dose: float, seed: int
) -> dict[int, Tensor]:
    """For every layer a random vector of ``dose`` times the residual stream's norm there.

    Returns:
        float32 on the CPU, shape (width,), as vectors are loaded from files.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = range(wrapper.n_layers)
    with wrapper.record(layers) as recorded:
        wrapper.next_logits(prompt.ids)
    norms = {n: float(recorded[n][0, -1].float().norm()) for n in layers}
    vectors = {n: torch.randn(wrapper.width, generator=generator) for n in layers}
    return {n: dose * norms[n] * v / v.norm() for n, v in vectors.items()}
