"""How probable an effect is by chance alone: p-values from controls and from flipped signs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Fewer draws than these allow no p-value below 0.05.
FEWEST_DRAWS = 19
# Up to so many questions all signs are tried: 8192 of them.
MOST_EXACT = 13
FLIPS, SEED = 10_000, 0
# Sums of the same numbers in another order are the same value.
_ROUNDING = 1e-12


def p_value(effect: float, draws: Floats) -> float | None:
    """Two-sided p of an effect among those of controls: (1 + #{|T_r| >= |T|}) / (R + 1).

    The effect itself is one of the R + 1 values that chance could have given, so p is never 0.
    Source: Phipson and Smyth 2010, arXiv 1603.05766.

    Args:
        effect: T.
        draws: T of the controls, shape (R,). One that is NaN counts as larger.

    Returns:
        ``None`` for fewer than 19 draws, or an effect that is NaN.
    """
    if len(draws) < FEWEST_DRAWS or np.isnan(effect):
        return None
    smaller = np.abs(draws) < abs(effect) * (1 - _ROUNDING)
    return float((1 + np.count_nonzero(~smaller)) / (len(draws) + 1))


def p_of_largest(effects: Floats, draws: Floats) -> float | None:
    """p of the largest effect over layers, the choice of the layer counted in.

    Every layer's effects are divided by their spread over effect and draws, and the largest over
    layers is compared with the largest of each draw. Source: Westfall and Young 1993. A draw must
    be the same one at all layers.

    Args:
        effects: T at each layer, shape (layers,).
        draws: of the controls, shape (R, layers).

    Returns:
        ``None`` for fewer than 19 draws, or an effect that is NaN.
    """
    if len(draws) < FEWEST_DRAWS or np.isnan(effects).any():
        return None
    whole = np.concatenate([effects[None], draws])
    spread = np.sqrt(np.nanmean(whole**2, axis=0))
    scaled = np.abs(whole) / np.where(spread > 0, spread, 1.0)
    largest = np.where(np.isnan(scaled).any(axis=1), np.inf, np.max(scaled, axis=1, initial=0.0))
    return p_value(float(largest[0]), largest[1:])


def p_of_questions(changes: Floats) -> float | None:
    """Two-sided p of a mean change if every question's could as well have been its opposite.

    Another null than that of controls: these questions are a sample, the vector is given. All
    sign patterns up to 13 questions, else 10 000 of them, seeded.

    Args:
        changes: one a question, shape (questions,); NaN is left out.

    Returns:
        ``None`` for no changes at all.
    """
    found = changes[~np.isnan(changes)]
    if not len(found):
        return None
    exact = len(found) <= MOST_EXACT
    if exact:
        signs = np.array(list(product((1.0, -1.0), repeat=len(found))))
    else:
        generator = np.random.default_rng(SEED)
        signs = generator.integers(0, 2, size=(FLIPS, len(found))) * 2.0 - 1.0
    flipped = np.abs(signs @ found)
    as_large = np.count_nonzero(flipped >= abs(found.sum()) * (1 - _ROUNDING))
    # all patterns contain the one that was observed
    return as_large / len(signs) if exact else (1 + as_large) / (FLIPS + 1)


def p_of_surest_change(changes: Floats) -> Floats:
    """Two-sided p of each of many mean changes, their number counted in.

    Had nothing moved, every question's change could as well have been its opposite, in all rows at
    once. The same signs are drawn for all rows, and each row's mean, in parts of its root mean
    square (which t grows with), is held against the largest of every draw (Westfall and Young 1993,
    single step). Rows that are alike cost little.

    Args:
        changes: shape (rows, questions), no NaN.

    Returns:
        Shape (rows,).
    """
    rows, questions = changes.shape
    size = np.sqrt((changes**2).mean(axis=1))
    moved = size > 0
    if not questions or not moved.any():
        return np.ones(rows)
    scaled = changes[moved] / size[moved, None]
    signs = np.random.default_rng(SEED).integers(0, 2, size=(FLIPS, questions)) * 2.0 - 1.0
    largest = np.abs(signs @ scaled.T).max(axis=1)
    found = np.ones(rows)
    own = np.abs(scaled.sum(axis=1)) * (1 - _ROUNDING)
    found[moved] = (1 + (largest[:, None] >= own).sum(axis=0)) / (FLIPS + 1)
    return found


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values of one table, each corrected for their number (Holm 1979); ``None`` stays."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[index] = largest
    return corrected
