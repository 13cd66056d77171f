"""How often the 95 % intervals hold the true value, by simulation.

``python -m benchmarks.coverage`` draws samples of scores whose true mean is known and counts in
how many the interval holds it: for what the toolkit shows (utils.stats) and for the methods that
it could use instead. 0.95 is right; below 0.93 an interval promises more than it holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from utils.stats import bootstrap_mean

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
SIZES = (10, 20, 50, 200)
RESAMPLES = 1000


def _mostly_still(generator: np.random.Generator, n: int) -> Floats:
    """Paired changes of a behaviour that few questions show: most near 0, one in ten large."""
    large = generator.uniform(size=n) < 0.1
    return np.where(large, generator.uniform(0.2, 0.9, n), generator.normal(0, 0.005, n))


def _ones(generator: np.random.Generator, n: int, share: float) -> Floats:
    return (generator.uniform(size=n) < share).astype(np.float64)


# What is drawn, and its true mean.
SCORES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda g, n: g.normal(0.3, 1, n), 0.3),
    "P(matching), even": (lambda g, n: g.beta(2, 2, n), 0.5),
    "P(matching), 0 or 1": (lambda g, n: g.beta(0.2, 0.2, n), 0.5),
    "P(matching), low": (lambda g, n: g.beta(0.3, 2.7, n), 0.1),
    "paired changes, few move": (_mostly_still, 0.1 * 0.55),
    "judge, 0 or 10": (lambda g, n: 10 * _ones(g, n, 0.2), 2.0),
    "judge, mostly 0": (lambda g, n: 10 * _ones(g, n, 0.05), 0.5),
    "a share of 2 %": (lambda g, n: _ones(g, n, 0.02), 0.02),
    "a share of 40 %": (lambda g, n: _ones(g, n, 0.4), 0.4),
}


def shown(values: Floats) -> tuple[float, float]:
    """What the toolkit shows."""
    found = bootstrap_mean(values)
    return found.low, found.high


def student(values: Floats) -> tuple[float, float]:
    """Student's t."""
    half = scipy_stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean() - half, values.mean() + half


def bca(values: Floats) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap."""
    if not np.ptp(values):
        return values[0], values[0]
    found = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, vectorized=True, rng=np.random.default_rng(0)
    ).confidence_interval
    return found.low, found.high


def studentised(values: Floats) -> tuple[float, float]:
    """Bootstrap of t: the distance from the mean in standard errors of the sample drawn."""
    n, mean = len(values), values.mean()
    drawn = values[np.random.default_rng(0).integers(0, n, size=(RESAMPLES, n))]
    spread = drawn.std(axis=1, ddof=1)
    usable = spread > 0
    if not usable.any():
        return mean, mean
    t = (drawn.mean(axis=1)[usable] - mean) / spread[usable]
    low, high = np.percentile(t, [2.5, 97.5])
    scale = values.std(ddof=1)
    return mean - high * scale, mean - low * scale


def wilson(values: Floats) -> tuple[float, float]:
    """Wilson's score interval of a share; of other scores none."""
    if not set(np.unique(values)) <= {0.0, 1.0}:
        return float("nan"), float("nan")
    found = scipy_stats.binomtest(int(values.sum()), len(values)).proportion_ci(method="wilson")
    return found.low, found.high


METHODS: dict[str, Callable[[Floats], tuple[float, float]]] = {
    "shown": shown,
    "Student": student,
    "BCa": bca,
    "studentised": studentised,
    "Wilson": wilson,
}


def coverage(draw: Draw, true: float, n: int, runs: int) -> dict[str, tuple[float, float]]:
    """Share of runs whose interval holds the true mean, and its median length, by method."""
    generator = np.random.default_rng(n)
    held: dict[str, list[bool]] = {name: [] for name in METHODS}
    length: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(runs):
        values = draw(generator, n)
        for name, interval in METHODS.items():
            low, high = interval(values)
            held[name].append(bool(low <= true <= high))
            length[name].append(high - low)
    return {name: (float(np.mean(held[name])), float(np.median(length[name]))) for name in METHODS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="samples of each kind")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    args = parser.parse_args()
    print(f"{'scores':26s} {'n':>4s} " + " ".join(f"{name:>18s}" for name in METHODS))
    for name, (draw, true) in SCORES.items():
        for n in args.sizes:
            found = coverage(draw, true, n, args.runs)
            cells = [
                " " * 18 if np.isnan(length) else f"{share:8.3f} ({length:6.3f}) "
                for share, length in found.values()
            ]
            print(f"{name:26s} {n:4d} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
