"""The table that plot_results.py prints: one row a behaviour, in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.data.kinds_of_test import Test
from utils.scores.subjects import Subject
from utils.scores.summary import shares_of_answers
from utils.scores.tables import extremes
from utils.stats import Estimate
from utils.text.numbers import signed, true_minus
from utils.text.terminal_tables import plain_table

BEST = "(best of the layers shown, chosen and measured on the same questions)"


def score_report(test: Test, subjects: Sequence[Subject], unit: str) -> str:
    """Each behaviour at its best layer, or the one there is: scores, and the change with 95 %."""
    rows, shown, several, unscored = [], [], False, []
    for subject in subjects:
        table, top = subject.tables[0], subject.top
        if top is None:
            continue
        several |= len(table.layers) > 1
        layer, change = top
        ends = sorted({table.swept_strengths[0], 0.0, table.swept_strengths[-1]})
        shown.append([signed(strength) for strength in ends])
        cells = [table.score((layer, strength)) for strength in ends]
        missing = {x: e.missing for x, e in zip(ends, cells, strict=True) if e and e.missing}
        if missing:
            counts = ", ".join(f"{count} at {signed(x)}" for x, count in missing.items())
            unscored.append(f"without a score: {subject.behavior.id} {counts}")
        scores = ["-" if e is None else f"{e.mean:.3f}" for e in cells]
        scores += [""] * (3 - len(scores))
        rows.append([subject.behavior.id, str(layer), *scores, with_interval(change)])
    if not rows:
        return ""
    alike = all(ends == shown[0] for ends in shown)
    titles = shown[0] if alike else ["lowest", "0", "highest"]
    header = ["behaviour", "layer", *titles, "change [95 %]"]
    rows = [[*row[: 2 + len(titles)], row[-1]] for row in rows]
    text = plain_table(header, rows, title=f"{test.score_name} by {unit}")
    return "\n".join([text, *unscored, *([BEST] if several else [])])


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
        cells = ["-" if e is None else with_interval(e, 2) for e in effects]
        cells.append("-" if share is None else f"{share:.2f}")
        consistent = [table.effect("consistent", c) for c in ((top[0], 0.0), low, high)]
        cells.append(" ".join("-" if e is None else f"{e.mean:.2f}" for e in consistent))
        rows.append([subject.behavior.id, *cells])
    if not rows:
        return ""
    header = ["behaviour", "content [95 %]", "letter [95 %]", "letter share", "consistent"]
    title = "change in logits; consistent: unsteered, lowest, highest"
    return plain_table(header, rows, title=title)


def answers_report(test: Test, subjects: Sequence[Subject], unit: str) -> str:
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
    header = ["behaviour", "layer", f"{unit}s", "ends %", "loops %", "words"]
    return plain_table(header, rows)


def _texts(shares: Mapping[str, float]) -> list[str]:
    return [f"{100 * shares['ends']:.0f}", f"{100 * shares['loops']:.0f}", f"{shares['words']:.0f}"]


def with_interval(e: Estimate, digits: int = 3) -> str:
    """A change with its interval, ``[-]`` where there is none."""
    mean, low, high = (f"{value:+.{digits}f}" for value in (e.mean, e.low, e.high))
    return true_minus(f"{mean} [{low}, {high}]") if e.has_interval else true_minus(mean) + " [-]"
