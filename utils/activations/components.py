"""What the variance of saved activations consists of: principal components, named directions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from utils.activations.saved import Answers, Floats
from utils.stats import SEED

_EXACT_BELOW = 16
_FOLLOWS = 0.2


@dataclass(frozen=True)
class Shares:
    """Shares of the variance of all answers' activations, from 0 to 1.

    Attributes:
        pc1, pc2: along the principal components.
        difference: along the mean difference of matching and other, the steering vector.
        letter: along the mean difference of the answers A and B; ``None`` if a letter is absent.
    """

    pc1: float
    pc2: float
    difference: float
    letter: float | None


@dataclass(frozen=True)
class Parts:
    """What the variance comes from, in shares that add up to 1.

    Each part is what it explains beyond those before it (sequential sums of squares): where the
    letter says which answer matches, nothing is left to the answer.

    Attributes:
        letter: that the answers' letters differ.
        answer: that half of them match the behaviour.
        question: that the pairs' questions differ.
        rest: that the answers of one pair differ otherwise.
    """

    letter: float
    answer: float
    question: float
    rest: float


def principal_components(answers: Answers) -> tuple[Floats, Floats]:
    """The two main components of the activations of both answers together.

    Returns:
        Coordinates, shape (2 * pairs, 2), in the order of ``answers.together``; shares of
        variance, shape (2,).
    """
    together = answers.together
    if not (together - together.mean(axis=0)).any():
        return np.zeros((len(together), 2)), np.zeros(2)
    # ARPACK's two components are exact to rounding and far cheaper than all of them.
    solver = "full" if min(together.shape) < _EXACT_BELOW else "arpack"
    pca = PCA(n_components=2, svd_solver=solver, random_state=SEED)
    coordinates = np.asarray(pca.fit_transform(together))
    return coordinates * _signs(coordinates, answers), np.asarray(pca.explained_variance_ratio_)


def _signs(coordinates: Floats, answers: Answers) -> Floats:
    """The sign of each component, +1 or -1, which is free: shape (2,).

    Chosen so that pictures of neighbouring layers are not mirrored by chance: A (or matching)
    is positive where the component follows it, else the longer tail is.
    """
    spread = coordinates.std(axis=0)
    standard = coordinates / np.where(spread > 0, spread, 1)
    letters = answers.all_letters
    by_letter = (letters == "A").astype(float) - (letters == "B")
    by_answer = np.repeat([1.0, -1.0], len(answers.letters))
    along = np.stack([by_letter, by_answer]) @ standard / len(letters)
    strongest = along[np.abs(along).argmax(axis=0), [0, 1]]
    deciding = np.where(np.abs(strongest) > _FOLLOWS, strongest, (standard**3).mean(axis=0))
    return np.where(deciding < 0, -1.0, 1.0)


def share_along(activations: Floats, direction: Floats) -> float:
    """Share of the variance of ``activations`` (n, width) along ``direction`` (width,)."""
    centred = activations - activations.mean(axis=0)
    length = float(np.linalg.norm(direction))
    if length == 0:
        return 0.0
    return float(((centred @ (direction / length)) ** 2).sum() / (centred**2).sum())


def variance_shares(answers: Answers, components: Floats) -> Shares:
    """What the variance consists of.

    Args:
        answers: the activations.
        components: shares of the principal components, shape (2,).
    """
    together, letters = answers.together, answers.all_letters
    difference = (answers.matching - answers.other).mean(axis=0)
    letter = None
    if {"A", "B"} <= set(letters):
        direction = together[letters == "A"].mean(axis=0) - together[letters == "B"].mean(axis=0)
        letter = share_along(together, direction)
    pc1, pc2 = (float(share) for share in components)
    return Shares(pc1, pc2, share_along(together, difference), letter)


def without_letter_means(answers: Answers) -> Answers:
    """The same activations, from each the mean of all answers with its letter taken away."""
    left = answers.together
    letters = answers.all_letters
    for letter in np.unique(letters):
        left[letters == letter] -= left[letters == letter].mean(axis=0)
    pairs = len(answers.letters)
    return Answers(left[:pairs], left[pairs:], answers.letters)


def variance_parts(answers: Answers) -> Parts:
    """What the variance comes from."""
    together = answers.together
    centred = together - together.mean(axis=0)
    total = float((centred**2).sum())
    explained = [
        float(((basis.T @ centred) ** 2).sum()) / total if total else 0.0
        for basis in _bases(tuple(answers.letters))
    ]
    letter, answer, question = np.diff([0.0, *explained])
    return Parts(float(letter), float(answer), float(question), 1.0 - explained[-1])


@functools.lru_cache(maxsize=8)
def _bases(letters: Sequence[tuple[str, str]]) -> list[Floats]:
    """Orthonormal bases of what letters, letters and answer, and those and question can explain.

    Returns:
        Three matrices of shape (2 * pairs, dimensions), all orthogonal to the constant.
    """
    pairs = len(letters)
    every = np.array([m for m, _ in letters] + [o for _, o in letters])
    by_letter = (every[:, None] == np.unique(every)).astype(float)
    by_answer = np.repeat([0.5, -0.5], pairs)[:, None]
    by_question = np.tile(np.eye(pairs), (2, 1))
    bases = []
    columns = np.zeros((2 * pairs, 0))
    for more in (by_letter, by_answer, by_question):
        columns = np.concatenate([columns, more - more.mean(axis=0)], axis=1)
        left, values, _ = np.linalg.svd(columns, full_matrices=False)
        bases.append(left[:, values > 1e-9 * max(values.max(initial=0.0), 1.0)])
    return bases
