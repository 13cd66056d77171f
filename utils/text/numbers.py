"""Numbers as people read them, with a true minus, and as files hold them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # numpy comes with it, and --help does without
    from utils.stats import Estimate

_DASH = "\N{EN DASH}"


def true_minus(text: str) -> str:
    """A text of numbers, each hyphen a minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def formatted(value: float, spec: str) -> str:
    """A number as a format specification has it; one that rounds to zero has no sign."""
    text = format(value, spec)
    return text if float(text) else text.lstrip("+-")


def signed(value: float, spec: str = "+g") -> str:
    """A multiplier, a dose or a change with its sign; 0 has none."""
    return true_minus(formatted(value, spec))


def rounded(value: float, digits: int = 2) -> str:
    """A number for people; a dash where undefined."""
    return _DASH if math.isnan(value) else true_minus(formatted(value, f".{digits}f"))


def six_digits(value: float) -> str:
    """A number of a figure's ``.txt``: six digits after the point; empty where undefined."""
    return "" if math.isnan(value) else formatted(value, ".6f")


def with_interval(e: Estimate, spec: str) -> str:
    """A mean and, where there is one, its 95 % interval, with hyphens for minus signs."""
    mean, low, high = (formatted(value, spec) for value in (e.mean, e.low, e.high))
    return f"{mean} [{low}, {high}]" if e.has_interval else mean
