"""The first screen: what steering did in one sentence, and the table that says so."""

from __future__ import annotations

from collections.abc import Sequence

from utils.report.charts import forest_axis, forest_row, sign_class
from utils.report.markup import Html, data_table, joined, tag
from utils.report.panels import common_reach, reach_of
from utils.report.sweeps import Sweep, group_title
from utils.report.verdict import STILL, Verdict, control_p, rules, verdict
from utils.scores.control_report import by_strength, lines_of, narrow
from utils.scores.control_rows import CONTENT, LETTER
from utils.scores.score_report import change_text, selection
from utils.stats import Estimate
from utils.text.numbers import signed
from utils.vectors.control_names import DRAWN

CHANGE = "paired change of the mean {name} with 95 % interval"


def sentence(sweeps: Sequence[Sweep], model: str) -> str:
    """What steering did to the behaviours of the first group of sweeps, in one sentence or two."""
    found = [(s, v) for s in sweeps if (v := verdict(s)) is not None]
    if not found:
        return f"{model} was steered, and nothing was measured at two strengths of one layer."
    moved = [s for s, v in found if v.moves]
    if not moved:
        return _none_moves(found, model)
    most = max(moved, key=lambda s: abs(s.top[1].mean) if s.top else 0.0)
    assert most.top is not None and most.ends is not None
    what = most.behavior.name
    if len(found) > 1:
        what = f"{len(moved)} of {len(found)} behaviours, {what} most"
    low, high = most.ends
    scores = [most.table.score(cell) for cell in (low, high)]
    levels = [f"{e.mean:.{most.test.scale.digits}f}" for e in scores if e is not None]
    unit = most.variant.unit
    alone = "" if any(s.effects for s, _ in found) else " Nothing was run beside it as a control."
    text = (
        f"Steering {model} moves {what}: the mean {most.test.score_name} goes from {levels[0]} at "
        f"{unit} {signed(low[1])} to {levels[1]} at {unit} {signed(high[1])} (layer {low[0]})."
    )
    return text + alone


def _none_moves(found: Sequence[tuple[Sweep, Verdict]], model: str) -> str:
    """The same where nothing surely moves."""
    still = all(v.word == STILL for _, v in found)
    if len(found) == 1:
        name = found[0][0].behavior.name
        if still:
            return f"Steering {model} does not move {name}."
        return f"Whether steering {model} moves {name} is not sure."
    if still:
        return f"Steering {model} moves none of {len(found)} behaviours."
    unsure = sum(v.word != STILL for _, v in found)
    return f"Steering {model} surely moves none of {len(found)} behaviours ({unsure} not surely)."


def table(sweeps: Sequence[Sweep]) -> Html:
    """Every behaviour of one group: scores, the change with its interval, what to make of it."""
    rows = [
        (s, s.top[1], v)
        for s in by_effect(sweeps)
        if (v := verdict(s)) is not None and s.top is not None
    ]
    title = group_title(sweeps[0].variant)
    if not rows:
        return tag("p", f"{title}: one strength only, so nothing to compare.", class_="note")
    test = rows[0][0].test
    reach = common_reach([reach_of(e) for _, e, _ in rows], test.scale.change)
    ends = [_ends(s) for s, _, _ in rows]
    alike = all(each == ends[0] for each in ends)
    width = max(map(len, ends))
    titles = [signed(x) for x in ends[0]] if alike else ["lowest", "0", "highest"][:width]
    orders, controls = (any(map(has, sweeps)) for has in (_has_orders, _has_controls))
    head = ["behaviour", "verdict", forest_axis(reach), "change [95 %]", "layer", *titles]
    head += ["content [95 %]", "letter [95 %]"] if orders else []
    head += ["p, controls"] if controls else []
    body = []
    for (sweep, change, found), strengths in zip(rows, ends, strict=True):
        scores = [sweep.table.score((sweep.layer, x)) for x in strengths]
        digits = test.scale.digits
        texts = [change_text(change), str(sweep.layer)]
        texts += ["-" if e is None else f"{e.mean:.{digits}f}" for e in scores]
        texts += [""] * (width - len(scores)) + (_orders(sweep) if orders else [])
        if controls:
            p = control_p(sweep)
            texts.append("-" if p is None else f"{p:.3f}")
        name = tag("a", sweep.behavior.name, href=f"#{anchor(sweep.behavior.id)}")
        cells = [_verdict_cell(found, change), tag("td", forest_row(change, reach))]
        cells += [tag("td", text, class_="num") for text in texts]
        body.append(tag("tr", tag("th", name, scope="row"), cells))
    unit, score = sweeps[0].variant.unit, test.score_name
    caption = f"{score} at each {unit}, and the {CHANGE.format(name=score)}"
    return joined(
        tag("h3", title),
        data_table(head, body, label=title, caption=caption, class_="headline"),
        tag("p", _notes(sweeps), class_="note"),
        _beside_controls(sweeps),
    )


def by_effect(sweeps: Sequence[Sweep]) -> list[Sweep]:
    """The largest change first, those against the behaviour last."""
    return sorted(sweeps, key=lambda s: -s.top[1].mean if s.top is not None else 0.0)


def anchor(behavior: str) -> str:
    """The address of a behaviour's section within the page."""
    return f"behavior-{behavior}"


def _ends(sweep: Sweep) -> list[float]:
    swept = sweep.table.swept_strengths
    return sorted({swept[0], 0.0, swept[-1]})


def _has_orders(sweep: Sweep) -> bool:
    return sweep.variant.both_orders


def _has_controls(sweep: Sweep) -> bool:
    return bool(sweep.effects)


def _orders(sweep: Sweep) -> list[str]:
    """Change of content and of letter between the ends, as plot_results.py prints them."""
    if sweep.ends is None:
        return ["-", "-"]
    low, high = sweep.ends
    found = [sweep.table.effect(name, high, low) for name in (CONTENT, LETTER)]
    return ["-" if e is None else change_text(e, 2) for e in found]


def _verdict_cell(found: Verdict, change: Estimate) -> Html:
    kind = sign_class(change.mean) if found.moves else "zero"
    why = tag("small", found.why) if found.why else None
    return tag("td", tag("b", found.word), why, class_=f"verdict {kind}")


def _notes(sweeps: Sequence[Sweep]) -> str:
    """What one must know to read the table, the rules of its verdicts last."""
    test = sweeps[0].test
    chosen = selection("change", {len(s.table.layers) for s in sweeps})
    counts = sorted({s.top[1].n for s in sweeps if s.top is not None})
    asked = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [f"{asked} questions a behaviour; change: from the lowest to the highest strength."]
    parts += [note.strip("()").capitalize() + "." for note in chosen]
    beyond = {s.behavior.id: s.table.beyond_ab for s in sweeps if s.table.beyond_ab}
    parts += [f"{b}: {n} questions match neither A nor B and count 0." for b, n in beyond.items()]
    controls = any(map(_has_controls, sweeps))
    parts.append(rules(test.scale.change, several=bool(chosen), controls=controls))
    return " ".join(parts)


def _beside_controls(sweeps: Sequence[Sweep]) -> Html | None:
    """Effects beside those of control vectors: the rows that plot_results.py --controls prints."""
    tried = [s for s in sweeps if s.effects]
    if not tried:
        return None
    rows = [
        line
        for sweep in tried
        for swept in by_strength(sweep.effects).values()
        for line in lines_of(sweep.behavior.name, swept, sweep.variant.unit, sweep.tuned)
    ]
    title, head, rows = narrow(rows, tried[0].variant.unit)
    body: list[Html] = []
    for name, *texts in rows:
        cells = [tag("td", text, class_="num") for text in texts]
        kind = "control" if name.startswith(" ") else None
        body.append(tag("tr", tag("th", name.strip(), scope="row"), cells, class_=kind))
    counts = {
        kind: max(len(e.controls.draws(kind, CONTENT)) for s in tried for e in s.effects)
        for kind in DRAWN
    }
    draws = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    caption = (
        f"Beside their controls: {title}, in logits; of both signs half of what lies between them. "
        f"Every question in both orders of its choices. Draws: {draws or 'none'}."
    )
    label = "Effects beside those of controls"
    return data_table(head, body, label=label, caption=caption, class_="controls")
