"""Held-out pairs: projections, AUROC and their intervals, against counting and resampling."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from made_up_activations import AB, BA, make_answers

from utils.activations import separation
from utils.activations.saved import Answers
from utils.activations.separation import (
    auroc,
    comparable,
    deal_folds,
    held_out_projections,
    mean_difference,
    same_letter,
    without_letters,
)


@pytest.mark.parametrize(("pairs", "folds"), [(2, 2), (9, 9), (10, 5), (23, 5), (60, 5)])
def test_folds_are_even_in_size_and_in_letters(pairs: int, folds: int) -> None:
    letters = make_answers(3, pairs, share_a=0.6).letters
    dealt = deal_folds(letters)
    assert sorted(set(dealt)) == list(range(folds))
    assert np.ptp(np.bincount(dealt)) <= 1
    for both in (AB, BA):
        counts = np.bincount(dealt[[p == both for p in letters]], minlength=folds)
        assert np.ptp(counts) <= 1
    assert list(dealt) == list(deal_folds(letters)), "the same every time"
    if pairs == 60:
        assert list(dealt) != sorted(dealt), "not in the order of the data file"


def test_projections_are_those_on_the_other_folds_mean_difference() -> None:
    answers = make_answers(4, 23, share_a=0.7)
    folds = deal_folds(answers.letters)
    found = held_out_projections(answers, folds)
    first = np.array([p == AB for p in answers.letters])
    difference = answers.matching - answers.other
    for i in range(23):
        training = folds != folds[i]
        by_letter = [difference[training & each].mean(axis=0) for each in (first, ~first)]
        vector = by_letter[0] * first.mean() + by_letter[1] * (1 - first.mean())
        origin = np.concatenate([answers.matching[training], answers.other[training]]).mean(axis=0)
        for column, each in enumerate((answers.matching, answers.other)):
            expected = (each[i] - origin) @ vector / np.linalg.norm(vector)
            assert found[i, column] == pytest.approx(expected)


def test_the_direction_of_all_pairs_is_the_plain_mean_and_knows_no_held_out_pair() -> None:
    answers = make_answers(5, 30, share_a=0.7)
    plain = (answers.matching - answers.other).mean(axis=0)
    assert mean_difference(answers, np.ones(30, dtype=bool)) == pytest.approx(plain)
    training = np.arange(30) % 5 != 0
    before = mean_difference(answers, training)
    first = np.array([p == AB for p in answers.letters])
    learnt = [(answers.matching - answers.other)[training & each].mean(axis=0)
              for each in (first, ~first)]  # fmt: skip
    assert before == pytest.approx(0.7 * learnt[0] + 0.3 * learnt[1])
    answers.matching[~training] = 1e6
    assert mean_difference(answers, training) == pytest.approx(before)


def brute_force_auroc(scores: Any, allowed: Any) -> float:
    """The share of comparisons that matching wins, counted one by one; a tie is half."""
    won = [
        1.0 if scores[i, 0] > scores[j, 1] else 0.5 if scores[i, 0] == scores[j, 1] else 0.0
        for i, j in itertools.product(range(len(scores)), repeat=2)
        if allowed(i, j)
    ]
    return sum(won) / len(won)


@pytest.mark.parametrize("share_a", [0.5, 0.8])
def test_auroc_is_the_share_of_comparisons_won(share_a: float) -> None:
    letters = make_answers(6, 23, share_a=share_a).letters
    scores = np.random.default_rng(6).integers(0, 8, size=(23, 2)).astype(float)
    folds = deal_folds(letters)
    blocks = comparable(folds)

    def same_fold(i: int, j: int) -> bool:
        return bool(folds[i] == folds[j])

    everything = auroc(scores, [(block, block) for block in blocks])
    assert everything is not None and everything.n == 23
    assert everything.mean == pytest.approx(brute_force_auroc(scores, same_fold))
    fair = auroc(scores, same_letter(blocks, letters))
    expected = brute_force_auroc(
        scores, lambda i, j: same_fold(i, j) and letters[i][0] == letters[j][1]
    )
    assert fair is not None and fair.mean == pytest.approx(expected) != everything.mean


@pytest.mark.parametrize("decimals", [9, 0], ids=["no_ties", "ties"])
def test_the_interval_of_auroc_is_that_of_resampled_pairs(decimals: int) -> None:
    generator = np.random.default_rng(7)
    scores = (generator.normal(size=(40, 2)) + np.array([0.8, 0])).round(decimals)
    everyone = np.arange(40)
    found = auroc(scores, [(everyone, everyone)])
    drawn = []
    for _ in range(400):
        again = scores[generator.integers(0, 40, size=40)]
        difference = again[:, None, 0] - again[None, :, 1]
        drawn.append((np.sign(difference).mean() + 1) / 2)
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert found is not None
    assert found.low == pytest.approx(low, abs=0.03) and found.high == pytest.approx(high, abs=0.03)
    assert found.low < found.mean < found.high


def test_leave_one_out_compares_all_pairs_with_one_another() -> None:
    assert [list(b) for b in comparable(np.arange(4))] == [[0, 1, 2, 3]]
    assert [list(b) for b in comparable(np.array([0, 1, 0, 1]))] == [[0, 2], [1, 3]]


def test_what_the_letter_adds_changes_nothing_but_the_measures_with_all_letters() -> None:
    letters = make_answers(8, 40, share_a=0.6).letters
    blocks = comparable(deal_folds(letters))
    scores = np.random.default_rng(8).normal(size=(40, 2))
    moved = scores + 3.0 * (np.array(letters) == "A")
    strata = same_letter(blocks, letters)
    assert auroc(scores, strata) == auroc(moved, strata)
    assert without_letters(moved, blocks, letters) == pytest.approx(
        without_letters(scores, blocks, letters)
    )
    everything = [(block, block) for block in blocks]
    assert auroc(scores, everything) != auroc(moved, everything)


def test_letters_are_removed_by_half_of_what_the_two_kinds_of_pairs_differ_by() -> None:
    scores = np.array([[5.0, 0], [7.0, 0], [1.0, 0], [9.0, 0]])
    letters = [AB, AB, BA, ("C", "D")]
    # (A, B): 6 on average, (B, A): 1, so the letters make +-2.5; (C, D) has no counterpart.
    found = without_letters(scores, [np.arange(4)], letters)
    assert sorted(found) == [2.5, 3.5, 4.5]
    assert len(without_letters(scores[:2], [np.arange(2)], letters[:2])) == 0


def test_answers_that_lie_apart_are_told_apart() -> None:
    found = separation.separation(make_answers(9, 40, signal=30))
    assert found.auroc is not None and found.paired is not None
    assert (found.auroc.mean, found.paired.mean) == (1.0, 1.0)
    # of forty pairs without one exception, what Wilson's interval says
    wilson = 40 / (40 + 1.959964**2)
    assert found.auroc.low == pytest.approx(wilson) == found.paired.low
    assert found.auroc.high == pytest.approx(1)
    assert found.auroc.n == found.paired.n == found.auroc_any.n == found.paired_any.n == 40


@pytest.mark.parametrize("pairs", [8, 23, 60], ids=["leave_one_out", "uneven", "five_folds"])
def test_noise_is_chance_for_held_out_pairs_though_not_for_those_trained_on(
    pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separation, "RESAMPLES", 2)
    held_out, trained_on = [], []
    for seed in range(60):
        answers = make_answers(seed, pairs)
        found = separation.separation(answers)
        assert found.auroc is not None and found.paired is not None
        held_out.append((found.auroc.mean, found.paired.mean))
        direction = (answers.matching - answers.other).mean(axis=0)
        scores = np.stack([answers.matching @ direction, answers.other @ direction], axis=1)
        everyone = [np.arange(pairs)]
        same = auroc(scores, same_letter(everyone, answers.letters))
        fair = without_letters(scores, everyone, answers.letters)
        assert same is not None
        trained_on.append((same.mean, (fair > 0).mean()))
    assert np.mean(held_out, axis=0) == pytest.approx([0.5, 0.5], abs=0.05)
    assert np.mean(trained_on, axis=0).min() > 0.56
    assert np.mean(trained_on, axis=0)[1] > 0.7


def test_uneven_letters_feign_a_separation_only_where_letters_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(separation, "RESAMPLES", 2)
    found = [separation.separation(make_answers(s, 60, share_a=0.8)) for s in range(30)]
    assert np.mean([f.auroc.mean for f in found if f.auroc]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([f.paired.mean for f in found if f.paired]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([f.auroc_any.mean for f in found]) == pytest.approx(0.8, abs=0.02)
    assert np.mean([f.paired_any.mean for f in found]) == pytest.approx(0.8, abs=0.02)


def test_one_letter_for_all_is_not_measurable() -> None:
    answers = make_answers(10, 20)
    found = separation.separation(Answers(answers.matching, answers.other, [AB] * 20))
    assert found.auroc is None and found.paired is None
    assert found.auroc_any.n == 20


def test_the_same_activations_for_both_answers_are_chance() -> None:
    answers = make_answers(11, 20)
    found = separation.separation(Answers(answers.matching, answers.matching, answers.letters))
    assert found.auroc is not None and found.paired is not None
    assert found.auroc.mean == found.paired.mean == found.paired_any.mean == 0.5
