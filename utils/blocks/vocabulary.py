"""The projection of the rows that are read onto the vocabulary, and probabilities read there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TypeGuard

import torch
from torch import Tensor, nn

# One MB of weights stays in a core's own cache while all rows are multiplied by it.
_PART = 2**18
_HALF = (torch.bfloat16, torch.float16)


@contextlib.contextmanager
def head_in_float32(head: nn.Module | None) -> Iterator[None]:
    """Inside the ``with`` block a plain linear layer of a 16-bit model puts out float32.

    What goes in and the weights are what they are; their products are summed up in float32 and
    stay so. Rounded to bfloat16, logits near 20 are 1/8 apart: two letters or two tokens tie, and
    a probability moves by 6 % of itself or not at all. Other layers are left as they are.

    Args:
        head: the model's output embedding; its forward pass is exchanged, so that hooks on it
            still run, accelerate's too. No gradients inside.
    """
    if _is_plain(head) and head.weight.dtype in _HALF:
        with _exchanged(head, _in_float32):
            yield
    else:
        yield


@contextlib.contextmanager
def head_in_parts(head: nn.Module | None) -> Iterator[None]:
    """Inside the ``with`` block a plain linear layer multiplies its weights part by part.

    One product of 100 rows with 49 152 rows of weights takes 1.1 to 1.4 times as long as the
    same sums in parts. Whatever is more than a plain float32 layer on a CPU (quantised,
    offloaded, adapted) is left as it is.

    Args:
        head: as of :func:`head_in_float32`.
    """
    if _is_plain(head) and "forward" not in vars(head) and _is_float32_on_cpu(head.weight):
        with _exchanged(head, _in_parts):
            yield
    else:
        yield


def letter_probabilities(logits: Tensor, letters: Sequence[int]) -> Tensor:
    """Softmax over the whole vocabulary, read at the letters; float64, (..., letters)."""
    flat = logits.flatten(0, -2) if logits.ndim > 1 else logits[None]
    chosen = flat[:, list(letters)].double()
    # A few rows at a time stay in the cache; all at once would be read from memory four times.
    totals = [torch.logsumexp(rows.float(), dim=-1) for rows in flat.split(8)]
    found = (chosen - torch.cat(totals).double()[:, None]).exp()
    return found.reshape(*logits.shape[:-1], len(letters)).cpu()


def kl_divergence(base: Tensor, other: Tensor) -> Tensor:
    """KL(base || other) of the next token, in nats; float64, (...).

    sum over tokens v of p(v) (log p(v) - log q(v)), log-softmax in float32, never below 0.

    Args:
        base: logits that give p, shape (..., vocabulary).
        other: logits that give q, of a shape that ``base`` can be broadcast to.
    """
    shape = other.shape
    base, other = base.expand(shape).flatten(0, -2), other.flatten(0, -2)
    found = []
    # a few rows at a time, see letter_probabilities
    for rows, others in zip(base.split(8), other.split(8), strict=True):
        p, q = rows.float().log_softmax(dim=-1), others.float().log_softmax(dim=-1)
        terms = (p.exp() * (p - q)).masked_fill(p == -torch.inf, 0)
        found.append(terms.double().sum(dim=-1).clamp(min=0))
    return torch.cat(found).reshape(shape[:-1])


def _is_float32_on_cpu(weight: Tensor) -> bool:
    return (weight.device.type, weight.dtype) == ("cpu", torch.float32)


def _is_plain(head: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Whether it is a linear layer and nothing more (quantised, adapted)."""
    return type(head) is nn.Linear


@contextlib.contextmanager
def _exchanged(head: nn.Linear, forward: Callable[[nn.Linear, Tensor], Tensor]) -> Iterator[None]:
    # accelerate has put itself in the place of ``forward`` and calls what was there before
    name = "_old_forward" if hasattr(head, "_hf_hook") else "forward"
    before = vars(head).get(name)
    if name == "forward" and before is not None:  # somebody else's: left alone
        yield
        return
    vars(head)[name] = partial(forward, head)
    try:
        yield
    finally:
        if before is None:
            del vars(head)[name]
        else:
            vars(head)[name] = before


def _in_float32(head: nn.Linear, hidden: Tensor) -> Tensor:
    if not _puts_out_float32(hidden.device, hidden.dtype):
        return _in_parts(head, hidden.float())
    rows = hidden.reshape(-1, head.in_features)
    found = torch.mm(rows, head.weight.T, out_dtype=torch.float32)
    if head.bias is not None:
        found += head.bias
    return found.reshape(*hidden.shape[:-1], head.out_features)


@cache
def _puts_out_float32(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device multiplies 16-bit numbers and keeps the sums as they are (CUDA does)."""
    one = torch.ones(16, 16, device=device, dtype=dtype)
    try:
        return torch.mm(one, one, out_dtype=torch.float32).dtype == torch.float32
    except (RuntimeError, TypeError):
        return False


def _in_parts(head: nn.Linear, hidden: Tensor) -> Tensor:
    rows = hidden.reshape(-1, head.in_features)
    found = rows.new_empty(len(rows), head.out_features)
    size = max(16, _PART // head.in_features)
    for start in range(0, head.out_features, size):
        part = slice(start, start + size)
        weights = head.weight[part].to(rows.dtype)
        if head.bias is None:
            torch.mm(rows, weights.T, out=found[:, part])
        else:
            torch.addmm(head.bias[part].to(rows.dtype), rows, weights.T, out=found[:, part])
    return found.reshape(*hidden.shape[:-1], head.out_features)
