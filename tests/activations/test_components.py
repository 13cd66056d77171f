"""Principal components and shares of variance, against numpy's own decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_activations import make_answers

from utils.activations.components import principal_components, share_along, variance_shares
from utils.activations.saved import Answers


@pytest.mark.parametrize("pairs", [2, 5, 40], ids=["all_values", "few", "arpack"])
def test_components_are_those_of_a_singular_value_decomposition(pairs: int) -> None:
    answers = make_answers(0, pairs)
    together = np.concatenate([answers.matching, answers.other])
    u, s, _ = np.linalg.svd(together - together.mean(axis=0), full_matrices=False)
    coordinates, shares = principal_components(answers)
    assert shares == pytest.approx(s[:2] ** 2 / (s**2).sum(), rel=1e-9)
    for k in range(2):
        expected = u[:, k] * s[k]
        sign = np.sign(expected @ coordinates[:, k])
        assert coordinates[:, k] == pytest.approx(sign * expected, abs=1e-7 * s[0])


@pytest.mark.parametrize("seed", range(6))
def test_the_sign_of_a_component_is_no_chance(seed: int) -> None:
    answers = make_answers(seed, 30, letter=20)
    first, _ = principal_components(answers)
    mirrored, _ = principal_components(Answers(-answers.matching, -answers.other, answers.letters))
    assert first == pytest.approx(mirrored, abs=1e-9)
    is_a = np.array([m == "A" for m, _ in answers.letters] + [o == "A" for _, o in answers.letters])
    assert first[is_a, 0].mean() > 5 > -5 > first[~is_a, 0].mean(), "A is positive"
    # Matching is, where the component follows that.
    strong = make_answers(seed, 30, letter=0, signal=40)
    for sign in (1, -1):
        coordinates, _ = principal_components(
            Answers(sign * strong.matching, sign * strong.other, strong.letters)
        )
        assert coordinates[:30, 0].min() > 0 > coordinates[30:, 0].max()
    # If it follows neither, the longer tail is.
    questions = np.zeros((30, 20))
    questions[:3, 7] = 300
    for sign in (1, -1):
        tail = [each + sign * questions for each in (answers.matching, answers.other)]
        coordinates, _ = principal_components(Answers(tail[0], tail[1], answers.letters))
        assert coordinates[:3, 0].min() > 200 > coordinates[3:30, 0].max()


def test_shares_of_variance() -> None:
    answers = make_answers(2, 30, signal=3)
    together = np.concatenate([answers.matching, answers.other])
    total = together.var(axis=0).sum()
    coordinates, components = principal_components(answers)
    shares = variance_shares(answers, components)
    assert shares.pc1 == pytest.approx(coordinates[:, 0].var() / total)
    assert shares.pc2 == pytest.approx(coordinates[:, 1].var() / total)
    is_a = np.array([m == "A" for m, _ in answers.letters] + [o == "A" for _, o in answers.letters])
    for found, direction in (
        (shares.difference, (answers.matching - answers.other).mean(axis=0)),
        (shares.letter, together[is_a].mean(axis=0) - together[~is_a].mean(axis=0)),
    ):
        projected = together @ direction / np.linalg.norm(direction)
        assert found == pytest.approx(projected.var() / total)
    assert shares.letter is not None
    assert 0 < shares.difference < shares.letter < shares.pc1 + 1e-9
    assert share_along(together, np.zeros(20)) == 0
    numbered = Answers(answers.matching, answers.other, [("C", "D")] * 30)
    assert variance_shares(numbered, components).letter is None
