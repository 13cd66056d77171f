"""The page as one file: first screen, a section a behaviour, what was not run, every record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from behaviors import Behavior
from utils.files.names import Variant, other_unit
from utils.files.paths import Paths
from utils.report import headline
from utils.report.answers import answers
from utils.report.charts import dose_chart, layer_chart
from utils.report.choices import choice
from utils.report.heat_maps import heat_map
from utils.report.markup import Html, document, joined, safe_json, tag
from utils.report.panels import Panel, data_of, numbers_of, panels_of, reaches
from utils.report.records import records
from utils.report.sweeps import Sweep, by_group, group_title
from utils.report.verdict import verdict
from utils.scores.score_report import change_text


@dataclass(frozen=True)
class Content:
    """All that a page shows.

    Attributes:
        model: its name.
        behaviors: those that anything was measured of, and those that were asked for.
        sweeps: of all, in the order of the page.
        choices: behaviour -> the file of tune.py's choice.
        tokens: behaviour -> its token heat maps.
        missing: what was not run, and the command that runs it.
        places: every file that the page is made from.
        limit: answers shown of a behaviour.
    """

    model: str
    behaviors: Sequence[Behavior]
    sweeps: Sequence[Sweep]
    choices: Mapping[str, Path]
    tokens: Mapping[str, Html]
    missing: Sequence[tuple[str, str]]
    places: Sequence[Path]
    limit: int


def page(content: Content, paths: Paths) -> bytes:
    """The whole file; the same content gives the same bytes.

    Raises:
        UserError: a record or a choice that cannot be read.
    """
    groups = by_group(content.sweeps)
    compared = [g for g in groups if any(s.top is not None for s in g)]
    axes = reaches(groups)
    first = headline.by_effect(compared[0]) if compared else []
    order = {sweep.behavior.id: place for place, sweep in enumerate(first)}
    by_place = sorted(content.behaviors, key=lambda b: order.get(b.id, len(order)))
    content = replace(content, behaviors=by_place)
    lead = headline.sentence(compared[0], content.model) if compared else _nothing_compared(content)
    body = joined(
        tag(
            "header",
            tag("h1", "Report of a sweep"),
            tag("p", lead, class_="lead"),
            tag("p", _what_is_shown(), class_="note"),
        ),
        tag("nav", _links(content), aria_label="Parts of this page"),
        tag(
            "main",
            _summary(compared),
            [_behavior(b, content, axes) for b in content.behaviors],
            _missing(content.missing),
            _records(content, paths),
        ),
        tag("script", safe_json(_data(content)), type="application/json", id="data"),
    )
    return document(f"Steering {content.model}", body)


def _nothing_compared(content: Content) -> str:
    if not content.sweeps:
        return f"A layer and a strength were chosen for {content.model}; nothing else was run."
    return f"{content.model} was steered; no scores at two strengths can be compared yet."


def _what_is_shown() -> str:
    return (
        "A behaviour's vector was added to the residual stream of one layer. The numbers are "
        f"scores, and the {headline.CHANGE.format(name='P(matching)')}: the same questions, "
        "steered and not. Blue is steering against the behaviour, orange towards it, grey neither."
    )


def _links(content: Content) -> list[Html]:
    links = [(headline.anchor(b.id), b.name) for b in content.behaviors]
    links = [("summary", "Summary"), *links, ("missing", "Not run"), ("records", "Records")]
    return [tag("a", text, href=f"#{where}") for where, text in links]


def _summary(groups: Sequence[Sequence[Sweep]]) -> Html:
    """The first group's table, and those of the other tests behind a line."""
    first, rest = groups[:1], groups[1:]
    more = None
    if rest:
        titles = "; ".join(group_title(g[0].variant) for g in rest)
        tables = [headline.table(group) for group in rest]
        more = tag("details", tag("summary", f"Other tests: {titles}"), tables, class_="more")
    return tag("section", [headline.table(g) for g in first], more, id="summary", tabindex=-1)


def _behavior(
    behavior: Behavior,
    content: Content,
    axes: Mapping[tuple[Variant, str], tuple[float, float]],
) -> Html:
    """All of one behaviour."""
    sweeps = [s for s in content.sweeps if s.behavior.id == behavior.id]
    scored = [s for s in sweeps if panels_of(s)]
    matching = f"Matching: {behavior.matching}." if behavior.matching else None
    path = content.choices.get(behavior.id)
    parts: list[Html | None] = []
    for number, sweep in enumerate(scored):
        figure = _sweep(sweep, axes)
        parts.append(figure if number == 0 else _folded(sweep, figure))
    replies = [part for s in sweeps if (part := answers(s, content.limit)) is not None]
    if not sweeps and path is None:
        parts.append(tag("p", "Nothing was measured yet.", class_="note"))
    return tag(
        "section",
        tag("h2", behavior.name),
        tag("p", matching, class_="note") if matching else None,
        parts,
        choice(path) if path is not None else None,
        tag("div", replies, class_="replies") if replies else None,
        content.tokens.get(behavior.id),
        class_="behavior",
        id=headline.anchor(behavior.id),
        tabindex=-1,
    )


def _folded(sweep: Sweep, figure: Html) -> Html:
    said = verdict(sweep)
    result = ""
    if said is not None and sweep.top is not None:
        result = f": {said.word}, {change_text(sweep.top[1])} at layer {sweep.layer}"
    title = group_title(sweep.variant) + result
    return tag("details", tag("summary", title), figure, class_="more")


def _sweep(sweep: Sweep, axes: Mapping[tuple[Variant, str], tuple[float, float]]) -> Html:
    """One sweep: its curves at a layer, the slider that chooses it, and the map of all layers."""
    panels = panels_of(sweep)
    unit, layers, strengths = sweep.variant.unit, sweep.layers, sweep.strengths
    reach = [axes[sweep.variant, p.quantity] for p in panels]
    charts = [
        dose_chart(p, i, sweep.layer, strengths, unit, reach[i]) for i, p in enumerate(panels)
    ]
    steered = [s for s in strengths if s]
    if len(layers) > 1:
        ends = sorted({steered[0], steered[-1]})
        wide = layer_chart(panels[0], sweep.layer, layers, ends, unit, reach[0])
        charts.insert(1, wide)
        slider = _slider(sweep)
        maps = [
            heat_map(p, i, sweep.layer, layers, strengths, unit, _limit(p, reach[i]))
            for i, p in enumerate(panels)
        ]
        below: Html = tag("div", maps, class_="maps")
    else:
        slider = tag("p", f"Layer {layers[0]}, the only one measured.", class_="note")
        below = joined()
    level = panels[0].level
    base = "" if level is None else f"; {_counted_from(sweep)} {level.mean:.{panels[0].digits}f}"
    return tag(
        "div",
        tag("h3", group_title(sweep.variant) + base),
        slider,
        tag("div", charts, class_="charts"),
        below,
        tag("p", tag("output", ""), class_="readout needs-js"),
        data_sweep=sweep.key,
    )


def _counted_from(sweep: Sweep) -> str:
    base = sweep.table.base_strength
    return "unsteered" if not base else f"at {sweep.variant.unit} {base:g}"


def _limit(panel: Panel, reach: tuple[float, float]) -> float:
    """The end of the colours: that of the axis, so that maps of all behaviours compare."""
    return max(map(abs, reach))


def _slider(sweep: Sweep) -> Html:
    layers = sweep.layers
    box = tag(
        "input",
        type="range",
        min=0,
        max=len(layers) - 1,
        step=1,
        value=layers.index(sweep.layer),
        aria_valuetext=f"layer {sweep.layer}",
        aria_label=f"layer of {sweep.behavior.name}, {group_title(sweep.variant)}",
    )
    return joined(
        tag(
            "div",
            tag("span", "layer", aria_hidden="true"),
            box,
            tag("output", str(sweep.layer)),
            class_="slider needs-js",
        ),
        tag("noscript", tag("p", f"Layer {sweep.layer}.", class_="note")),
    )


def _missing(missing: Sequence[tuple[str, str]]) -> Html:
    rows = [tag("li", f"{what}: ", tag("code", command)) for what, command in missing]
    body = tag("ul", rows) if rows else tag("p", "Everything that this page can show was run.")
    return tag("section", tag("h2", "Not run"), body, id="missing", class_="missing", tabindex=-1)


def _records(content: Content, paths: Paths) -> Html:
    return tag(
        "section",
        tag("h2", "Records"),
        tag(
            "p",
            "Every command that made what is shown, what it was made from, and the hashes.",
            class_="note",
        ),
        tag(
            "details",
            tag("summary", f"{len(content.places)} files"),
            records(content.places, paths.artifacts),
        ),
        id="records",
        class_="records",
        tabindex=-1,
    )


def _data(content: Content) -> dict[str, object]:
    """What the script moves: the numbers of every sweep that has pictures, to 5 digits."""
    found: dict[str, object] = {}
    for sweep in content.sweeps:
        panels = panels_of(sweep)
        if not panels:
            continue
        layers, strengths = sweep.layers, sweep.strengths
        levels = {
            str(n): [
                None if (e := sweep.table.score((n, s))) is None else numbers_of(e)
                for s in strengths
            ]
            for n in layers
        }
        found[sweep.key] = {
            "unit": sweep.variant.unit,
            "other": other_unit(sweep.variant.unit),
            "factors": {str(n): f for n in layers if (f := sweep.table.factor(n)) is not None},
            "layers": layers,
            "strengths": strengths,
            "layer": sweep.layer,
            "score": sweep.test.score_name,
            "panels": [data_of(panel, layers, strengths) for panel in panels],
            "levels": levels,
        }
    return {"sweeps": found}
