"""What a choice says against the letter it stands behind: the two effects of a question.

Each question is asked in two orders. With D the logarithm of P(A) / P(B), sigma +1 where the
matching answer is A in the published order and -1 else, and D1, D2 those of the two orders,

    content c = sigma (D1 - D2) / 2,    letter b = (D1 + D2) / 2,

so that D1 = sigma c + b and D2 = -sigma c + b: a 2 x 2 design, solved exactly. A model that always
answers A has c = 0, whatever b. That letters decide much of such answers: Tan et al. 2024,
arXiv 2407.12404; Zheng et al. 2023, arXiv 2309.03882.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from utils.data.orders import is_exchanged
from utils.data.rows import Row

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OrderEffects:
    """The effects of every question under one strength.

    Attributes:
        content, letter: in logits, shape (questions,); NaN where a probability is 0, or the
            question was asked in one order only.
    """

    content: Floats
    letter: Floats

    @property
    def consistent(self) -> Floats:
        """1 where one content wins in both orders, 0 where one letter does; shape (questions,)."""
        unknown = np.isnan(self.content) | np.isnan(self.letter)
        wins = (np.abs(self.content) > np.abs(self.letter)).astype(np.float64)
        return np.where(unknown, np.nan, wins)


def order_effects(published: Floats, exchanged: Floats, matching: Sequence[str]) -> OrderEffects:
    """Take the two effects apart.

    Args:
        published, exchanged: P(A) and P(B) in the two orders, shape (questions, 2).
        matching: the matching letter of every question in the published order.

    Raises:
        ValueError: a matching letter that is neither A nor B.
    """
    if not set(matching) <= {"A", "B"}:
        raise ValueError("a question whose matching letter is not A or B has no other order")
    sign = np.where(np.array(matching) == "A", 1.0, -1.0)
    first, second = _difference(published), _difference(exchanged)
    return OrderEffects(sign * (first - second) / 2, (first + second) / 2)


def effects_of_rows(rows: Sequence[Row], letters: Sequence[str | None]) -> OrderEffects:
    """The effects of every question of a result that its test has scored.

    Args:
        rows: an exchanged one directly follows the published one of its question.
        letters: the matching letter of every row.
    """
    first = [i for i, row in enumerate(rows) if not is_exchanged(row)]
    has_both = [i + 1 < len(rows) and is_exchanged(rows[i + 1]) for i in first]
    paired = [i for i, both in zip(first, has_both, strict=True) if both]
    read = np.array([[row["a_prob"], row["b_prob"]] for row in rows], dtype=np.float64)
    matching = [cast(str, letters[i]) for i in paired]
    found = order_effects(read[paired], read[[i + 1 for i in paired]], matching)
    content, letter = np.full((2, len(first)), np.nan)
    content[has_both], letter[has_both] = found.content, found.letter
    return OrderEffects(content, letter)


def letter_share(steered: OrderEffects, unsteered: OrderEffects) -> float:
    """Share of the letter in what steering changes: sum db^2 / (sum db^2 + sum dc^2).

    Over questions; NaN where nothing changes.
    """
    content = np.nansum((steered.content - unsteered.content) ** 2)
    letter = np.nansum((steered.letter - unsteered.letter) ** 2)
    total = content + letter
    return float(letter / total) if total else float("nan")


def _difference(probabilities: Floats) -> Floats:
    """log P(A) - log P(B), shape (questions,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(probabilities)
        found = logs[:, 0] - logs[:, 1]
    return np.where(np.isfinite(found), found, np.nan)
