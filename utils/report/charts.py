"""Pictures as SVG that is read without a script: an effect against strength, a row of intervals.

The page's script moves what stands here, and draws nothing of its own: a picture's box and range
stand in its attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.report.markup import Html, joined, number, tag
from utils.report.panels import Panel, five, ticks
from utils.stats import Estimate
from utils.text.numbers import rounded, signed, true_minus

WIDTH, HEIGHT = 340, 226
LEFT, TOP, RIGHT, BOTTOM, INSIDE = 44, 26, 298, 184, 26
WIDE, WIDE_RIGHT = 560, 548
FOREST_WIDTH, FOREST_HEIGHT = 190, 22
# More values would run into one another.
MOST_VALUES, MOST_TICKS = 7, 9


class Axes:
    """From numbers to coordinates.

    Args:
        strengths: on the x axis.
        reach: lowest and highest number on the y axis.
    """

    def __init__(self, strengths: Sequence[float], reach: tuple[float, float]) -> None:
        # as many digits as the page's script has
        self.low, self.high = (float(f"{end:.6g}") for end in reach)
        self.first = min(strengths)
        self.span = (max(strengths) - self.first) or 1.0

    def x(self, strength: float) -> float:
        inner = RIGHT - LEFT - 2 * INSIDE
        return LEFT + INSIDE + inner * (strength - self.first) / self.span

    def y(self, value: float) -> float:
        return TOP + (BOTTOM - TOP) * (self.high - five(value)) / (self.high - self.low)


def sign_class(strength: float) -> str:
    return "pos" if strength > 0 else "neg" if strength < 0 else "zero"


def dose_chart(
    panel: Panel,
    index: int,
    layer: int,
    strengths: Sequence[float],
    unit: str,
    reach: tuple[float, float],
) -> Html:
    """A quantity against strength at one layer, with intervals, before the band of its controls.

    Args:
        panel: the quantity.
        index: of the panel in the page's data.
        layer: which.
        strengths: all of the sweep; those without a number are left out at this layer.
        unit: of strengths.
        reach: the y axis, one for all behaviours.
    """
    room = (reach[1] - reach[0]) * 0.06
    axes = Axes(strengths, (reach[0] - room, reach[1] + room))
    shown = [s for s in strengths if (layer, s) in panel.cells]
    texts = [
        f"{unit} {signed(s)}: {signed_number(panel.cells[layer, s].mean, panel.digits)}"
        for s in shown
    ]
    return tag(
        "svg",
        _grid(axes, panel),
        _x_axis(axes, strengths, unit),
        _band(axes, panel, layer, strengths),
        _curve(axes, panel, layer, strengths),
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{panel.title} at layer {layer}. {'; '.join(texts)}",
        data_panel=index,
        data_box=f"{TOP} {BOTTOM}",
        data_range=f"{axes.low!r} {axes.high!r}",
    )


def signed_number(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return true_minus(text) if float(text) else text[1:]


def _grid(axes: Axes, panel: Panel) -> Html:
    parts = [tag("text", panel.title, x=LEFT, y=14, class_="title")]
    for value in ticks(axes.low, axes.high):
        y = number(axes.y(value))
        kind = "grid" if abs(value) > 1e-12 else "grid base"
        parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_=kind))
        parts.append(tag("text", tick_text(value), x=LEFT - 5, y=y, class_="tick end"))
        if panel.level is not None:
            level = rounded(panel.level.mean + value, 2)
            parts.append(tag("text", level, x=RIGHT + 5, y=y, class_="tick"))
    if panel.level is not None:
        parts.append(tag("text", "level", x=RIGHT + 5, y=14, class_="tick"))
    return joined(parts)


def _x_axis(axes: Axes, strengths: Sequence[float], unit: str) -> Html:
    some = strengths
    if len(strengths) > MOST_TICKS:
        some = sorted({strengths[0], strengths[-1], *({0.0} & set(strengths))})
    parts = [
        tag("text", signed(s), x=number(axes.x(s)), y=BOTTOM + 16, class_="tick mid") for s in some
    ]
    middle = number((LEFT + RIGHT) / 2)
    return joined(parts, tag("text", unit, x=middle, y=HEIGHT - 6, class_="axis mid"))


def _band(axes: Axes, panel: Panel, layer: int, strengths: Sequence[float]) -> Html | None:
    if not panel.band:
        return None
    found = [(axes.x(s), panel.band[layer, s]) for s in strengths if (layer, s) in panel.band]
    upper = [f"{number(x)},{number(axes.y(e.high))}" for x, e in found]
    lower = [f"{number(x)},{number(axes.y(e.low))}" for x, e in reversed(found)]
    path = f"M{' L'.join([*upper, *lower])} Z" if found else ""
    x = number(axes.x(strengths[-1]) - 4)
    label = f"grey: {panel.behind}, 2.5 to 97.5 %"
    return joined(
        tag("path", d=path, class_="band"),
        tag("text", label, x=x, y=BOTTOM - 4, class_="tick end"),
    )


def _curve(axes: Axes, panel: Panel, layer: int, strengths: Sequence[float]) -> Html:
    values = len(strengths) <= MOST_VALUES
    line, points = [], []
    for place, strength in enumerate(strengths):
        e = panel.cells.get((layer, strength))
        x, y = axes.x(strength), axes.y(0.0 if e is None else e.mean)
        ends = (y, y)
        if e is not None:
            line.append(f"{number(x)},{number(y)}")
            ends = (axes.y(e.high), axes.y(e.low)) if e.has_interval else (y, y)
        text = "" if e is None else signed_number(e.mean, panel.digits)
        points.append(
            tag(
                "g",
                tag("line", x1=number(x), x2=number(x), y1=number(ends[0]), y2=number(ends[1])),
                tag("circle", cx=number(x), cy=number(y), r=3.6),
                tag("text", text, x=number(x), y=number(ends[0] - 5), class_="value mid")
                if values and strength
                else None,
                class_=f"pt {sign_class(strength)}",
                data_i=place,
                data_x=number(x),
                visibility=None if e is not None else "hidden",
            )
        )
    return joined(tag("path", d=f"M{' L'.join(line)}", class_="curve"), points)


def layer_chart(
    panel: Panel,
    layer: int,
    layers: Sequence[int],
    ends: Sequence[float],
    unit: str,
    reach: tuple[float, float],
) -> Html:
    """A quantity against layer at the outer strengths, with intervals and a mark at one layer.

    Args:
        panel: the quantity.
        layer: where the mark stands.
        layers: the x axis.
        ends: the strengths, a line each.
        unit: of strengths.
        reach: the y axis.
    """
    room = (reach[1] - reach[0]) * 0.06
    axes = Axes([0.0], (reach[0] - room, reach[1] + room))
    span = (WIDE_RIGHT - LEFT - 20) / (layers[-1] - layers[0])
    xs = {n: LEFT + 10 + span * (n - layers[0]) for n in layers}
    parts = [tag("text", f"{panel.title}, by layer", x=LEFT, y=14, class_="title")]
    for value in ticks(axes.low, axes.high):
        kind = "grid" if abs(value) > 1e-12 else "grid base"
        y = number(axes.y(value))
        parts.append(tag("line", x1=LEFT, x2=WIDE_RIGHT, y1=y, y2=y, class_=kind))
        parts.append(tag("text", tick_text(value), x=LEFT - 5, y=y, class_="tick end"))
    shown = [n for n in layers if n % 5 == 0] if len(layers) > 12 else layers
    parts += [tag("text", str(n), x=number(xs[n]), y=BOTTOM + 16, class_="tick mid") for n in shown]
    parts.append(tag("text", "layer", x=(LEFT + WIDE_RIGHT) / 2, y=HEIGHT - 6, class_="axis mid"))
    at = number(xs[layer])
    parts.append(tag("line", x1=at, x2=at, y1=TOP, y2=BOTTOM, class_="cursor"))
    parts += [_over_layers(axes, panel, xs, s, f"{unit} {signed(s)}") for s in ends]
    return tag(
        "svg",
        parts,
        class_="layers",
        viewBox=f"0 0 {WIDE} {HEIGHT}",
        role="img",
        aria_label=f"{panel.title} by layer at {unit} {' and '.join(map(signed, ends))}; the "
        "numbers stand in the table below",
        data_xs=" ".join(number(xs[n]) for n in layers),
    )


def _over_layers(
    axes: Axes, panel: Panel, xs: Mapping[int, float], strength: float, label: str
) -> Html:
    """One strength: a line in the band of its intervals, named where it is farthest from 0."""
    found = [(n, panel.cells[n, strength]) for n in xs if (n, strength) in panel.cells]
    if not found:
        return joined()
    points = [(xs[n], e) for n, e in found]
    line = [f"{number(x)},{number(axes.y(e.mean))}" for x, e in points]
    wide = [(x, e) for x, e in points if e.has_interval]
    upper = [f"{number(x)},{number(axes.y(e.high))}" for x, e in wide]
    lower = [f"{number(x)},{number(axes.y(e.low))}" for x, e in reversed(wide)]
    x, e = max(points, key=lambda point: abs(point[1].mean))
    y = axes.y(e.high) - 6 if e.mean > 0 else axes.y(e.low) + 14
    return tag(
        "g",
        tag("path", d=f"M{' L'.join([*upper, *lower])} Z", class_="ribbon") if wide else None,
        tag("path", d=f"M{' L'.join(line)}", class_="line"),
        tag("text", label, x=number(x), y=number(y), class_=f"value {_side(x)}"),
        class_=sign_class(strength),
    )


def _side(x: float) -> str:
    """How a text at x is set so that it stays within a wide picture."""
    return "" if x < LEFT + 40 else "end" if x > WIDE_RIGHT - 40 else "mid"


def tick_text(value: float) -> str:
    return true_minus(f"{value:+g}") if abs(value) > 1e-12 else "0"


def forest_row(e: Estimate, reach: tuple[float, float]) -> Html:
    """One change with its interval, on the axis that all rows of a table share."""

    def x(value: float) -> float:
        return 6 + (FOREST_WIDTH - 12) * (value - reach[0]) / (reach[1] - reach[0])

    middle = FOREST_HEIGHT / 2
    zero, dot = number(x(0.0)), number(x(e.mean))
    ends = (x(e.low), x(e.high)) if e.has_interval else (x(e.mean), x(e.mean))
    kind = "zero" if e.low <= 0 <= e.high else sign_class(e.mean)
    return tag(
        "svg",
        tag("line", x1=zero, x2=zero, y1=0, y2=FOREST_HEIGHT, class_="grid base"),
        tag("line", x1=number(ends[0]), x2=number(ends[1]), y1=middle, y2=middle, class_="ci"),
        tag("circle", cx=dot, cy=middle, r=4),
        class_=f"forest {kind}",
        viewBox=f"0 0 {FOREST_WIDTH} {FOREST_HEIGHT}",
        aria_hidden="true",
    )


def forest_axis(reach: tuple[float, float]) -> Html:
    """The axis of those rows."""

    def x(value: float) -> float:
        return 6 + (FOREST_WIDTH - 12) * (value - reach[0]) / (reach[1] - reach[0])

    shown = ticks(*reach, most=4)
    texts = [
        tag(
            "text",
            true_minus(f"{t:+.3g}") if abs(t) > 1e-12 else "0",
            x=number(x(t)),
            y=14,
            class_="tick mid",
        )
        for t in shown
    ]
    box = f"0 0 {FOREST_WIDTH} 18"
    return tag("svg", texts, class_="forest", viewBox=box, aria_hidden="true")
