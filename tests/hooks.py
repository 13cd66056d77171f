"""What a model's blocks put out by its library's own means, and the hooks left on it."""

from __future__ import annotations

import torch

from llama_wrapper import LlamaWrapper


def hidden_states(wrapper: LlamaWrapper, ids: list[int]) -> list[torch.Tensor]:
    """Block outputs by transformers' own means; the last is before the final norm."""
    before_norm = []
    norm = [m for m in wrapper.decoder.children() if "norm" in type(m).__name__.lower()][-1]
    handle = norm.register_forward_pre_hook(lambda _m, args: before_norm.append(args[0]))
    with torch.inference_mode():
        out = wrapper.model(torch.tensor([ids]), output_hidden_states=True)
    handle.remove()
    found = [*out.hidden_states[1:-1], before_norm[0]]
    assert len(found) == wrapper.n_layers
    return found


def steer_vector(wrapper: LlamaWrapper, seed: int = 0) -> torch.Tensor:
    return torch.randn(wrapper.width, generator=torch.Generator().manual_seed(seed))


def count_hooks(wrapper: LlamaWrapper) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in wrapper.model.modules())
