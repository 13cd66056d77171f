"""What a plain loop does for one cell: the way that the fast one is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.prompts.format import LetterPrompt
from utils.steering.one_pass import Steer


def all_logits(wrapper: LlamaWrapper, ids: Sequence[int]) -> Tensor:
    """One whole forward pass, all positions projected; the last one's logits, (vocabulary,)."""
    with torch.inference_mode():
        tokens = torch.tensor([ids], device=wrapper.device)
        return wrapper.model(tokens, use_cache=False).logits[0, -1]


def steered_logits(wrapper: LlamaWrapper, prompt: LetterPrompt, steer: Steer) -> Tensor:
    """The same for one (question, layer, multiplier)."""
    with wrapper.steer({steer.layer: steer.delta}, prompt.steer_from):
        return all_logits(wrapper, prompt.ids)
