"""What the variance of activations comes from, and components without the letters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from utils.activations.components import (
    principal_components,
    variance_parts,
    without_letter_means,
)
from utils.activations.saved import Answers

BALANCED = [("A", "B"), ("B", "A")] * 12
SKEWED = [("A", "B")] * 17 + [("B", "A")] * 5
FOUR = [("A", "B"), ("B", "A"), ("C", "D"), ("D", "C")] * 5
ONE_SIDED = [("A", "B")] * 20


def answers(letters: Sequence[tuple[str, str]], seed: int = 0) -> Answers:
    """Activations that differ by letter most, by question next, by behaviour hardly."""
    generator = np.random.default_rng(seed)
    width, pairs = 6, len(letters)
    of_letter = {name: 5 * generator.normal(size=width) for name in "ABCD"}
    question = 2 * generator.normal(size=(pairs, width))
    behavior = 0.3 * generator.normal(size=width)
    sides = [
        question + np.array([of_letter[pair[side]] for pair in letters])
        + (0.5 - side) * behavior + 0.5 * generator.normal(size=(pairs, width))
        for side in (0, 1)
    ]  # fmt: skip
    return Answers(sides[0], sides[1], letters)


def residual(design: np.ndarray, values: np.ndarray) -> float:
    """Sum of squares that a least-squares fit leaves."""
    fit = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(((values - fit) ** 2).sum())


@pytest.mark.parametrize("letters", [BALANCED, SKEWED, FOUR, ONE_SIDED])
def test_the_parts_of_the_variance_are_those_of_nested_fits_and_add_up(
    letters: list[tuple[str, str]],
) -> None:
    found = answers(letters)
    parts = variance_parts(found)
    pairs = len(letters)
    every = found.all_letters
    blocks = [
        np.ones((2 * pairs, 1)),
        (every[:, None] == np.unique(every)).astype(float),
        np.repeat([1.0, 0.0], pairs)[:, None],
        np.tile(np.eye(pairs), (2, 1)),
    ]
    left = [residual(np.hstack(blocks[: i + 1]), found.together) for i in range(4)]
    expected = [(a - b) / left[0] for a, b in itertools.pairwise(left)]
    assert [parts.letter, parts.answer, parts.question] == pytest.approx(expected, abs=1e-9)
    assert parts.rest == pytest.approx(left[3] / left[0], abs=1e-9)
    total = parts.letter + parts.answer + parts.question + parts.rest
    assert total == pytest.approx(1, abs=1e-12)
    if letters is ONE_SIDED:
        assert parts.answer == pytest.approx(0, abs=1e-12), "it is the letter's already"


@pytest.mark.parametrize("letters", [BALANCED, SKEWED, FOUR])
def test_components_without_the_letters_are_those_of_what_their_means_leave(
    letters: list[tuple[str, str]],
) -> None:
    found = answers(letters)
    left = found.together
    for letter in set(found.all_letters):
        here = found.all_letters == letter
        left[here] = left[here] - left[here].mean(axis=0)
    u, s, _ = np.linalg.svd(left, full_matrices=False)
    coordinates, shares = principal_components(without_letter_means(found))
    assert shares == pytest.approx(s[:2] ** 2 / (s**2).sum(), rel=1e-9)
    assert np.abs(coordinates) == pytest.approx(np.abs(u[:, :2] * s[:2]), abs=1e-8)
    plain, _ = principal_components(found)
    a = found.all_letters == "A"
    apart = [abs(c[a, 0].mean() - c[~a, 0].mean()) / c[:, 0].std() for c in (plain, coordinates)]
    assert apart[0] > 0.1 and apart[1] < 1e-8, "the letter is in the plain ones alone"
    assert found.together == pytest.approx(answers(letters).together), "nothing was changed"


def test_where_the_letters_are_everything_nothing_is_left() -> None:
    matching, other = np.array([[1.0, 2.0, 3.0]] * 4), np.array([[5.0, 6.0, 1.0]] * 4)
    found = Answers(matching, other, [("A", "B")] * 4)
    coordinates, shares = principal_components(without_letter_means(found))
    assert not coordinates.any() and not shares.any()
    assert variance_parts(found).letter == pytest.approx(1)
