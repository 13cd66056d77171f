"""The separation that labels without meaning have: the same AUROC with labels of pairs turned.

Turning the label of a single pair would also turn its letter, and letters are most of what
activations differ by. So two pairs of one fold, one with matching letter A and one with B, are
turned together: folds, letters and their weights stay as they are. The same turns at all layers,
so that the largest of all layers can be held against the largest of every draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from utils.activations.saved import Answers, Floats
from utils.activations.separation import Indices, deal_folds
from utils.permutation import p_of_largest
from utils.stats import SEED

DRAWS = 199

Letters = Sequence[tuple[str, str]]
Signs = NDArray[np.float64]


def turned_labels(letters: Letters, folds: Indices, draws: int = DRAWS) -> Signs:
    """Draws of labels: -1 where matching and other have changed places; shape (draws, pairs).

    Args:
        letters: of every pair.
        folds: of every pair.
        draws: how many, seeded.
    """
    generator = np.random.default_rng(SEED)
    signs = np.ones((draws, len(letters)))
    for fold in np.unique(folds):
        found: dict[tuple[str, str], list[int]] = {}
        for i in generator.permutation(np.flatnonzero(folds == fold)):
            found.setdefault(letters[i], []).append(int(i))
        for (first, second), members in found.items():
            couples = zip(members, found.get((second, first), []), strict=False)
            for a, b in couples if first < second else ():
                signs[:, [a, b]] = generator.choice([-1.0, 1.0], size=(draws, 1))
    return signs


def auroc_of_labels(answers: Answers, folds: Indices, signs: Signs) -> Floats:
    """AUROC among held-out answers with the same letter, for each row of labels; shape (rows,).

    With labels as they are (+1) that of :func:`utils.activations.separation.separation`, where
    folds hold more than one pair.

    Args:
        answers: of one layer.
        folds: of every pair.
        signs: shape (rows, pairs), as of :func:`turned_labels`.

    Raises:
        ValueError: no two answers can be compared: matching has the same letter in all pairs.
    """
    pairs = np.array(answers.letters)
    labels = np.where(signs[..., None] > 0, pairs, pairs[:, ::-1])
    difference = answers.matching - answers.other
    # every projection is a sum over training pairs: their products with all answers are enough
    products = answers.together @ difference.T
    won, compared = np.zeros(len(signs)), np.zeros(len(signs))
    for fold in np.unique(folds):
        held_out = np.flatnonzero(folds == fold)
        weights = signs * _letter_weights(labels, folds != fold)
        projected = (weights @ products.T).reshape(len(signs), 2, len(folds))
        for letter in np.unique(pairs):
            members = held_out[(pairs[held_out] == letter).any(axis=1)]
            place = (pairs[members, 1] == letter).astype(int)
            scores = projected[:, place, members]
            matches = labels[:, members, 0] == letter
            count = matches.sum(axis=1)
            # Mann and Whitney: ranks of the matching answers, less those among themselves
            ranks = (rankdata(scores, axis=1) * matches).sum(axis=1)
            won += ranks - count * (count + 1) / 2
            compared += count * (len(members) - count)
    if not compared.all():
        raise ValueError("no two answers of one fold have the same letter")
    return won / compared


def _letter_weights(labels: NDArray[np.str_], training: NDArray[np.bool_]) -> Floats:
    """Weights of pairs in the direction, so that letters count as they do in all pairs.

    Args:
        labels: letters of matching and other in each row, shape (rows, pairs, 2).
        training: which pairs the direction is learnt from.
    """
    weights = np.zeros(labels.shape[:2])
    for letters in np.unique(labels[0], axis=0):
        has = (labels == letters).all(axis=2)
        learnt = (has & training).sum(axis=1, keepdims=True)
        weights += has * training * (has.sum(axis=1, keepdims=True) / np.maximum(learnt, 1))
    return weights


def against_turned_labels(answers: Answers, draws: int = DRAWS) -> Floats:
    """AUROC with labels as they are, then with labels turned; shape (1 + draws,)."""
    folds = deal_folds(answers.letters)
    turned = turned_labels(answers.letters, folds, draws)
    return auroc_of_labels(answers, folds, np.concatenate([np.ones((1, len(folds))), turned]))


def p_of_best_layer(layers: Sequence[Floats]) -> float | None:
    """p of the highest AUROC over layers; that the layer was chosen for it is counted in.

    One-sided: an AUROC below 0.5 is no sign that answers are told apart.

    Args:
        layers: of each layer what :func:`against_turned_labels` gave.

    Returns:
        ``None`` for no layers, or fewer than 19 draws.
    """
    if not layers:
        return None
    above = np.maximum(np.stack(layers, axis=1) - 0.5, 0.0)
    return p_of_largest(above[0], above[1:])
