"""The choice between the fast way and the slow way that it must equal.

Every run compares the two on its longest and its shortest prompt, computed together, before it
trusts the fast one. So an architecture whose attention does not fit is caught here and computed
slowly, with a warning, never with other numbers.

In 16 bits two right ways differ, and by how much depends on the model. There the measure is the
model's own rounding: the slow way once more, on the same prompts as rows of one batch.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from utils.block_io import CannotBranch, keeps_state
from utils.errors import UserError

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper

# Largest deviation of numbers, in units of their standard deviation, that rounding explains.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
# In 16 bits: so many times what the slow way itself moves by in a batch, within these bounds.
NOISE_TIMES = 3.0
HALF_LEAST, HALF_MOST = 0.05, 0.5
# Rows that each test prompt gets in the batch of the slow way.
COPIES = 4
# What an attention that was not made for packed branches raises on the test prompts.
MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
RECURRENT = "some of its blocks are recurrent and keep no keys and values"
Prepared = TypeVar("Prepared")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Rounding:
    """How far a 16-bit model's numbers on the test prompts move by nothing but rounding.

    Attributes:
        dtype: of the model.
        noise: the slow way in a batch against the slow way alone, in standard deviations.
        found: the fast way against the slow way alone, the same.
        absolute: the first in the unit of the numbers (for logits: natural logarithms of odds).
    """

    dtype: str
    noise: float
    found: float
    absolute: float

    def __str__(self) -> str:
        return (
            f"rounding in {self.dtype}: one forward pass a cell moves by {self.noise:.2g} standard "
            f"deviations when it is a row of a batch; this run's way is within {self.found:.2g}"
        )


@dataclass(frozen=True)
class Ways(Generic[Prepared]):
    """The numbers of the test prompts, each way; each tensor is measured by its own deviation.

    Attributes:
        slow: one plain forward pass a cell; called first.
        fast: prepares the fast way; returns that, and the numbers.
        batched: the slow way on many rows at once: of each tensor several versions, in front.
    """

    slow: Callable[[], Sequence[Tensor]]
    fast: Callable[[], tuple[Prepared, Sequence[Tensor]]]
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


def checked(
    wrapper: "LlamaWrapper", ways: Ways[Prepared]
) -> tuple[Prepared | None, Rounding | None]:
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
    rounding = None
    try:
        expected = ways.slow()
        prepared, found = _tried(ways.fast)
        noisy = [] if exact_tolerance(wrapper) is not None else _tried(ways.batched)
    except torch.OutOfMemoryError as error:
        raise UserError("out of memory; lower --batch_tokens") from error
    except _MisfitError as error:
        _warn_slow(wrapper, str(error))
        return None, None
    noises = [deviation(b, e) for b, e in zip(noisy, expected, strict=True)] if noisy else []
    if noises:
        rounding = _rounding(wrapper, noises, found, noisy, expected)
    for i, (ours, slow) in enumerate(zip(found, expected, strict=True)):
        how = difference(wrapper, ours, slow, noises[i] if noises else 0.0)
        if how is not None:
            _warn_slow(wrapper, f"packed and plain passes differ {how} on the test prompts")
            return None, rounding
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


def _rounding(
    wrapper: "LlamaWrapper",
    noises: Sequence[float],
    found: Sequence[Tensor],
    noisy: Sequence[Tensor],
    expected: Sequence[Tensor],
) -> Rounding:
    moved = [
        float((b.double() - e.double()).abs().nan_to_num(0, 0, 0).max())
        for b, e in zip(noisy, expected, strict=True)
    ]
    ours = [deviation(f, e) for f, e in zip(found, expected, strict=True)]
    dtype = str(wrapper.dtype).removeprefix("torch.")
    return Rounding(dtype, max(noises), max(ours), max(moved))


def exact_tolerance(wrapper: "LlamaWrapper") -> float | None:
    """Largest deviation that rounding explains; ``None`` where the model's own noise decides."""
    # 4-bit layers compute in fewer bits than the residual stream between them has. 8-bit ones
    # round their inputs to 8 bits: what a batch changes is as large as what they round away, so
    # there the strict measure stands, and with it the slow way.
    if getattr(wrapper.model, "is_loaded_in_4bit", False):
        return None
    return TOLERANCE.get(wrapper.dtype)


def deviation(found: Tensor, expected: Tensor) -> float:
    """Largest deviation of numbers, in units of the standard deviation of those expected.

    Args:
        found: shape (..., *shape of those expected).
        expected: where it is not finite, nothing is compared.
    """
    found, expected = found.cpu().double(), expected.cpu().double()
    finite = expected.isfinite()
    found, expected = found[..., finite], expected[finite]
    if torch.equal(found, expected.expand_as(found)):
        return 0.0
    return float((found - expected).abs().max() / expected.std())


def difference(
    wrapper: "LlamaWrapper", fast: Tensor, slow: Tensor, noise: float = 0.0
) -> str | None:
    """By how much the fast way's numbers are not the slow way's; ``None`` if by rounding only.

    Numbers that are infinite or NaN both ways are equal: a model that breaks under this
    steering breaks either way.

    Args:
        wrapper: the model.
        fast, slow: the same numbers both ways.
        noise: what the slow way's numbers move by in a batch, in their standard deviations.
    """
    if not torch.equal(slow.cpu().isfinite(), fast.cpu().isfinite()):
        return "in which numbers are finite"
    tolerance = exact_tolerance(wrapper)
    if tolerance is None:
        tolerance = max(HALF_LEAST, min(HALF_MOST, NOISE_TIMES * noise))
    found = deviation(fast, slow)
    return None if found <= tolerance else f"by {found:.1e} (rounding explains {tolerance:.1e})"


def _warn_slow(wrapper: "LlamaWrapper", reason: str) -> None:
    """Say that the slow way is taken, and why."""
    if keeps_state(wrapper.model.config):
        reason = RECURRENT  # whatever broke on it first
    warnings.warn(
        f"{wrapper.architecture}: {reason}; computing one forward pass a cell (slow, same numbers)",
        stacklevel=5,
    )
