"""Content and letter effects: two equations, two unknowns."""

from __future__ import annotations

import numpy as np
import pytest

from utils.scores.order_effects import OrderEffects, letter_share, order_effects

N = 40


def probabilities(difference: np.ndarray) -> np.ndarray:
    a = 1 / (1 + np.exp(-difference))
    return 0.9 * np.stack([a, 1 - a], axis=1)


def made(content: np.ndarray, letter: np.ndarray, matching: list[str]) -> OrderEffects:
    sign = np.where(np.array(matching) == "A", 1, -1)
    return order_effects(
        probabilities(sign * content + letter), probabilities(-sign * content + letter), matching
    )


def test_planted_effects_are_found_exactly() -> None:
    generator = np.random.default_rng(0)
    content, letter = generator.normal(size=(2, N))
    matching = list(generator.choice(["A", "B"], N))
    found = made(content, letter, matching)
    assert np.allclose(found.content, content) and np.allclose(found.letter, letter)
    assert (found.consistent == (abs(content) > abs(letter))).all()


def test_consistent_is_one_content_winning_in_both_orders() -> None:
    generator = np.random.default_rng(1)
    first, second = (probabilities(d) for d in generator.normal(size=(2, N)))
    matching = list(generator.choice(["A", "B"], N))
    index = np.array(["AB".index(m) for m in matching])
    wins = [p[np.arange(N), i] > 0.45 for p, i in ((first, index), (second, 1 - index))]
    expected = wins[0] == wins[1]
    assert (order_effects(first, second, matching).consistent == expected).all()


def test_a_model_that_always_answers_a_has_no_content_effect() -> None:
    matching = ["A", "B"] * 20
    habit = np.random.default_rng(2).normal(3, 1, N)
    before, after = made(np.zeros(N), habit, matching), made(np.zeros(N), 2 * habit, matching)
    assert np.abs(after.content).max() < 1e-12
    assert letter_share(after, before) == pytest.approx(1)
    assert not after.consistent.any()
    moved = made(np.ones(N), habit, matching)
    assert letter_share(moved, before) == pytest.approx(0)
    assert np.isnan(letter_share(before, before)), "nothing changes"


def test_a_probability_of_zero_is_unknown_and_a_letter_beyond_b_refused() -> None:
    found = order_effects(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), ["A"])
    assert np.isnan(found.content).all() and np.isnan(found.consistent).all()
    with pytest.raises(ValueError, match="other order"):
        order_effects(np.ones((1, 2)), np.ones((1, 2)), ["C"])
