"""Everything that is measured of the saved activations of one layer."""

from __future__ import annotations

from dataclasses import dataclass

from utils.activations.components import (
    Parts,
    Shares,
    principal_components,
    variance_parts,
    variance_shares,
    without_letter_means,
)
from utils.activations.label_flips import against_turned_labels
from utils.activations.saved import Answers, Floats
from utils.activations.separation import LEAVE_ONE_OUT_BELOW, Separation, separation


@dataclass(frozen=True)
class LayerMeasures:
    """All that is drawn and said of one layer.

    Attributes:
        coordinates: on the two principal components, shape (2 * pairs, 2), matching first.
        shares: of the variance, along components and directions.
        separation: how well held-out answers are told apart.
        turned: the AUROC among answers with the same letter, then that with labels turned, shape
            (1 + draws,); ``None`` where nothing can be compared, or below 10 pairs.
        without_letters: the same coordinates once each letter's mean has been taken away, and the
            shares of these components in the variance that is left, shape (2,).
        parts: what the variance comes from.
    """

    coordinates: Floats
    shares: Shares
    separation: Separation
    turned: Floats | None
    without_letters: tuple[Floats, Floats]
    parts: Parts


def measure(answers: Answers) -> LayerMeasures:
    """Everything about one layer; at least two pairs, not all activations the same."""
    coordinates, components = principal_components(answers)
    found = separation(answers)
    known = found.auroc is not None and len(answers.letters) >= LEAVE_ONE_OUT_BELOW
    return LayerMeasures(
        coordinates=coordinates,
        shares=variance_shares(answers, components),
        separation=found,
        turned=against_turned_labels(answers) if known else None,
        without_letters=principal_components(without_letter_means(answers)),
        parts=variance_parts(answers),
    )
