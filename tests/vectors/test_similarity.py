"""Cosines, components and neighbours of vectors, and how their numbers are written."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from made_up_vectors import (
    cosine,
)

from utils.drawing.heat_maps import wrapped
from utils.files.subsets import ranges
from utils.text.numbers import rounded, six_digits
from utils.vectors.similarity import (
    cosine_matrix,
    layers_like,
    neighbour_mean,
    principal_components,
)


def test_a_matrix_of_cosines_is_symmetric_with_ones_at_any_scale() -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 300))
    vectors *= 10.0 ** np.linspace(-30, 30, 40)[:, None]
    found = cosine_matrix(vectors)
    assert (found == found.T).all() and (found.diagonal() == 1).all()
    for i, j in ((0, 39), (3, 20), (11, 12)):
        # torch takes norms below 1e-8 for 1e-8
        pair = [torch.from_numpy(v / np.abs(v).max()) for v in (vectors[i], vectors[j])]
        assert found[i, j] == pytest.approx(cosine(*pair), abs=1e-12)
    parallel = cosine_matrix(np.array([[1.0, 3.0], [-0.1, -0.3], [1e9, 3e9]]))
    assert (np.abs(parallel) <= 1).all() and parallel[0, 1] == pytest.approx(-1)


def test_components_run_from_left_to_right_with_the_middle_above() -> None:
    angle = np.linspace(0, np.pi, 9)
    arc = np.stack([2 * np.cos(angle), np.sin(angle)], axis=1)
    for mirror in itertools.product((-1, 1), repeat=2):
        points, shares = principal_components(arc * mirror)
        assert points[0, 0] == pytest.approx(-2) and points[-1, 0] == pytest.approx(2)
        assert points[4, 1] > points[0, 1]
        assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]


def test_components_of_equal_points_and_of_too_few() -> None:
    points, shares = principal_components(np.ones((4, 3)))
    assert not points.any() and not shares.any()
    with pytest.raises(ValueError, match="2 points"):
        principal_components(np.eye(2))


def test_neighbours_and_layers_like_the_middle() -> None:
    matrix = np.array(
        [[1, 0.9, 0.2, 0.7], [0.9, 1, 0.6, 0.8], [0.2, 0.6, 1, 0.5], [0.7, 0.8, 0.5, 1]]
    )
    assert neighbour_mean(matrix, [0, 1, 2, 3]) == pytest.approx((0.9 + 0.6 + 0.5) / 3)
    assert neighbour_mean(matrix, [0, 1, 5, 6]) == pytest.approx((0.9 + 0.5) / 2)
    assert np.isnan(neighbour_mean(matrix, [0, 2, 4, 6]))
    assert layers_like(matrix, [3, 5, 7, 9], 5, 0.5) == (3, 9)
    assert layers_like(matrix, [3, 5, 7, 9], 7, 0.5) == (5, 7), "0.5 is not above 0.5"
    assert layers_like(matrix, [3, 5, 7, 9], 3, 0.6) == (3, 5), "9 is beyond a gap"


def test_numbers_as_they_are_written() -> None:
    assert ranges([9, 0, 1, 2, 4, 11, 10, 2]) == "0-2,4,9-11" and ranges([]) == ""
    assert [six_digits(v) for v in (1, -0.0, 1 / 3, np.nan)] == [
        "1.000000",
        "0.000000",
        "0.333333",
        "",
    ]
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert [rounded(v) for v in (0.5, -0.123, -0.001, np.nan)] == [
        "0.50",
        f"{minus}0.12",
        "0.00",
        dash,
    ]
    assert wrapped("SmolLM2-135M-Instruct-Q4_1_limit=8") == "SmolLM2-135M-\nInstruct-Q4_1_\nlimit=8"
    assert wrapped("Coordination with other AIs") == "Coordination with\nother AIs"
