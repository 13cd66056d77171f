"""What is held out: contrast pairs for the choice, and the vector that has not seen them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from utils.activations.saved import Answers, Source
from utils.activations.separation import FOLDS, deal_folds, mean_difference
from utils.data.items import ABItem
from utils.data.orders import Kept, both_orders
from utils.errors import UserError
from utils.vectors.dose import SteeringVector
from utils.vectors.stored import StoredVector

FEWEST = 25
# Below, the vector without the held-out pairs is no vector of the same thing.
ALIKE = 0.99


@dataclass(frozen=True)
class Question:
    """A question in both orders, and its number in its file, counted from 1."""

    number: int
    published: ABItem
    exchanged: ABItem


def asked_twice(items: Sequence[ABItem]) -> tuple[list[Question], list[Kept]]:
    """Questions in both orders, and those left out because they have only one."""
    other, kept = both_orders(items)
    pairs = enumerate(zip(items, other, strict=True), 1)
    return [Question(n, item, turned) for n, (item, turned) in pairs if turned is not None], kept


@dataclass(frozen=True)
class Split:
    """Contrast pairs of one behaviour, some of them held out.

    Attributes:
        held_out: bool, shape (pairs,).
        questions: those held out, in both orders.
        kept: those held out that have one order only, and why.
    """

    held_out: NDArray[np.bool_]
    questions: list[Question]
    kept: list[Kept]

    @property
    def short(self) -> str:
        """What is to be said where fewer are held out than there should be; else empty."""
        if len(self.questions) >= FEWEST:
            return ""
        return (
            f"only {len(self.questions)} pairs are held out for the choice, fewer than {FEWEST}: "
            "the choice is uncertain"
        )


def hold_out(items: Sequence[ABItem], behavior: str) -> Split:
    """Hold out a fifth of the pairs, at least 25 of them, or up to half where there are few.

    Dealt letter by letter, see :func:`utils.activations.separation.deal_folds`: as many folds as
    leave 25 pairs in each, five at most and two at least, of which the first is held out.

    Raises:
        UserError: fewer than four pairs, or none whose choices can be exchanged.
    """
    if len(items) < 4:
        raise UserError(f"{behavior}: {len(items)} pairs; to hold some out, at least 4 are needed")
    folds = min(FOLDS, max(2, len(items) // FEWEST))
    held_out = deal_folds([(i.matching, i.other) for i in items], folds) == 0
    asked, kept = asked_twice(items)
    asked = [q for q in asked if held_out[q.number - 1]]
    if not asked:
        raise UserError(
            f"{behavior}: none of the pairs held out can be asked in both orders, so content and "
            f"letter cannot be told apart (pair {kept[0].number}: {kept[0].reason})"
        )
    return Split(held_out, asked, [k for k in kept if held_out[k.number - 1]])


def without(
    answers: Answers, split: Split, whole: SteeringVector, layer: int, source: Source
) -> SteeringVector:
    """A layer's vector made without the held-out pairs, as long as the one that users add.

    Args:
        answers: the saved activations of the layer.
        split: which pairs are held out.
        whole: the vector of all pairs.
        layer: for messages.
        source: where the activations come from, for messages.

    Raises:
        UserError: the vector was not made from these activations, or is zero.
    """
    everything = mean_difference(answers, np.ones(len(split.held_out), dtype=bool))
    user = whole.vector.double().numpy()
    norms = float(np.linalg.norm(everything) * np.linalg.norm(user))
    if not norms or float(everything @ user) / norms < ALIKE:
        again = source.remake({layer}, " --overwrite")
        raise UserError(
            f"{whole.path} does not point where the saved activations of {source.behavior} do, or "
            f"is zero: it was made from others\nMake both again with: {again} && "
            "./normalize_vectors.py --overwrite"
        )
    learnt = mean_difference(answers, ~split.held_out)
    length = float(np.linalg.norm(learnt))
    if not length:
        raise UserError(f"{source.behavior}, layer {layer}: without the pairs held out it is zero")
    tensor = torch.from_numpy(learnt * (whole.norm / length)).float()
    return replace(whole, stored=StoredVector.of(tensor))
