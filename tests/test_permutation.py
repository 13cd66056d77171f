"""p-values: uniform where there is nothing, small where something was planted, never 0."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import kstest

from utils.permutation import (
    FEWEST_DRAWS,
    holm,
    p_of_largest,
    p_of_questions,
    p_of_surest_change,
    p_value,
)

R, LAYERS, RUNS = 99, 6, 200


def test_p_is_uniform_on_noise() -> None:
    """Each of 200 runs: layers of unlike spread, the same draw correlated over layers."""
    generator = np.random.default_rng(0)
    scale = np.array([1, 5, 0.1, 2, 3, 40])
    mixed = generator.normal(size=(LAYERS, LAYERS))
    single, largest, questions = [], [], []
    for _ in range(RUNS):
        draws = generator.normal(size=(R + 1, LAYERS)) @ mixed * scale
        single.append(p_value(draws[0, 1], draws[1:, 1]))
        largest.append(p_of_largest(draws[0], draws[1:]))
        questions.append(p_of_questions(generator.normal(size=50)))
    # discrete: the values are k / (R + 1), so compare with the step below too
    for found in (single, largest):
        spread = np.array(found) - generator.uniform(size=RUNS) / (R + 1)
        assert kstest(spread, "uniform").pvalue > 0.01
    assert kstest(questions, "uniform").pvalue > 0.01


def test_a_planted_effect_has_the_smallest_p_and_none_is_zero() -> None:
    draws = np.random.default_rng(1).normal(size=(R, LAYERS))
    effects = draws[0].copy()
    effects[2] = -50
    assert p_value(effects[2], draws[:, 2]) == p_of_largest(effects, draws) == 1 / (R + 1)
    assert p_value(0.0, draws[:, 2]) == 1
    assert p_of_questions(np.full(50, 0.1)) == 1 / 10_001


def test_ties_and_nan_count_as_larger() -> None:
    draws = np.zeros(R)
    assert p_value(0.0, draws) == 1
    draws[:4] = [2.0, -2.0, np.nan, 2.0 * (1 + 1e-15)]
    assert p_value(2.0, draws) == 5 / (R + 1)
    over_layers = np.stack([draws, draws], axis=1)
    assert p_of_largest(np.array([2.0, 2.0]), over_layers) == 5 / (R + 1)


def test_too_few_draws_give_no_p() -> None:
    assert p_value(1.0, np.zeros(FEWEST_DRAWS - 1)) is None
    assert p_of_largest(np.ones(2), np.zeros((FEWEST_DRAWS - 1, 2))) is None
    assert p_value(float("nan"), np.zeros(R)) is None
    assert p_of_questions(np.array([np.nan])) is None


@pytest.mark.parametrize("n", [1, 5, 13])
def test_few_questions_are_flipped_in_every_way(n: int) -> None:
    changes = np.random.default_rng(n).normal(0.5, 1, n)
    sums = [abs(np.dot(s, changes)) for s in product((1, -1), repeat=n)]
    expected = np.mean([s >= abs(changes.sum()) - 1e-9 for s in sums])
    assert p_of_questions(changes) == pytest.approx(expected)


def test_holm_is_that_of_the_definition() -> None:
    values = [0.01, None, 0.04, 0.03, 0.005]
    assert holm(values) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_surest_of_many_changes_is_rarely_sure_by_chance_and_a_planted_one_is_found() -> None:
    generator = np.random.default_rng(3)
    alone, counted = 0, 0
    for _ in range(100):
        shared = generator.normal(size=(6, 40))
        changes = np.repeat(shared, 5, axis=0) + 0.3 * generator.normal(size=(30, 40))
        found = p_of_surest_change(changes)
        counted += found.min() <= 0.05
        t = changes.mean(1) / (changes.std(1, ddof=1) / 40**0.5)
        alone += np.abs(t).max() > 2.02
        planted = changes.copy()
        planted[7] += 1.0
        assert p_of_surest_change(planted)[7] <= 0.05
    assert alone > 20 and counted <= 11, "0.05 of 100 runs, and chance"


def test_one_row_of_changes_has_the_p_of_questions_and_length_does_not_matter() -> None:
    generator = np.random.default_rng(4)
    for shift in (0.0, 0.2, 0.5):
        changes = generator.normal(shift, 1, size=30)
        rows = np.stack([changes, 1e-6 * changes, np.zeros(30)])
        one, small, still = p_of_surest_change(rows)
        assert one == small == pytest.approx(p_of_questions(changes), abs=0.02)
        assert still == 1
    assert p_of_surest_change(np.empty((0, 5))).shape == (0,)
    assert p_of_surest_change(np.zeros((2, 5))).tolist() == [1, 1]
