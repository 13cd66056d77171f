"""Scores and intervals against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from utils.data.evaluation import AB
from utils.files.paths import Variant
from utils.scores.tables import ScoreTable
from utils.stats import Estimate, bootstrap_mean, matching_share

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
    assert bootstrap_mean(scores).mean == pytest.approx(1 / 3)
    assert AB.beyond_ab(rows) == 1
    within = scores[AB.within_ab(rows)]
    assert within.tolist() == pytest.approx([0.75, 0.25])


# ---------------------------------------------------------------- the bootstrap


def test_the_bootstrap_is_seeded() -> None:
    values = normal(40, 1)
    first = bootstrap_mean(values)
    np.random.default_rng(5).normal(size=9)
    assert bootstrap_mean(values.copy()) == first


@pytest.mark.parametrize("n", [2, 5, 50, 400])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_contains_the_mean_and_stays_within_the_values(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 1, n)
    found = bootstrap_mean(values)
    assert found.n == n
    assert found.mean == pytest.approx(math.fsum(values) / n, abs=1e-12)
    assert values.min() <= found.low <= found.mean <= found.high <= values.max()
    assert found.low < found.high


def test_constant_values_have_an_interval_of_no_width() -> None:
    assert bootstrap_mean(np.full(20, 0.25)) == Estimate(0.25, 0.25, 0.25, 20)
    assert bootstrap_mean(np.array([0.75])) == Estimate(0.75, 0.75, 0.75, 1)


def test_no_values_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean(np.array([]))


@pytest.mark.parametrize("n", [50, 200])
def test_the_interval_is_as_wide_as_theory_says(n: int) -> None:
    widths, expected = [], []
    for seed in range(20):
        values = normal(n, seed)
        widths.append(width(bootstrap_mean(values)))
        expected.append(2 * 1.96 * values.std() / math.sqrt(n))
    assert np.mean(widths) == pytest.approx(np.mean(expected), rel=0.03)
    assert np.array(widths) == pytest.approx(np.array(expected), rel=0.15)


def test_the_interval_is_that_of_another_implementation() -> None:
    values = np.random.default_rng(8).beta(0.5, 0.5, 50)
    generator = np.random.Generator(np.random.MT19937(11))
    means = [generator.choice(values, values.size).mean() for _ in range(20_000)]
    low, high = np.quantile(means, [0.025, 0.975])
    found = bootstrap_mean(values)
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_shifting_and_scaling_the_values_shifts_and_scales_the_interval() -> None:
    values = normal(60, 4)
    plain, moved = bootstrap_mean(values), bootstrap_mean(3 * values + 2)
    for before, after in ((plain.low, moved.low), (plain.high, moved.high)):
        assert after == pytest.approx(3 * before + 2)


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    simulations, covered, below, above = 500, 0, 0, 0
    for seed in range(simulations):
        found = bootstrap_mean(normal(60, 1000 + seed, mean=0.3))
        covered += found.low <= 0.3 <= found.high
        below += found.high < 0.3
        above += found.low > 0.3
    assert 0.91 <= covered / simulations <= 0.98
    assert below > 0 and above > 0, "it misses on both sides"


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
    table = ScoreTable(PLAIN, scores={(1, 0.0): normal(400, 1), (1, 1.0): normal(400, 2)})
    both = math.hypot(width(table.score((1, 0.0))), width(table.score((1, 1.0))))
    assert width(table.change((1, 1.0), (1, 0.0))) == pytest.approx(both, rel=0.15)


def test_the_change_has_the_sign_of_the_second_cell_against_the_first() -> None:
    table = ScoreTable(PLAIN, scores={(1, 0.0): np.full(5, 0.5), (1, -1.0): np.full(5, 0.2)})
    change = table.change((1, -1.0), (1, 0.0))
    assert change is not None and change.mean == pytest.approx(-0.3)
    assert table.change((1, 2.0), (1, 0.0)) is None
    assert table.change((1, -1.0), (2, 0.0)) is None
    assert table.score((2, 0.0)) is None
