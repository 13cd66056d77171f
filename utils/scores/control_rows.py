"""What is written of the controls of one layer and strength: from probabilities to effects.

Of the vector and of every control the mean change, against the unsteered model, of the content
and of the letter (in logits, :mod:`utils.scores.order_effects`) and of the published score. The
vector's change on each question stands beside, for its interval. Means of the two signs of a
strength are put together where they are read (:mod:`utils.scores.control_effects`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utils.data.items import ABItem
from utils.data.orders import Kept
from utils.scores.order_effects import order_effects
from utils.stats import matching_share

Floats = NDArray[np.float64]
CONTENT, LETTER, SCORE = QUANTITIES = ("content", "letter", "score")


def control_content(
    behavior: str,
    items: Sequence[ABItem],
    kept: Sequence[Kept],
    unsteered: Floats,
    steered: Floats,
    names: Sequence[str],
) -> dict[str, Any]:
    """What stands in the file of one cell.

    A control under which the content effect of any question is not known has no effect (null): it
    broke the model, and counts as larger than any.

    Args:
        behavior: whose vector it is.
        items: the questions.
        kept: those that have no other order; they count in the score only.
        unsteered: P(A) and P(B) of all questions and then, in the other order, of those that are
            not kept; shape (prompts, 2).
        steered: the same under the vector and every control, shape (prompts, 1 + controls, 2).
        names: of the controls.
    """
    alone = {k.number - 1 for k in kept}
    turned = [i for i in range(len(items)) if i not in alone]
    before = _effects(items, turned, unsteered)
    rows, own = [], np.empty((0, 0))
    for column, name in enumerate([behavior, *names]):
        changes = _effects(items, turned, steered[:, column]) - before
        own = changes if not column else own
        means = {
            CONTENT: _mean(changes[0, turned]),
            LETTER: _mean(changes[1, turned]),
            SCORE: _mean(changes[2]),
        }
        rows.append({"vector": name, **means, "n": len(turned)})
    questions = [
        {name: _or_null(own[row, i]) for row, name in enumerate(QUANTITIES)}
        for i in range(len(items))
    ]
    return {
        "rows": rows,
        "questions": questions,
        "kept": [{"question": k.number, "reason": k.reason} for k in kept],
    }


def _effects(items: Sequence[ABItem], turned: Sequence[int], probabilities: Floats) -> Floats:
    """Content, letter and score of every question, (3, questions); NaN where there is none."""
    found = np.full((len(QUANTITIES), len(items)), np.nan)
    published, exchanged = probabilities[: len(items)], probabilities[len(items) :]
    effects = order_effects(published[turned], exchanged, [items[i].matching for i in turned])
    found[0, turned], found[1, turned] = effects.content, effects.letter
    for number, (item, (a, b)) in enumerate(zip(items, published.tolist(), strict=True)):
        found[2, number] = matching_share(a, b, item.matching)
    return found


def _mean(values: Floats) -> float | None:
    return _or_null(values.mean()) if values.size else None


def _or_null(value: float) -> float | None:
    """A number as JSON has it."""
    return float(value) if np.isfinite(value) else None
