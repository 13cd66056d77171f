"""The effects of vectors beside those of their controls, as a table for people and as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from utils.files.names import Variant
from utils.files.paths import Paths
from utils.permutation import FEWEST_DRAWS, holm
from utils.scores.control_effects import Controls, Effect, effects_of, p_max, read_controls
from utils.scores.control_rows import CONTENT, LETTER, QUANTITIES
from utils.scores.score_report import selection
from utils.scores.tables import of_a_try
from utils.scores.tuned import Tuned, read_tuned
from utils.stats import Estimate
from utils.sweeps.control_sweep import ControlSweep
from utils.text.number_tables import estimate_cells
from utils.text.numbers import signed, true_minus, with_interval
from utils.text.terminal_tables import plain_table
from utils.vectors.control_names import DRAWN, KINDS

Floats = NDArray[np.float64]
ALPHA = 0.05
HEADER = ["vector", "layer", "strength", "dose", "quantity", "mean", "low95", "high95", "n"]
HEADER += ["p_random", "p_shuffled", "p_max"]


def controls_table(controls: Sequence[ControlSweep], label: str, paths: Paths) -> str:
    """The table at the end of a run of prompting_with_steering.py; empty without controls.

    Args:
        controls: what was measured.
        label: of the model.
        paths: where it lies.
    """
    places = {c.sweep.behavior: {n: c.path(n, paths) for n in c.cells} for c in controls}
    found = {behavior: effects_of(read_controls(cells)) for behavior, cells in places.items()}
    found = {behavior: effects for behavior, effects in found.items() if effects}
    if not found:
        return ""
    variant = controls[0].sweep.variant
    return controls_report(found, variant, read_tuned(found, variant, label, paths))


def controls_report(
    found: Mapping[str, Sequence[Effect]], variant: Variant, tuned: Mapping[str, Tuned]
) -> str:
    """Every behaviour at each strength, and below it its controls.

    Of several layers the one with the largest effect; p_max counts that choice in.

    Args:
        found: behaviour -> its effects.
        variant: whose.
        tuned: behaviour -> what tune.py measured of the same vectors, for the KL.
    """
    unit = variant.unit
    rows, notes, counts = [], [], set()
    for behavior, effects in found.items():
        for swept in by_strength(effects).values():
            counts.add(len(swept))
            rows += lines_of(behavior, swept, unit, tuned.get(behavior))
            notes += _notes(behavior, swept, unit)
        kept = effects[0].controls.kept
        if kept:
            asked = len(effects[0].controls.questions[CONTENT])
            notes.append(
                f"{behavior}: {kept} of {asked} questions have no other order of their choices "
                "and are left out"
            )
    every = [effect for effects in found.values() for effect in effects]
    drawn = [f"{_draws(every, kind)} {kind}" for kind in DRAWN if _draws(every, kind)]
    notes += [f"draws: {', '.join(drawn)}"] if drawn else []
    title, header, rows = narrow(rows, unit)
    title += of_a_try(variant)
    notes += corrected(found, unit)
    if max(counts) > 1:
        notes += selection("effect", counts)
        notes.append("(p max counts that choice in)")
    text = plain_table(header, rows, title=title)
    return "\n".join([text, *dict.fromkeys(notes)])


def narrow(rows: Sequence[Sequence[str]], unit: str) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows without what says nothing: one place for all, columns of dashes."""
    header = ["vector", "at", "effect [95 %]", "letter", "KL", "p random", "p shuffled", "p max"]
    places = {row[1] for row in rows} - {""}
    one = places.pop() if len(places) == 1 else None
    columns = [
        number
        for number, name in enumerate(header)
        if not (name == "at" and one) and {row[number] for row in rows} - {"", "-"}
    ]
    where = f"layer, {unit}" if one is None else f"layer {one.replace(',', f', {unit}')}"
    title = f"content effect at {where}; of controls median [2.5-97.5 %]"
    return title, [header[n] for n in columns], [[row[n] for n in columns] for row in rows]


def by_strength(effects: Sequence[Effect]) -> dict[tuple[float, bool], list[Effect]]:
    """Strength and whether both signs were measured -> the effects of all layers."""
    found: dict[tuple[float, bool], list[Effect]] = {}
    for effect in effects:
        found.setdefault((effect.strength, effect.both), []).append(effect)
    return found


def strength_text(effect: Effect) -> str:
    return f"\N{PLUS-MINUS SIGN}{effect.strength:g}" if effect.both else signed(effect.strength)


def strongest(effects: Sequence[Effect]) -> Effect:
    """The largest content effect of some."""

    def size(effect: Effect) -> float:
        own = effect.controls.estimate(CONTENT)
        return abs(own.mean) if own is not None else -1.0

    return max(effects, key=size)


def band(values: Floats) -> Estimate | None:
    """Median and 2.5-97.5 % of controls; ``None`` for none. NaN is left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, middle, high = np.percentile(known, [2.5, 50, 97.5])
    return Estimate(float(middle), float(low), float(high), int(known.size))


def corrected(found: Mapping[str, Sequence[Effect]], unit: str) -> list[str]:
    """p of each behaviour corrected for their number, a line for each strength; for several only.

    p_max where several layers were measured, else p_shuffled, else p_random.
    """
    lines = []
    for at, swept in _families(found).items():
        values = {b: decisive(each) for b, each in swept.items()}
        known = {b: p for b, p in values.items() if p is not None}
        if len(known) < 2:
            continue
        texts = [
            f"{behavior} {p:.3f}"
            for behavior, p in zip(known, holm(list(known.values())), strict=True)
        ]
        lines.append(f"p at {unit} {at}, Holm over {len(known)} behaviours: {', '.join(texts)}")
        draws = max(_draws(each) for each in swept.values())
        if len(known) / (draws + 1) > ALPHA:
            enough = int(np.ceil(len(known) / ALPHA)) - 1
            lines.append(
                f"({draws} draws allow none below {len(known) / (draws + 1):.2f} there; "
                f"--control_draws {enough} would)"
            )
    return lines


def _families(found: Mapping[str, Sequence[Effect]]) -> dict[str, dict[str, list[Effect]]]:
    """What is corrected together: strength -> behaviour -> effects of all layers.

    Behaviours with one strength each, their own (tuned), are one family.
    """
    of = {behavior: by_strength(effects) for behavior, effects in found.items()}
    if all(len(each) == 1 for each in of.values()):
        alone = {behavior: next(iter(each.values())) for behavior, each in of.items()}
        texts = {strength_text(swept[0]) for swept in alone.values()}
        return {texts.pop() if len(texts) == 1 else "of each": alone}
    families: dict[str, dict[str, list[Effect]]] = {}
    for behavior, each in of.items():
        for swept in each.values():
            families.setdefault(strength_text(swept[0]), {})[behavior] = swept
    return families


def effect_rows(effects: Sequence[Effect], doses: Mapping[int, float]) -> list[list[str]]:
    """All numbers, a line for each vector, kind or control and quantity; see ``HEADER``.

    Args:
        effects: of one vector.
        doses: layer -> the dose of strength 1, where it is known.
    """
    rows = []
    for swept in by_strength(effects).values():
        largest = {quantity: p_max(swept, quantity) for quantity in QUANTITIES}
        for effect in swept:
            strength = strength_text(effect) if effect.both else f"{effect.strength:+g}"
            factor = doses.get(effect.layer)
            dose = "-" if factor is None else f"{abs(effect.strength) * factor:.6g}"
            place = [str(effect.layer), strength, dose]
            own = effect.controls
            for quantity in QUANTITIES:
                ps = [effect.p(kind, quantity) for kind in DRAWN] + [largest[quantity]]
                texts = ["-" if p is None else f"{p:.6g}" for p in ps]
                line = _numbers(own.estimate(quantity))
                rows.append([own.vector, *place, quantity, *line, *texts])
                rows += [
                    [name, *place, quantity, *_numbers(each), *["-"] * 3]
                    for name, each in _of_controls(own, quantity)
                ]
    return rows


def _of_controls(own: Controls, quantity: str) -> list[tuple[str, Estimate | None]]:
    """A line for each kind that is drawn, and for each control of the others."""
    drawn = [(kind, band(own.draws(kind, quantity))) for kind in DRAWN]
    found = [(f"{kind} ({e.n})", e) for kind, e in drawn if e is not None]
    single = [name for name in own.means if name.partition(":")[0] not in DRAWN]
    values = [np.array([own.means[name][quantity]]) for name in single]
    return [*found, *zip(single, map(band, values), strict=True)]


def _numbers(e: Estimate | None) -> list[str]:
    return ["-"] * 4 if e is None else estimate_cells(e)


def _kl(effect: Effect, unit: str, tuned: Tuned | None) -> float | None:
    """As tune.py measured it, if it did so of this very vector."""
    sha256 = effect.controls.sha256
    if tuned is None or sha256 is None or tuned.vectors.get(effect.layer) != sha256:
        return None
    return tuned.kl(effect.layer, effect.strength, unit, both=effect.both)


def lines_of(
    behavior: str, swept: Sequence[Effect], unit: str, tuned: Tuned | None
) -> list[list[str]]:
    """A behaviour at one strength and its strongest layer, and below it a line a kind of control.

    The columns: vector, where, effect on content with its interval, letter, KL, and the three p.

    Args:
        behavior: whose; its name.
        swept: its effects at one strength, a layer each.
        unit: of strengths.
        tuned: what tune.py measured, for the KL.
    """
    effect = strongest(swept)
    kl = _kl(effect, unit, tuned)
    own = effect.controls
    ps = [effect.p("random"), effect.p("shuffled"), p_max(swept)]
    at = f"{effect.layer}, {strength_text(effect)}"
    estimates = own.estimate(CONTENT), own.estimate(LETTER)
    numbers = ["-" if kl is None else f"{kl:.2g}", *("-" if p is None else f"{p:.3f}" for p in ps)]
    rows = [[behavior, at, *_pair(*estimates), *numbers]]
    for kind in KINDS:
        content, letter = (band(own.draws(kind, quantity)) for quantity in (CONTENT, LETTER))
        if content is not None:
            rows.append([f"  {kind}", "", *_pair(content, letter), "", "", "", ""])
    return rows


def _pair(content: Estimate | None, letter: Estimate | None) -> tuple[str, str]:
    """Content with its interval, and letter."""
    if content is None or letter is None:
        return "-", "-"
    return true_minus(with_interval(content, "+.3f")), signed(letter.mean, "+.3f")


def _notes(behavior: str, swept: Sequence[Effect], unit: str) -> list[str]:
    """What one must know of draws: too few of them, or some that broke the model."""
    notes = []
    for kind in DRAWN:
        draws = _draws(swept, kind)
        if 0 < draws < FEWEST_DRAWS:
            notes.append(f"(fewer than {FEWEST_DRAWS} draws give no p)")
        broken = {e.layer: e.broken(kind) for e in swept if e.broken(kind)}
        if broken:
            where = ", ".join(f"{count} at layer {layer}" for layer, count in broken.items())
            notes.append(
                f"{behavior}, {unit} {strength_text(swept[0])}: {kind} controls that broke the "
                f"model (NaN) count as larger: {where}"
            )
    return notes


def _draws(swept: Sequence[Effect], *kinds: str) -> int:
    """How many controls there are of the kinds that are drawn, the most of any layer."""
    return max(len(e.controls.draws(k, CONTENT)) for e in swept for k in kinds or DRAWN)


def decisive(swept: Sequence[Effect]) -> float | None:
    """p of one strength at all its layers: the hardest there is, the choice of a layer counted."""
    found = [p_max(swept)] if len(swept) > 1 else [swept[0].p("shuffled"), swept[0].p("random")]
    return next((p for p in found if p is not None), None)
