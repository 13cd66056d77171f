"""Scores, and intervals from a seeded bootstrap over questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 0
# Drawn again, fewer questions than these repeat themselves: the interval would be no interval.
FEWEST = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over questions with its 95 % percentile-bootstrap interval.

    Attributes:
        low, high: the interval; to be shown only where :attr:`has_interval`.
        n: questions with a score; ``missing`` is the number of those without one.
    """

    mean: float
    low: float
    high: float
    n: int
    missing: int = 0

    @property
    def has_interval(self) -> bool:
        """Whether there are questions enough for an interval to mean anything."""
        return self.n >= FEWEST


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


def bootstrap_category_mean(values: NDArray[np.float64], categories: Sequence[str]) -> Estimate:
    """Unweighted mean of the categories' means, with a 95 % interval.

    Questions are drawn again within their category (stratified bootstrap, fixed seed), so that
    every category counts the same however many questions it has.

    Args:
        values: one value a question, shape (n,).
        categories: the category of each question.

    Raises:
        ValueError: no values.
    """
    if values.size == 0:
        raise ValueError("the mean of no values")
    generator = np.random.default_rng(SEED)
    labels = np.array(categories)
    means, drawn_means = [], []
    for category in dict.fromkeys(categories):
        members = values[labels == category]
        drawn = generator.integers(0, members.size, size=(RESAMPLES, members.size))
        means.append(members.mean())
        drawn_means.append(members[drawn].mean(axis=1))
    low, high = np.percentile(np.mean(drawn_means, axis=0), [2.5, 97.5])
    return Estimate(float(np.mean(means)), float(low), float(high), int(values.size))


def slopes(x: Sequence[float], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope of each row of ``y`` (shape (n, points)) against ``x``.

    A row of equal numbers has slope 0 exactly, however its mean is rounded.

    Raises:
        ValueError: fewer than two different x.
    """
    centred = np.asarray(x, dtype=np.float64) - np.mean(x)
    if not centred.any():
        raise ValueError("a slope needs two different points")
    found = (y - y.mean(axis=1, keepdims=True)) @ centred / (centred @ centred)
    return np.where((y == y[:, :1]).all(axis=1), 0.0, found)
