"""How often the 95 % intervals hold the true value, by simulation.

``python -m benchmarks.coverage`` draws samples of scores whose true mean is known and counts in
how many the interval holds it: for what the toolkit shows (utils.stats) and for usual methods
beside it, each with the median length of its intervals. 0.95 is right; below 0.93 an interval
promises more than it holds. Then the same for the separation of activations (AUROC), and how
often plot_activations.py calls answers told apart at the best of 12 layers: where labels mean
nothing (0.05 is right), and where a direction is planted at some of the layers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from utils.activations.label_flips import against_turned_labels, p_of_best_layer
from utils.activations.saved import Answers
from utils.activations.separation import auroc
from utils.activations.separation import separation as separated
from utils.stats import Estimate, mean_of_changes, mean_of_scores

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
SIZES = (10, 20, 50, 200)
RESAMPLES = 1000
WIDTH = 24


@dataclass(frozen=True)
class Scores:
    """Scores of one kind, or changes of them.

    Attributes:
        draw: a sample of a size.
        true: its true mean.
        bounds: what there can be; ``None`` for no limit.
        change: they are changes.
        categories: how many there are, of as many questions each.
    """

    draw: Draw
    true: float
    bounds: tuple[float, float] | None = (0.0, 1.0)
    change: bool = False
    categories: int | None = None

    def shown(self, values: Floats) -> Estimate:
        labels = None
        if self.categories is not None:
            labels = [str(i % self.categories) for i in range(len(values))]
        if self.change:
            return mean_of_changes(values, self.bounds and self.bounds[1], labels)
        return mean_of_scores(values, self.bounds, labels)


def _ones(generator: np.random.Generator, n: int, share: float) -> Floats:
    return (generator.uniform(size=n) < share).astype(np.float64)


def _few_move(generator: np.random.Generator, n: int) -> Floats:
    """Paired changes of a behaviour that few questions show: most near 0, one in ten large."""
    large = generator.uniform(size=n) < 0.1
    return np.where(large, generator.uniform(0.2, 0.9, n), generator.normal(0, 0.005, n))


def _judged_changes(generator: np.random.Generator, n: int) -> Floats:
    moved = np.where(_ones(generator, n, 0.15) > 0, generator.choice([10.0, 8.0, 3.0], n), 0.0)
    return moved * np.where(generator.uniform(size=n) < 0.8, 1, -1)


def _in_categories(count: int) -> Draw:
    """Scores whose categories differ: question i belongs to category i modulo ``count``."""

    def draw(generator: np.random.Generator, n: int) -> Floats:
        share = np.linspace(0.2, 0.8, count)[np.arange(n) % count]
        return generator.beta(4 * share, 4 * (1 - share))

    return draw


TEN = (0.0, 10.0)
KINDS = {
    "normal, no limits": Scores(lambda g, n: g.normal(0.3, 1, n), 0.3, None),
    "P(matching), even": Scores(lambda g, n: g.beta(2, 2, n), 0.5),
    "P(matching), 0 or 1": Scores(lambda g, n: g.beta(0.2, 0.2, n), 0.5),
    "P(matching), low": Scores(lambda g, n: g.beta(0.3, 2.7, n), 0.1),
    "judge, 0 or 10": Scores(lambda g, n: 10 * _ones(g, n, 0.2), 2.0, TEN),
    "judge, mostly 0": Scores(lambda g, n: 10 * _ones(g, n, 0.05), 0.5, TEN),
    "a share of 2 %": Scores(lambda g, n: _ones(g, n, 0.02), 0.02),
    "a share of 40 %": Scores(lambda g, n: _ones(g, n, 0.4), 0.4),
    "changes, even": Scores(lambda g, n: g.normal(0.05, 0.1, n), 0.05, (-1, 1), change=True),
    "changes, few move": Scores(_few_move, 0.1 * 0.55, (-1, 1), change=True),
    "changes, judge": Scores(_judged_changes, 0.15 * 7 * 0.6, (-10, 10), change=True),
    "slopes": Scores(lambda g, n: g.standard_t(4, n) + 0.2, 0.2, None, change=True),
    "5 categories": Scores(_in_categories(5), 0.5, categories=5),
    "10 categories": Scores(_in_categories(10), 0.5, categories=10),
}


def percentile(values: Floats) -> tuple[float, float]:
    """The percentile bootstrap, which the toolkit has shown before."""
    n = len(values)
    drawn = values[np.random.default_rng(0).integers(0, n, size=(RESAMPLES, n))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return low, high


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


OTHERS = {"percentile": percentile, "Student": student, "BCa": bca}


def coverage(kind: Scores, n: int, runs: int) -> dict[str, tuple[float, float]]:
    """Share of runs whose interval holds the true mean, and its median length, by method."""
    generator = np.random.default_rng(n)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("shown", *OTHERS)}
    for _ in range(runs):
        values = kind.draw(generator, n)
        shown = kind.shown(values)
        found["shown"].append((shown.low, shown.high))
        for name, interval in OTHERS.items():
            found[name].append(interval(values))
    held = {m: np.mean([low <= kind.true <= high for low, high in f]) for m, f in found.items()}
    return {m: (float(held[m]), float(np.median(np.diff(f)))) for m, f in found.items()}


def separation(n: int, shift: float, runs: int) -> tuple[float, float]:
    """Coverage and median length for the AUROC of n pairs, normal scores ``shift`` apart."""
    true = float(scipy_stats.norm.cdf(shift / 2**0.5))
    generator = np.random.default_rng(n)
    everything = [(np.arange(n), np.arange(n))]
    found = []
    for _ in range(runs):
        estimate = auroc(generator.normal([shift, 0.0], size=(n, 2)), everything)
        assert estimate is not None
        found.append((estimate.low, estimate.high))
    held = np.mean([low <= true <= high for low, high in found])
    return float(held), float(np.median(np.diff(found)))


def activations(
    generator: np.random.Generator, pairs: int, layers: int, signal: float
) -> list[Answers]:
    """Layers of a residual stream: letters far apart, noise that later layers keep half of.

    ``signal`` is how far the matching answers are moved, in standard deviations of the noise,
    along one direction at the upper half of the layers.
    """
    letters = [("A", "B") if i % 2 else ("B", "A") for i in generator.permutation(pairs)]
    side = np.array([1.0 if first == "A" else -1.0 for first, _ in letters])[:, None]
    stream = generator.normal(size=(2, pairs, WIDTH))
    found = []
    for layer in range(layers):
        stream = 0.7 * stream + 0.7 * generator.normal(size=stream.shape)
        question, letter = generator.normal(size=(pairs, WIDTH)), generator.normal(size=WIDTH)
        planted = np.eye(WIDTH)[0] * signal / 2 * (layer >= layers / 2)
        up, down = (sign * (planted + 3 * side * letter) for sign in (1.0, -1.0))
        found.append(Answers(question + stream[0] + up, question + stream[1] + down, letters))
    return found


def verdicts(pairs: int, signal: float, runs: int) -> tuple[float, float]:
    """Share of runs told apart at the best layer: by the interval there, and by p over layers."""
    generator = np.random.default_rng(pairs)
    found = []
    for _ in range(runs):
        layers = activations(generator, pairs, 12, signal)
        turned = [against_turned_labels(each, 99) for each in layers]
        highest = int(np.argmax([found[0] for found in turned]))
        best, p = separated(layers[highest]).auroc, p_of_best_layer(turned)
        assert best is not None and p is not None
        found.append((best.low > 0.5, p <= 0.05))
    by_interval, by_p = np.mean(found, axis=0)
    return float(by_interval), float(by_p)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="samples of each kind")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--verdicts", type=int, default=100, help="runs of each kind of verdict")
    args = parser.parse_args()
    print(f"{'scores':20s} {'n':>4s} " + " ".join(f"{m:>17s}" for m in ("shown", *OTHERS)))
    for name, kind in KINDS.items():
        for n in args.sizes:
            found = coverage(kind, n, args.runs)
            cells = " ".join(f"{held:8.3f} ({length:5.3f}) " for held, length in found.values())
            print(f"{name:20s} {n:4d} {cells}", flush=True)
    for shift in (0.0, 1.0, 2.5):
        for n in args.sizes:
            held, length = separation(n, shift, args.runs // 2)
            print(f"{f'AUROC, {shift:g} apart':20s} {n:4d} {held:8.3f} ({length:5.3f})", flush=True)

    for signal in (0.0, 0.5, 1.0):
        for pairs in (50, 200):
            interval, p = verdicts(pairs, signal, args.verdicts)
            name = f"told apart, moved by {signal:g}"
            print(f"{name:22s} {pairs:4d} best interval {interval:.3f}, p {p:.3f}", flush=True)


if __name__ == "__main__":
    main()
