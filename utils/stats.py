"""Scores, and intervals from a seeded bootstrap over questions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean over questions with its 95 % percentile-bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def matching_share(a_prob: float, b_prob: float, letter: str | None) -> float:
    """Behaviour score of one question: P(matching letter) / (P(A) + P(B)).

    Source: paper, section 4.1 (scores from the token probabilities of the two letters).
    A matching letter that is neither A nor B counts 0, as in the published results. Two
    probabilities that are both 0 in floating point say nothing: NaN.
    """
    total = a_prob + b_prob
    if letter not in ("A", "B"):
        return 0.0
    if total == 0:
        return float("nan")
    return (a_prob if letter == "A" else b_prob) / total


def bootstrap_mean(values: NDArray[np.float64]) -> Estimate:
    """Mean with a 95 % interval: percentile bootstrap over questions, fixed seed.

    Args:
        values: one value a question, shape (n,). For a change, pass the differences question
            by question, so that the interval is that of the paired change.

    Raises:
        ValueError: no values.
    """
    if values.size == 0:
        raise ValueError("the mean of no values")
    generator = np.random.default_rng(SEED)
    drawn = generator.integers(0, values.size, size=(RESAMPLES, values.size))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high), int(values.size))
