"""Numbers as people read them, with a true minus, and as files hold them."""

from __future__ import annotations

import math

_DASH = "\N{EN DASH}"


def true_minus(text: str) -> str:
    """A text of numbers, each hyphen a minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def signed(strength: float) -> str:
    """A multiplier or dose with its sign; 0 has none."""
    return true_minus(f"{strength:+g}") if strength else "0"


def rounded(value: float, digits: int = 2) -> str:
    """A number without a minus before zero; a dash where undefined."""
    if math.isnan(value):
        return _DASH
    text = f"{value:.{digits}f}"
    return true_minus(text) if float(text) else text.lstrip("-")


def six_digits(value: float) -> str:
    """A number of a figure's ``.txt``: six digits after the point; empty where undefined."""
    return "" if math.isnan(value) else f"{value + 0.0:.6f}"
