"""The table that plot_results.py prints: one row a behaviour, in 80 columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from utils.data.kinds_of_test import Test
from utils.files.names import Variant
from utils.scores.subjects import Subject
from utils.scores.summary import shares_of_answers
from utils.scores.tables import extremes, of_a_try
from utils.stats import Estimate
from utils.text.numbers import signed, true_minus, with_interval
from utils.text.terminal_tables import plain_table


def score_report(test: Test, subjects: Sequence[Subject], base: Variant) -> str:
    """Each behaviour at its best layer, or the one there is: scores, and the change with 95 %.

    Args:
        test: what was measured.
        subjects: the behaviours.
        base: what their results have in common.
    """
    rows, shown, unscored = [], [], []
    counts = {len(s.tables[0].layers) for s in subjects if s.top is not None}
    for subject in subjects:
        table, top = subject.tables[0], subject.top
        if top is None:
            continue
        layer, change = top
        ends = sorted({table.swept_strengths[0], 0.0, table.swept_strengths[-1]})
        shown.append([signed(strength) for strength in ends])
        cells = [table.score((layer, strength)) for strength in ends]
        missing = {x: e.missing for x, e in zip(ends, cells, strict=True) if e and e.missing}
        if missing:
            lacking = ", ".join(f"{count} at {signed(x)}" for x, count in missing.items())
            unscored.append(f"without a score: {subject.behavior.id} {lacking}")
        scores = ["-" if e is None else f"{e.mean:.3f}" for e in cells]
        scores += [""] * (3 - len(scores))
        rows.append([subject.behavior.id, str(layer), *scores, change_text(change)])
    if not rows:
        return ""
    alike = all(ends == shown[0] for ends in shown)
    titles = shown[0] if alike else ["lowest", "0", "highest"]
    header = ["behaviour", "layer", *titles, "change [95 %]"]
    rows = [[*row[: 2 + len(titles)], row[-1]] for row in rows]
    title = f"{test.score_name} by {base.unit}{of_a_try(base)}"
    text = plain_table(header, rows, title=title)
    return "\n".join([text, *unscored, *selection("change", counts)])


def selection(what: str, layers: Collection[int]) -> list[str]:
    """What one must know of a layer chosen for what is shown of it; nothing of a single layer.

    Args:
        what: is the largest there.
        layers: how many it was chosen from, of each behaviour.
    """
    most = max(layers, default=0)
    if most < 2:
        return []
    of = f"{most}" if min(layers) == most else f"up to {most}"
    return [f"(the layer with the largest {what} of {of}, chosen on these same questions)"]


def orders_report(subjects: Sequence[Subject]) -> str:
    """What changed of content and letter, a row a behaviour at its best layer; or nothing.

    From the lowest strength to the highest; the last column is the share of questions in which
    one content wins in both orders, without steering and at these two.
    """
    rows = []
    for subject in subjects:
        table, top = subject.tables[0], subject.top
        if top is None or not table.variant.both_orders:
            continue
        low, high = ((top[0], table.swept_strengths[i]) for i in (0, -1))
        effects = [table.effect(name, high, low) for name in ("content", "letter")]
        share = table.letter_share(high, low)
        cells = ["-" if e is None else change_text(e, 2) for e in effects]
        cells.append("-" if share is None else f"{share:.2f}")
        consistent = [table.effect("consistent", c) for c in ((top[0], 0.0), low, high)]
        cells.append(" ".join("-" if e is None else f"{e.mean:.2f}" for e in consistent))
        rows.append([subject.behavior.id, *cells])
    if not rows:
        return ""
    header = ["behaviour", "content [95 %]", "letter [95 %]", "letter share", "consistent"]
    title = "change in logits at the same layer; consistent: unsteered, lowest, highest"
    title += of_a_try(subjects[0].tables[0].variant)
    return plain_table(header, rows, title=title)


def answers_report(test: Test, subjects: Sequence[Subject], base: Variant) -> str:
    """What of open-ended answers needs no judge, a row a behaviour at one layer.

    Each column holds the lowest strength, 0 and the highest: the share that ends properly, the
    share that ends in a loop, and the mean length.
    """
    if not test.free_text:
        return ""
    rows = []
    for subject in subjects:
        table = subject.tables[0]
        found = table.answers
        layer = subject.top[0] if subject.top else min(n for n, _ in found)
        strengths = {s for n, s in found if n == layer}
        shown = sorted({*extremes(sorted(strengths)), *({0.0} & strengths)}) or sorted(strengths)
        shares = [shares_of_answers(found[layer, s]) for s in shown]
        cells = [" ".join(each) for each in zip(*(_texts(s) for s in shares), strict=True)]
        named = " ".join(map(signed, shown))
        rows.append([subject.behavior.id, str(layer), named, *cells])
    header = ["behaviour", "layer", f"{base.unit}s", "ends %", "loops %", "words"]
    return plain_table(header, rows, title=f"answers{of_a_try(base)}")


def _texts(shares: Mapping[str, float]) -> list[str]:
    return [f"{100 * shares['ends']:.0f}", f"{100 * shares['loops']:.0f}", f"{shares['words']:.0f}"]


def change_text(e: Estimate, digits: int = 3) -> str:
    """A change with its interval, ``[-]`` where there is none."""
    return true_minus(with_interval(e, f"+.{digits}f")) + ("" if e.has_interval else " [-]")
