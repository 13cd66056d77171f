"""Labels turned: letters stay balanced, the AUROC is that of turned answers, p holds on noise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from made_up_activations import AB, BA, make_answers

from benchmarks.coverage import activations
from utils.activations.label_flips import (
    against_turned_labels,
    auroc_of_labels,
    p_of_best_layer,
    turned_labels,
)
from utils.activations.saved import Answers
from utils.activations.separation import (
    auroc,
    comparable,
    deal_folds,
    held_out_projections,
    same_letter,
)


def turned(answers: Answers, signs: np.ndarray) -> Answers:
    """Answers whose matching and other have changed places where the sign is negative."""
    change = signs[:, None] < 0
    return Answers(
        np.where(change, answers.other, answers.matching),
        np.where(change, answers.matching, answers.other),
        [p[::-1] if s < 0 else p for p, s in zip(answers.letters, signs, strict=True)],
    )


def test_turned_labels_leave_every_fold_its_letters() -> None:
    letters = make_answers(1, 33, share_a=0.6).letters
    folds = deal_folds(letters)
    signs = turned_labels(letters, folds, 50)
    assert len({tuple(row) for row in signs}) == 50
    for row in signs:
        changed = [p[::-1] if s < 0 else p for p, s in zip(letters, row, strict=True)]
        for fold in range(5):
            before, after = (
                Counter(p for p, f in zip(each, folds, strict=True) if f == fold)
                for each in (letters, changed)
            )
            assert before == after
    # as many pairs are turned as have a partner in their fold, each half of the time
    partners = sum(
        2
        * min(
            Counter(p for p, f in zip(letters, folds, strict=True) if f == fold)[x]
            for x in (AB, BA)
        )
        for fold in range(5)
    )
    assert (signs < 0).any(axis=0).sum() == partners
    assert (signs < 0).mean() * 33 == pytest.approx(partners / 2, abs=1.5)


@pytest.mark.parametrize("beyond", [False, True], ids=["A_and_B", "other_letters"])
def test_the_auroc_of_turned_labels_is_that_of_turned_answers(beyond: bool) -> None:
    answers = make_answers(2, 47, signal=1.5, share_a=0.6)
    letters = [("C", "A") if beyond and i % 5 == 0 else p for i, p in enumerate(answers.letters)]
    answers = Answers(answers.matching, answers.other, letters)
    folds = deal_folds(letters)
    signs = np.concatenate([np.ones((1, 47)), turned_labels(letters, folds, 12)])
    found = auroc_of_labels(answers, folds, signs)
    for value, row in zip(found, signs, strict=True):
        other = turned(answers, row)
        scores = held_out_projections(other, folds)
        expected = auroc(scores, same_letter(comparable(folds), other.letters))
        assert expected is not None and value == pytest.approx(expected.mean)
    assert len(set(found)) > 8


def test_without_anything_to_compare_it_says_so() -> None:
    answers = make_answers(3, 20)
    one = Answers(answers.matching, answers.other, [AB] * 20)
    with pytest.raises(ValueError, match="same letter"):
        against_turned_labels(one, 19)


def p_values(signal: float, runs: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    found = [
        p_of_best_layer(
            [against_turned_labels(a, 19) for a in activations(generator, 50, 5, signal)]
        )
        for _ in range(runs)
    ]
    return np.array(found, dtype=float)


def test_on_noise_the_best_layer_is_rarely_told_apart_and_a_planted_direction_is() -> None:
    noise = p_values(0.0, 100)
    # 0.05 is right; were the choice not counted in, about 0.2 would lie below
    assert (noise <= 0.05).mean() <= 0.07
    assert noise.mean() == pytest.approx(0.5, abs=0.1)
    assert (p_values(2.0, 10) == 1 / 20).all()


def test_no_layers_and_few_draws_have_no_p() -> None:
    assert p_of_best_layer([]) is None
    assert p_of_best_layer([np.full(10, 0.6)]) is None
    # below one half is no separation, however far
    assert p_of_best_layer([np.array([0.1, *np.full(19, 0.49)])]) == 1.0
