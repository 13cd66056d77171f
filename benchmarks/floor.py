"""The arithmetic floor: the floating-point work that cannot be avoided, at the measured rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from llama_wrapper import LlamaWrapper


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    return statistics.median(seconds(work) for _ in range(repeats))


def linear_flops(module: nn.Module) -> int:
    """Multiply-adds (two FLOPs each) of one token through all linear layers of a module."""
    layers = (m for m in module.modules() if isinstance(m, nn.Linear))
    return sum(2 * layer.weight.numel() for layer in layers)


def matrix_rate(wrapper: LlamaWrapper, tokens: int = 256, repeats: int = 7) -> float:
    """fp32 FLOP/s of the model's own matrix multiplications at a good size."""
    weights = [m.weight for m in wrapper.blocks[0].modules() if isinstance(m, nn.Linear)]
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1]) for w in weights}

    def multiply() -> list[Tensor]:
        return [inputs[w.shape[1]] @ w.T for w in weights]

    with torch.inference_mode():
        multiply()
        flops = 2 * tokens * sum(w.numel() for w in weights)
        return flops / median_seconds(multiply, repeats)


def grid_flops(
    wrapper: LlamaWrapper, lengths: Sequence[int], prefix: int, tail: int, steers: Sequence[int]
) -> int:
    """Distinct (token, layer) pairs of a grid, times the FLOPs of one, and the vocabulary.

    Args:
        wrapper: the model.
        lengths: tokens of each prompt.
        prefix: tokens that all prompts begin with (counted once).
        tail: steered tokens of a prompt.
        steers: layer of each steered cell.
    """
    block = linear_flops(wrapper.blocks[0])
    prompts = (prefix + sum(n - prefix for n in lengths)) * wrapper.n_layers
    branches = len(lengths) * tail * sum(wrapper.n_layers - 1 - layer for layer in steers)
    rows = len(lengths) * (1 + len(steers))
    return (prompts + branches) * block + rows * linear_flops(wrapper.model.get_output_embeddings())


def pair_flops(wrapper: LlamaWrapper, lengths: Sequence[int], prefix: int, layers: int) -> int:
    """Distinct (token, layer) pairs of vector generation: both letters behind one prompt."""
    tokens = prefix + sum(n - prefix + 1 for n in lengths)
    return tokens * layers * linear_flops(wrapper.blocks[0])
