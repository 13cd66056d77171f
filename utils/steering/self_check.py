"""The choice between the fast way and the slow way that it must equal.

A run compares the two on its longest and its shortest prompt, computed together, before it trusts
the fast one; where they agreed it is remembered for this model, machine and length of prompts
(:mod:`utils.steering.check_notes`), so that the runs of a loop do not compare them again. So an
architecture whose attention does not fit is caught here and computed slowly, with a warning, never
with other numbers.

In 16 bits two right ways differ, and by how much depends on the model. There the measure is the
model's own rounding: the slow way once more, on the same prompts as rows of one batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.block_io import CannotBranch, keeps_state
from utils.errors import UserError
from utils.steering.check_notes import Passed, SelfTest, keep_passed, recall_passed
from utils.steering.check_notes import Rounding as Rounding

# Largest deviation of numbers, in units of their standard deviation, that rounding explains.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
# In 16 bits: so many times what the slow way itself moves by in a batch, and never more than the
# last. A batch may move nothing at all on some machines: then what rounding a vector twice a block
# adds up to, but no more than the second. It is the root mean square over one vector that counts:
# the largest of thousands of numbers varies too much.
NOISE_TIMES = 3.0
HALF_ROUNDING, HALF_LEAST, HALF_MOST = 2**-7, 0.03, 0.15
# Batches in which the slow way is repeated: tokens of padding before the longest prompt, since
# another length adds the same numbers up in another order; and rows for each prompt.
PADDINGS, COPIES = (0, 1, 7, 24), 2
# What an attention that was not made for packed branches raises on the test prompts.
MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
RECURRENT = "some of its blocks are recurrent and keep no keys and values"
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ways(Generic[Prepared]):
    """The numbers of the test prompts, each way; each tensor is measured by its own deviation.

    Attributes:
        test: which comparison it is.
        slow: one plain forward pass a cell; called first. Tensors of shape (..., numbers).
        prepare: what the fast way needs.
        fast: the same tensors, by what was prepared.
        batched: the slow way as rows of batches, (versions, *shape) of each tensor; called for
            16-bit models only.
    """

    test: SelfTest
    slow: Callable[[], Sequence[Tensor]]
    prepare: Callable[[], Prepared]
    fast: Callable[[Prepared], Sequence[Tensor]]
    batched: Callable[[], Sequence[Tensor]]


def probe_batches(lengths: Sequence[int], groups: Sequence[Hashable]) -> list[list[int]]:
    """The longest and the shortest prompt, each with what differs most of all it may run with.

    Args:
        lengths: tokens of each prompt.
        groups: prompts of unlike groups are never computed together.

    Returns:
        Prompts to be computed together: one list, or two where the two ends are of two groups.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    found: dict[Hashable, list[int]] = {}
    for end in (order[0], order[-1]):
        members = [i for i in order if groups[i] == groups[end]]
        found[groups[end]] = list(dict.fromkeys([members[0], members[-1]]))
    return list(found.values())


def checked(wrapper: LlamaWrapper, ways: Ways[Prepared]) -> tuple[Prepared | None, Rounding | None]:
    """The fast way, if on the test prompts it gives the slow way's numbers; else a warning.

    Args:
        wrapper: the model.
        ways: how to compute the test prompts.

    Returns:
        What was prepared; ``None``, after exactly one warning, for the slow way. And for a 16-bit
        model how far rounding alone moves its numbers, if that could be measured.

    Raises:
        UserError: out of memory.
    """
    exact = exact_tolerance(wrapper) is not None
    passed = recall_passed(wrapper, ways.test)
    try:
        if passed is not None:
            return _tried(ways.prepare), passed.rounding
        expected = ways.slow()
        prepared = _tried(ways.prepare)
        found = _tried(lambda: ways.fast(prepared))
        batched = None if exact else _tried(ways.batched)
    except torch.OutOfMemoryError as error:
        raise UserError("out of memory; lower --batch_tokens") from error
    except _MisfitError as error:
        _warn_slow(wrapper, str(error))
        return None, None
    noises, rounding = [0.0] * len(expected), None
    if batched is not None:
        noises = [_typical(b, e) for b, e in zip(batched, expected, strict=True)]
        ours = [_typical(f, e) for f, e in zip(found, expected, strict=True)]
        moved = [_largest(b, e) for b, e in zip(batched, expected, strict=True)]
        dtype = str(wrapper.dtype).removeprefix("torch.")
        rounding = Rounding(dtype, max(noises), max(ours), max(moved))
    for fast, slow, noise in zip(found, expected, noises, strict=True):
        how = difference(wrapper, fast, slow, noise)
        if how is not None:
            _warn_slow(wrapper, f"packed and plain passes differ {how} on the test prompts")
            return None, rounding
    keep_passed(wrapper, ways.test, Passed(rounding))
    return prepared, rounding


class _MisfitError(Exception):
    """A way of computing does not fit this architecture; never leaves this module."""


def _tried(way: Callable[[], Result]) -> Result:
    try:
        return way()
    except torch.OutOfMemoryError:
        raise
    except (CannotBranch, *MISFITS) as error:
        # an assertion may have no message
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise _MisfitError(said) from error


def exact_tolerance(wrapper: LlamaWrapper) -> float | None:
    """Largest deviation that rounding explains; ``None`` where the model's own noise decides."""
    # 4-bit layers compute in fewer bits than the residual stream between them has. 8-bit ones
    # round their inputs to 8 bits: what a batch changes is as large as what they round away, so
    # there the strict measure stands, and with it the slow way.
    if getattr(wrapper.model, "is_loaded_in_4bit", False):
        return None
    return TOLERANCE.get(wrapper.dtype)


def half_tolerance(blocks: int, noise: float) -> float:
    """Largest typical deviation that rounding explains in 16 bits, in standard deviations.

    Args:
        blocks: of the model.
        noise: what the slow way's numbers move by in a batch, in the same unit.
    """
    least = min(HALF_LEAST, HALF_ROUNDING * math.sqrt(2 * blocks))
    return min(HALF_MOST, max(least, NOISE_TIMES * noise))


def _largest(found: Tensor, expected: Tensor) -> float:
    """The largest deviation, where numbers are finite."""
    return float((found.cpu().double() - expected.cpu().double()).nan_to_num(0, 0, 0).abs().max())


def _typical(found: Tensor, expected: Tensor) -> float:
    """Root mean square deviation of one vector in its standard deviations; of the worst one."""
    found, expected = found.cpu().double(), expected.cpu().double()
    moved = (found - expected).nan_to_num(0, 0, 0).square().mean(dim=-1).sqrt()
    # zero where nothing moved, whatever the scale
    return float((moved / expected.nan_to_num(0, 0, 0).std(dim=-1).clamp(min=1e-300)).max())


def difference(wrapper: LlamaWrapper, fast: Tensor, slow: Tensor, noise: float = 0.0) -> str | None:
    """By how much the fast way's numbers are not the slow way's; ``None`` if by rounding only.

    Numbers that are infinite or NaN both ways are equal: a model that breaks under this
    steering breaks either way.

    Args:
        wrapper: the model.
        fast, slow: the same numbers both ways.
        noise: what the slow way's numbers move by in a batch, in their standard deviations.
    """
    fast, slow = fast.cpu().double(), slow.cpu().double()
    finite = slow.isfinite()
    if not torch.equal(finite, fast.isfinite()):
        return "in which numbers are finite"
    if torch.equal(fast[finite], slow[finite]):
        return None
    tolerance = exact_tolerance(wrapper)
    if tolerance is None:
        tolerance = half_tolerance(wrapper.n_layers, noise)
        found = _typical(fast, slow)
    else:
        found = _largest(fast, slow) / float(slow[finite].std())
    return None if found <= tolerance else f"by {found:.1e} (rounding explains {tolerance:.1e})"


def _warn_slow(wrapper: LlamaWrapper, reason: str) -> None:
    """Say that the slow way is taken, and why."""
    if keeps_state(wrapper.model.config):
        reason = RECURRENT  # whatever broke on it first
    warnings.warn(
        f"{wrapper.architecture}: {reason}; computing one forward pass a cell (slow, same numbers)",
        stacklevel=5,
    )
