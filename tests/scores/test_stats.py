"""Scores and intervals against independent computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, t

from utils.data.evaluation import AB
from utils.files.names import Variant
from utils.scores.tables import ScoreTable
from utils.stats import (
    Estimate,
    matching_share,
    mean_of_changes,
    mean_of_scores,
    share_interval,
)

PLAIN = Variant("ab")


def width(estimate: Estimate | None) -> float:
    assert estimate is not None
    return estimate.high - estimate.low


def normal(n: int, seed: int, mean: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(mean, 1.0, n)


# ---------------------------------------------------------------- one question


@pytest.mark.parametrize(
    ("a", "b", "letter", "share"),
    [
        (0.6, 0.2, "A", 0.75),
        (0.6, 0.2, "B", 0.25),
        (0.5, 0.5, "A", 0.5),
        (1.0, 0.0, "A", 1.0),
        (1.0, 0.0, "B", 0.0),
        (0.0, 1e-300, "B", 1.0),
        (5e-324, 5e-324, "A", 0.5),
        (3e-8, 1e-8, "A", 0.75),
        (0.6, 0.2, "C", 0.0),
        (0.6, 0.2, "H", 0.0),
        (0.6, 0.2, None, 0.0),
        (0.0, 0.0, "C", 0.0),
    ],
)
def test_the_share_of_the_matching_letter(
    a: float, b: float, letter: str | None, share: float
) -> None:
    assert matching_share(a, b, letter) == pytest.approx(share, abs=1e-15)


@pytest.mark.parametrize("letter", ["A", "B"])
def test_two_probabilities_of_zero_say_nothing(letter: str) -> None:
    assert math.isnan(matching_share(0.0, 0.0, letter))


def test_scores_of_rows_are_their_shares_and_letters_beyond_a_and_b_count_zero() -> None:
    rows = [
        {"answer_matching_behavior": letter, "a_prob": a, "b_prob": b}
        for letter, a, b in (("(A)", 0.3, 0.1), (" (B) No", 0.3, 0.1), ("(C)", 0.3, 0.1))
    ]
    scores = AB.scores(rows, "here")
    assert scores.tolist() == pytest.approx([0.75, 0.25, 0.0])
    assert mean_of_scores(scores, (0.0, 1.0)).mean == pytest.approx(1 / 3)
    assert AB.beyond_ab(rows) == 1
    within = scores[AB.within_ab(rows)]
    assert within.tolist() == pytest.approx([0.75, 0.25])


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(("ones", "n"), [(0, 10), (1, 50), (20, 50), (50, 50), (3, 400)])
@pytest.mark.parametrize("top", [1.0, 10.0])
def test_the_interval_of_a_share_is_wilsons(ones: int, n: int, top: float) -> None:
    values = np.array([top] * ones + [0.0] * (n - ones))
    expected = binomtest(ones, n).proportion_ci(method="wilson")
    found = mean_of_scores(values, (0.0, top))
    assert (found.low, found.high) == pytest.approx((top * expected.low, top * expected.high))
    assert (found.mean, found.n) == (pytest.approx(top * ones / n), n)


@pytest.mark.parametrize("n", [3, 10, 50])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_scores_solves_its_equation(n: int, seed: int) -> None:
    """Each end is as many standard errors from the mean as Student's t allows, at its own mean."""
    values = np.random.default_rng(seed).beta(0.5, 1.5, n)
    found = mean_of_scores(values, (0.0, 1.0))
    mean, spread = values.mean(), values.var(ddof=1) / n
    dispersion = spread / (mean * (1 - mean))

    def distance(mu: float) -> float:
        return float((mean - mu) ** 2 / (dispersion * mu * (1 - mu)) - t.ppf(0.975, n - 1) ** 2)

    ends = [brentq(distance, 1e-9, mean), brentq(distance, mean, 1 - 1e-9)]
    assert (found.low, found.high) == pytest.approx(ends)
    assert 0 <= found.low < found.mean < found.high <= 1


@pytest.mark.parametrize("n", [2, 5, 60])
def test_without_limits_it_is_students(n: int) -> None:
    values = normal(n, 4)
    found = mean_of_scores(values, None)
    expected = t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / math.sqrt(n))
    assert (found.low, found.high) == pytest.approx(expected)


def test_equal_scores_are_no_proof() -> None:
    found = mean_of_scores(np.full(20, 10.0), (0.0, 10.0))
    assert found.mean == found.high == pytest.approx(10) and 8 < found.low < 9
    within = mean_of_scores(np.full(20, 0.25), (0.0, 1.0))
    assert 0.2 < within.low < 0.25 < within.high < 0.31
    assert mean_of_scores(np.array([0.75]), (0.0, 1.0)) == Estimate(0.75, 0.75, 0.75, 1)


def test_no_values_have_no_mean() -> None:
    for estimate in (mean_of_scores, mean_of_changes):
        with pytest.raises(ValueError, match="no values"):
            estimate(np.array([]), None)


def test_another_scale_scales_the_interval() -> None:
    values = np.random.default_rng(4).beta(2, 5, 60)
    plain, moved = mean_of_scores(values, (0, 1)), mean_of_scores(10 * values, (0, 10))
    changed = mean_of_changes(values - 0.3, 1), mean_of_changes(10 * values - 3, 10)
    for one, ten in ((plain, moved), changed):
        assert (ten.low, ten.high) == pytest.approx((10 * one.low, 10 * one.high))


def test_changes_span_students_and_halls_interval() -> None:
    values = np.array([0.0] * 18 + [0.9, 0.8])
    found = mean_of_changes(values, None)
    plain = mean_of_scores(values, None)
    n, spread = 20, values.std(ddof=1) / math.sqrt(20)
    centred = values - values.mean()
    g = (centred**3).mean() / (centred**2).mean() ** 1.5 / math.sqrt(n)

    def hall(mu: float) -> float:
        """The corrected t of a mean, which is compared with Student's."""
        x = (values.mean() - mu) / spread
        return float(x + g * x**2 / 3 + g**2 * x**3 / 27 + g / 6)

    quantile = t.ppf(0.975, n - 1)
    low, high = (brentq(lambda mu, q=q: hall(mu) - q, -2, 2) for q in (quantile, -quantile))
    assert (found.low, found.high) == pytest.approx((min(low, plain.low), max(high, plain.high)))
    assert high > plain.high, "skewed to large changes"
    mirrored = mean_of_changes(-values, None)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize(
    ("draw", "true", "change"),
    [
        (lambda g: g.beta(0.3, 2.7, 30), 0.1, False),
        (lambda g: (g.uniform(size=30) < 0.1) * 1.0, 0.1, False),
        (lambda g: g.normal(0.1, 0.2, 30), 0.1, True),
        (lambda g: np.where(g.uniform(size=60) < 0.3, 0.6, 0.0), 0.18, True),
    ],
)
def test_the_interval_covers_the_true_mean(draw: Any, true: float, change: bool) -> None:
    """More kinds and sizes: ``python -m benchmarks.coverage``."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(600):
        values = draw(generator)
        found = mean_of_changes(values, 1.0) if change else mean_of_scores(values, (0.0, 1.0))
        covered += found.low <= true <= found.high
    assert 0.92 <= covered / 600 <= 0.995


def test_categories_weigh_the_same_and_one_question_alone_has_no_spread_of_its_own() -> None:
    generator = np.random.default_rng(0)
    sizes = {"a": 12, "b": 5, "c": 1, "d": 1, "e": 1}
    labels = [name for name, n in sizes.items() for _ in range(n)]
    values = generator.uniform(size=len(labels))
    of = {name: values[np.array(labels) == name] for name in sizes}
    found = mean_of_scores(values, None, labels)
    assert found.mean == pytest.approx(np.mean([v.mean() for v in of.values()]))
    single = np.array([of[name][0] for name in "cde"])
    parts = {
        "a": (of["a"].var(ddof=1) / 12, 11),
        "b": (of["b"].var(ddof=1) / 5, 4),
        "cde": (9 * single.var(ddof=1) / 3, 2),
    }
    total = sum(v for v, _ in parts.values())
    freedom = total**2 / sum(v**2 / f for v, f in parts.values())
    half = t.ppf(0.975, freedom) * math.sqrt(total) / 5
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    same = mean_of_scores(np.array([1.0, 1.0, 1.0, 0.0]), (0.0, 1.0), ["a", "a", "a", "b"])
    assert same.mean == 0.5 and 0 < same.low < 0.2 and 0.8 < same.high < 1


def test_a_perfect_separation_of_few_is_not_certain() -> None:
    low, high = share_interval(1.0, 0.0, 10)
    assert high == pytest.approx(1) and 0.7 < low < 0.75
    assert share_interval(0.5, 0.0025, 1000) == pytest.approx((0.402, 0.598), abs=0.002)


# ---------------------------------------------------------------- changes


def test_the_change_is_paired_and_so_narrower_than_the_scores_for_correlated_answers() -> None:
    questions = np.random.default_rng(2).uniform(0, 0.8, 50)
    base = questions + np.random.default_rng(3).normal(0, 0.01, 50)
    steered = questions + 0.1 + np.random.default_rng(4).normal(0, 0.01, 50)
    table = ScoreTable(PLAIN, scores={(1, 0.0): base, (1, 1.0): steered})
    change = table.change((1, 1.0), (1, 0.0))
    assert change is not None and change.n == 50
    assert change.mean == pytest.approx(float((steered - base).mean()))
    assert change.low <= change.mean <= change.high
    unpaired = math.hypot(width(table.score((1, 0.0))), width(table.score((1, 1.0))))
    assert width(change) < unpaired / 10
    assert change.low > 0, "the change is clear, though the intervals of the scores overlap"
    low, high = table.score((1, 1.0)), table.score((1, 0.0))
    assert low is not None and high is not None and low.low < high.high


def test_the_change_of_unrelated_scores_is_as_wide_as_both_together() -> None:
    drawn = np.random.default_rng(1).beta(2, 2, size=(2, 400))
    table = ScoreTable(PLAIN, scores={(1, 0.0): drawn[0], (1, 1.0): drawn[1]})
    both = math.hypot(width(table.score((1, 0.0))), width(table.score((1, 1.0))))
    assert width(table.change((1, 1.0), (1, 0.0))) == pytest.approx(both, rel=0.15)


def test_the_change_has_the_sign_of_the_second_cell_against_the_first() -> None:
    table = ScoreTable(PLAIN, scores={(1, 0.0): np.full(5, 0.5), (1, -1.0): np.full(5, 0.2)})
    change = table.change((1, -1.0), (1, 0.0))
    assert change is not None and change.mean == pytest.approx(-0.3)
    assert table.change((1, 2.0), (1, 0.0)) is None
    assert table.change((1, -1.0), (2, 0.0)) is None
    assert table.score((2, 0.0)) is None
