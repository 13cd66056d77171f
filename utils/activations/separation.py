"""How far the two answers of a pair lie apart in saved activations. Statistics only.

The letter is in the way. Activations are read at the token of the answer letter, so most of
their variance is which letter it is: on the bundled model 72 % to nearly all of it, and the
difference between the letters is 25 to 1000 times as long as that between matching and other.
Three things follow, each without which the numbers say something about letters instead.

* Held-out pairs must not have other letters than the training pairs. Matching is A for half of
  all pairs; if it is A for a few more of the training pairs, then the direction learnt from them
  points towards A and the held-out pairs, where it is B for a few more, score *below* chance
  (sycophancy on the bundled model: 0.40 to 0.46 at all layers). So folds are dealt out
  letter by letter, and the direction weights the letters as they are in all pairs: it has the
  letters' share in the saved vector, no more.
* Only answers with the same letter are compared, so that the letter cancels whatever it does.
* Only projections on the same direction are compared, those of one fold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from utils.activations.saved import Answers, Floats
from utils.stats import RESAMPLES, SEED, Estimate, mean_of_scores, share_interval

FOLDS = 5
LEAVE_ONE_OUT_BELOW = 10

Indices = NDArray[np.intp]
Stratum = tuple[Indices, Indices]


@dataclass(frozen=True)
class Separation:
    """How well held-out pairs' projections on the mean difference tell the answers apart.

    0.5 is chance, 1 is perfect. Intervals are over the held-out pairs; how
    the direction itself varies with the training pairs is not in them. ``None`` where there is
    nothing to compare (matching has the same letter in all pairs).

    Attributes:
        auroc: AUROC among answers with the same letter.
        paired: share of pairs whose matching answer projects higher, the letters' effect removed.
        auroc_any: AUROC among all answers, letters and all.
        paired_any: share of pairs whose matching answer projects higher, letters and all.
    """

    auroc: Estimate | None
    paired: Estimate | None
    auroc_any: Estimate
    paired_any: Estimate


def deal_folds(letters: Sequence[tuple[str, str]], folds: int | None = None) -> Indices:
    """The fold of every pair: of 5, or of as many as pairs if those are fewer than 10.

    Pairs with the same letters are dealt out in turn, in an order drawn with a fixed seed, so
    that every fold has its part of them.

    Args:
        letters: of every pair.
        folds: another number of them.
    """
    folds = folds or (FOLDS if len(letters) >= LEAVE_ONE_OUT_BELOW else len(letters))
    generator = np.random.default_rng(SEED)
    order = [generator.permutation(members) for members in _by_letters(letters).values()]
    dealt = np.empty(len(letters), dtype=np.intp)
    dealt[np.concatenate(order)] = np.arange(len(letters)) % folds
    return dealt


def _by_letters(letters: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Indices]:
    found = defaultdict(list)
    for number, pair in enumerate(letters):
        found[pair].append(number)
    return {pair: np.array(numbers) for pair, numbers in sorted(found.items())}


def mean_difference(answers: Answers, training: NDArray[np.bool_]) -> Floats:
    """Mean of (matching - other) over the training pairs, shape (width,).

    The letters are weighted as they are in all pairs; letters that no training pair has are left
    out. Over all pairs this is the steering vector.
    """
    difference = answers.matching - answers.other
    total = np.zeros(difference.shape[1])
    weight = 0
    for members in _by_letters(answers.letters).values():
        learnt = members[training[members]]
        if len(learnt):
            total += len(members) * difference[learnt].mean(axis=0)
            weight += len(members)
    return np.asarray(total / weight)


def held_out_projections(answers: Answers, folds: Indices) -> Floats:
    """Both answers of every pair, projected on the direction of the other folds' pairs.

    The direction has length 1 and the training pairs' mean is the origin.

    Returns:
        Shape (pairs, 2): matching, other.
    """
    scores = np.zeros((len(folds), 2))
    for fold in np.unique(folds):
        held_out = folds == fold
        direction = mean_difference(answers, ~held_out)
        length = float(np.linalg.norm(direction))
        if length == 0:
            continue
        both = (answers.matching, answers.other)
        origin = sum(each[~held_out].mean(axis=0) for each in both) / 2
        for column, each in enumerate(both):
            scores[held_out, column] = (each[held_out] - origin) @ (direction / length)
    return scores


def comparable(folds: Indices) -> list[Indices]:
    """Pairs whose projections may be compared: those of one fold.

    Under leave-one-out a fold is one pair; then all are compared, although each has been
    projected on a direction of its own.
    """
    blocks = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    return blocks if any(len(block) > 1 for block in blocks) else [np.concatenate(blocks)]


def same_letter(blocks: Sequence[Indices], letters: Sequence[tuple[str, str]]) -> list[Stratum]:
    """Within every block and letter, the pairs whose matching, and whose other, answer has it."""
    pairs = np.array(letters)
    strata = []
    for block in blocks:
        for letter in np.unique(pairs[block]):
            matching, other = (block[pairs[block, column] == letter] for column in range(2))
            if len(matching) and len(other):
                strata.append((matching, other))
    return strata


def auroc(scores: Floats, strata: Sequence[Stratum]) -> Estimate | None:
    """AUROC of matching against other answers, each compared within its stratum only.

    The mean of the strata's AUROCs, weighted by how many comparisons they hold. The interval is
    a 95 % score interval whose variance is that of a bootstrap over pairs (a pair is drawn with
    both its answers), fixed seed; percentiles would be too short where hardly an answer is out of
    place.

    Args:
        scores: shape (pairs, 2): matching, other.
        strata: pairs whose matching, and pairs whose other answer belongs to the stratum.

    Returns:
        ``None`` if there are no strata.
    """
    if not strata:
        return None
    pairs = len(scores)
    generator = np.random.default_rng(SEED)
    drawn = generator.multinomial(pairs, np.full(pairs, 1 / pairs), size=RESAMPLES).astype(float)
    area, comparisons = 0.0, 0
    drawn_area, drawn_comparisons = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for matching, other in strata:
        high, low = scores[matching, 0], scores[other, 1]
        truth = np.repeat([1, 0], [len(high), len(low)])
        count = len(high) * len(low)
        area += count * float(roc_auc_score(truth, np.concatenate([high, low])))
        comparisons += count
        wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
        drawn_area += ((drawn[:, matching] @ wins) * drawn[:, other]).sum(axis=1)
        drawn_comparisons += drawn[:, matching].sum(axis=1) * drawn[:, other].sum(axis=1)
    some = drawn_comparisons > 0
    spread = float((drawn_area[some] / drawn_comparisons[some]).var())
    compared = len(np.unique(np.concatenate([each for stratum in strata for each in stratum])))
    low, high = share_interval(area / comparisons, spread, compared)
    return Estimate(area / comparisons, low, high, compared)


def paired(differences: Floats) -> Estimate:
    """Share of pairs whose matching answer projects higher; a tie counts one half."""
    return mean_of_scores(
        np.where(differences == 0, 0.5, differences > 0).astype(float), (0.0, 1.0)
    )


def without_letters(
    scores: Floats, blocks: Sequence[Indices], letters: Sequence[tuple[str, str]]
) -> Floats:
    """Each pair's difference of projections, the letters' effect removed; shape (pairs left,).

    Within a block, half of what the pairs with letters (A, B) and those with (B, A) differ by is
    the letters' doing. It is taken from the held-out pairs themselves: taken from the training
    pairs it would be fitted together with the direction, and noise would come out below 0.5.
    Pairs without counterparts are left out.
    """
    difference = scores[:, 0] - scores[:, 1]
    kept = []
    for block in blocks:
        members = {
            pair: difference[block[places]]
            for pair, places in _by_letters([letters[i] for i in block]).items()
        }
        for (first, second), found in members.items():
            counterparts = members.get((second, first))
            if counterparts is not None:
                kept.append(found - (found.mean() - counterparts.mean()) / 2)
    return np.concatenate(kept) if kept else np.zeros(0)


def separation(answers: Answers) -> Separation:
    """Measure held-out pairs; the direction is learnt from the others only."""
    folds = deal_folds(answers.letters)
    blocks = comparable(folds)
    scores = held_out_projections(answers, folds)
    fair = without_letters(scores, blocks, answers.letters)
    everything = auroc(scores, [(block, block) for block in blocks])
    assert everything is not None
    return Separation(
        auroc(scores, same_letter(blocks, answers.letters)),
        paired(fair) if len(fair) else None,
        everything,
        paired(scores[:, 0] - scores[:, 1]),
    )
