"""Scores, and the intervals of their means over questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0
# Of fewer questions an interval says more about the questions than about the behaviour.
FEWEST = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over questions with its 95 % interval.

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


def mean_of_scores(
    values: Floats, bounds: tuple[float, float] | None, categories: Sequence[str] | None = None
) -> Estimate:
    """Mean of scores with a 95 % score interval.

    The interval holds every mean mu at whose variance the mean seen is within Student's t of it.
    The variance is the sample's at the sample's mean, and follows mu (1 - mu) on the scale from 0
    to 1 elsewhere: quasi-likelihood (McCullagh and Nelder 1989, chapter 9). Of a share it is
    Wilson's interval (1927). Unlike a bootstrap it has a width where all scores are the same:
    thirty answers that do not show a behaviour do not say that none ever will. Coverage:
    ``benchmarks/coverage.py``.

    Args:
        values: one score a question, shape (n,).
        bounds: the lowest and highest score that there can be; ``None`` if there is no limit.
        categories: of each question; then the mean is that of the categories' means, so that
            every category counts the same however many questions it has.

    Raises:
        ValueError: no values.
    """
    found = _moments(values, categories)
    if bounds is None:
        half = _quantile(found) * found.variance**0.5
        return Estimate(found.mean, found.mean - half, found.mean + half, found.n)
    low, high = _score_interval(values, found, bounds)
    return Estimate(found.mean, low, high, found.n)


def mean_of_changes(
    values: Floats, span: float | None, categories: Sequence[str] | None = None
) -> Estimate:
    """Mean of paired changes with a 95 % interval that bears skewness.

    Where few questions move a lot, Student's interval is too short on their side. This one spans
    the score interval of :func:`mean_of_scores` and Hall's (1992, Journal of the Royal Statistical
    Society B 54), which corrects t for the sample's skewness.

    Args:
        values: the differences question by question, shape (n,).
        span: the largest change that there can be, either way; ``None`` if there is no limit.
        categories: see :func:`mean_of_scores`.

    Raises:
        ValueError: no values.
    """
    plain = mean_of_scores(values, None if span is None else (-span, span), categories)
    found = _moments(values, categories)
    if found.n < 3 or not found.variance:
        return plain
    centred = values - values.mean()
    skewness = (centred**3).mean() / (centred**2).mean() ** 1.5 / found.n**0.5
    t, width = _quantile(found), found.variance**0.5
    low, high = (found.mean - width * _unskewed(x, skewness) for x in (t, -t))
    if span is not None:
        low, high = max(low, -span), min(high, span)
    return Estimate(found.mean, min(plain.low, low), max(plain.high, high), found.n)


@dataclass(frozen=True)
class _Moments:
    """A mean, the variance of it, its degrees of freedom, and the number of values."""

    mean: float
    variance: float
    freedom: float
    n: int
    stratified: bool = False


def _moments(values: Floats, categories: Sequence[str] | None) -> _Moments:
    """Of all values alike, or of the unweighted mean of the categories' means.

    A category of one question tells nothing of its spread. Such ones are put together (collapsed
    strata, Cochran 1977, section 5A.12), which counts the difference between them as spread; one
    alone is taken to vary as all values do. Degrees of freedom: Satterthwaite 1946.
    """
    n = values.size
    if n == 0:
        raise ValueError("the mean of no values")
    whole = float(values.var(ddof=1)) if n > 1 else 0.0
    if categories is None:
        return _Moments(float(values.mean()), whole / n, max(n - 1, 1), n)
    labels = np.array(categories)
    strata = [values[labels == category] for category in dict.fromkeys(categories)]
    mean = float(np.mean([stratum.mean() for stratum in strata]))
    single = np.array([stratum[0] for stratum in strata if stratum.size == 1])
    parts = [(s.var(ddof=1) / s.size, s.size - 1) for s in strata if s.size > 1]
    if single.size > 1:
        parts.append((single.var(ddof=1) * single.size, single.size - 1))
    elif single.size:
        parts.append((whole, max(n - 1, 1)))
    variance = float(sum(v for v, _ in parts))
    lost = float(sum(v**2 / freedom for v, freedom in parts))
    freedom = variance**2 / lost if lost else max(n - 1, 1)
    return _Moments(mean, variance / len(strata) ** 2, freedom, n, stratified=True)


# The 97.5 % quantile of the normal distribution.
_NORMAL = 1.959963984540054


def _student(freedom: float) -> float:
    """The same of Student's t."""
    # half a second, for what shows no interval
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def _quantile(found: _Moments) -> float:
    return _student(found.freedom)


def _score_interval(
    values: Floats, found: _Moments, bounds: tuple[float, float]
) -> tuple[float, float]:
    lowest, highest = bounds
    if found.n == 1:
        return found.mean, found.mean
    extreme = bool(np.isin(values, bounds).all())
    span = highest - lowest
    mean, variance = (found.mean - lowest) / span, found.variance / span**2
    if extreme and (variance == 0 or not found.stratified):
        # a share: its variance is known from its mean
        factor = _NORMAL**2 / found.n
    elif variance == 0:
        # all the same: as if one value in n were at a bound
        factor = _quantile(found) ** 2 / found.n**2
    else:
        factor = _quantile(found) ** 2 * variance / (mean * (1 - mean))
    low, high = _solved(mean, factor)
    return lowest + span * low, lowest + span * high


def share_interval(share: float, variance: float, n: int) -> tuple[float, float]:
    """95 % score interval of a number from 0 to 1 that is no mean, such as an AUROC.

    Args:
        share: the number.
        variance: of it.
        n: how many things it is from; where all of them agree, that is all that is known.
    """
    if not 0 < share < 1 or variance <= 0:
        return _solved(share, _NORMAL**2 / n)
    return _solved(share, _student(n - 1) ** 2 * variance / (share * (1 - share)))


def _solved(mean: float, factor: float) -> tuple[float, float]:
    """The two mu with (mean - mu)^2 = factor mu (1 - mu)."""
    middle = (mean + factor / 2) / (1 + factor)
    half = (factor * (mean * (1 - mean) + factor / 4)) ** 0.5 / (1 + factor)
    return middle - half, middle + half


def _unskewed(t: float, skewness: float) -> float:
    """Hall's transformation, turned round: which distance in standard errors has this t.

    Args:
        t: a quantile.
        skewness: of the values, over the square root of their number.
    """
    if abs(skewness) < 1e-6:
        return t
    return 3 / skewness * (float(np.cbrt(1 + skewness * (t - skewness / 6))) - 1)


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
