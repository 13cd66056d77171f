"""Does a behaviour move? One word for the first table, by rules that stand on the page."""

from __future__ import annotations

from dataclasses import dataclass

from utils.permutation import p_of_questions
from utils.report.sweeps import Sweep
from utils.scores.control_report import ALPHA, by_strength, decisive
from utils.stats import FEWEST

MOVES, LITTLE, WRONG = "moves", "moves a little", "moves the other way"
STILL, UNSURE, FEW = "does not move", "not surely", "too few questions"


@dataclass(frozen=True)
class Verdict:
    """What is said of a behaviour, and why.

    Attributes:
        word: one of the words above.
        why: a clause; empty where the interval says it.
    """

    word: str
    why: str = ""

    @property
    def moves(self) -> bool:
        return self.word in (MOVES, LITTLE, WRONG)


def verdict(sweep: Sweep) -> Verdict | None:
    """What to say of a sweep's change between its ends; ``None`` where there is none.

    The interval decides; then, where several layers were compared, p over questions times their
    number (Bonferroni); then the controls, where they were measured.
    """
    if sweep.top is None or sweep.ends is None:
        return None
    change, small = sweep.top[1], sweep.test.scale.change
    if not change.has_interval:
        return Verdict(FEW, f"fewer than {FEWEST} have no interval")
    inside = -small < change.low and change.high < small
    if change.low <= 0 <= change.high:
        if inside:
            return Verdict(STILL, f"by less than {small:g} either way")
        return Verdict(UNSURE, "the interval holds 0")
    low, high = sweep.ends
    layers = len(sweep.table.layers)
    p = p_of_questions(sweep.table.scores[high] - sweep.table.scores[low])
    if layers > 1 and p is not None and p * layers >= ALPHA:
        return Verdict(
            UNSURE, f"p {min(1.0, p * layers):.2g}, the best of {layers} layers counted in"
        )
    p = control_p(sweep)
    if p is not None and p > ALPHA:
        return Verdict(UNSURE, f"controls do as much: p {p:.2g}")
    if change.mean < 0:
        return Verdict(WRONG)
    return Verdict(LITTLE if inside else MOVES)


def control_p(sweep: Sweep) -> float | None:
    """p of the content effect by controls at the largest strength; ``None`` without."""
    groups = by_strength(sweep.effects)
    if not groups:
        return None
    return decisive(groups[max(groups, key=lambda key: (abs(key[0]), key[1]))])


def rules(small: float, *, several: bool, controls: bool) -> str:
    """How the words are chosen, for people."""
    text = (
        f"Moves: the 95 % interval lies beside 0; a little: all of it within ±{small:g}. Does not "
        f"move: it holds 0 and lies within ±{small:g}. Not surely: anything else"
    )
    text += (
        f"; also where, the choice of the best layer counted in, p over questions is {ALPHA:g} or "
        "more"
        if several
        else ""
    )
    if controls:
        return f"{text}; also where controls do as much (p above {ALPHA:g})."
    return (
        f"{text}. No controls were run: any vector of this length, or a letter, might do as much."
    )
