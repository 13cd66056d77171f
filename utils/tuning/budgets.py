"""Damage: what is measured of it, and how much of each kind is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KL, LETTERS, ROLLOUT, KNOWLEDGE, LOOPS = "kl", "letters", "rollout_kl", "knowledge", "loops"


@dataclass(frozen=True)
class Kind:
    """A kind of damage.

    Attributes:
        limit: how much of it is allowed unless told otherwise.
        least: the limit is the least (else the most) that there may be.
        first: measured for every cell, before the others.
        meaning: in words.
    """

    limit: float
    least: bool
    first: bool
    meaning: str


# Sources of the limits: kl, Arditi et al. 2024 (arXiv 2406.11717), appendix C; letters and
# loops, this project's own; rollout_kl, steering-lite; knowledge, table 5 of the CAA paper (0.06).
KINDS = {
    KL: Kind(0.1, False, True, "KL(unsteered || steered) of the next token, nats"),
    LETTERS: Kind(0.5, True, True, "P(A) + P(B), in parts of the unsteered model's"),
    ROLLOUT: Kind(
        1.0, False, False, "95th percentile of KL(steered || unsteered) along answers, nats"
    ),
    KNOWLEDGE: Kind(0.02, False, False, "loss of P(correct answer) on knowledge questions"),
    LOOPS: Kind(
        0.8, True, False, "different 3-grams of answers, in parts of the unsteered model's"
    ),
}
FIRST = tuple(name for name, kind in KINDS.items() if kind.first)


@dataclass(frozen=True)
class Budgets:
    """How much damage is allowed.

    Attributes:
        limits: of every kind; infinite where it is only reported.
    """

    limits: Mapping[str, float]

    @classmethod
    def of(cls, given: Sequence[tuple[str, float]] = ()) -> Budgets:
        """The defaults, some of them replaced."""
        return cls({name: kind.limit for name, kind in KINDS.items()} | dict(given))

    def exceeded(self, damages: Mapping[str, float | None]) -> list[str]:
        """The kinds of which there is too much; what has not been measured is not among them."""
        return [
            name
            for name, found in damages.items()
            if found is not None and self.excess(name, found) > 1
        ]

    def excess(self, name: str, found: float) -> float:
        """How many times a budget is used up; infinite where nothing or NaN is all there is."""
        limit = self.limits[name]
        if math.isinf(limit):
            return 0.0
        used, room = (limit, found) if KINDS[name].least else (found, limit)
        if math.isnan(found):
            return math.inf
        if room <= 0:
            return math.inf if used > 0 else 0.0
        return used / room

    def recorded(self) -> dict[str, float | None]:
        """For JSON, which has no infinity."""
        return {n: None if math.isinf(limit) else limit for n, limit in self.limits.items()}


def needed(name: str, found: float) -> str:
    """The budget that would have been enough, as the flag takes it, rounded to its side."""
    if found == 0 or not math.isfinite(found):
        return f"{name}=0" if found == 0 else f"{name}=inf"
    digits = 2 - math.floor(math.log10(abs(found)))
    scaled = found * 10.0**digits
    whole = math.floor(scaled) if KINDS[name].least else math.ceil(scaled)
    return f"{name}={whole / 10.0**digits:.3g}"
