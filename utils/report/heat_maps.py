"""A sweep as a map: a row a strength, a column a layer, each cell its number on a colour."""

from __future__ import annotations

from collections.abc import Sequence

from utils.report.charts import sign_class, signed_number
from utils.report.markup import Html, joined, tag
from utils.report.panels import Panel
from utils.stats import Estimate
from utils.text.numbers import signed

# Full colour would leave no text readable on it, black or white.
MOST_COLOUR = 75


def heat_map(
    panel: Panel,
    index: int,
    layer: int,
    layers: Sequence[int],
    strengths: Sequence[float],
    unit: str,
    limit: float,
) -> Html:
    """The changes of a panel over layers and strengths, as a table that the arrow keys move in.

    Args:
        panel: what is shown.
        index: of the panel in the page's data.
        layer: the one that is shown first; the keys begin at it.
        layers, strengths: columns and, from the highest, rows; 0 is left out: nothing changes.
        unit: of strengths.
        limit: the number at which colours end, either way.
    """
    steered = [s for s in reversed(strengths) if any(panel.cells.get((n, s)) for n in layers)]
    steered = [s for s in steered if s]
    head = tag(
        "tr",
        tag("th", f"{unit} \\ layer", scope="col"),
        [tag("th", str(n), scope="col", class_="at" if n == layer else None) for n in layers],
    )
    rows = [
        tag(
            "tr",
            tag("th", signed(s), scope="row"),
            [
                _cell(
                    panel, (n, s), f"{unit} {signed(s)}", limit, first=(n, s) == (layer, steered[0])
                )
                for n in layers
            ],
        )
        for s in steered
    ]
    caption = tag("caption", panel.title, " by layer and ", unit)
    table = tag(
        "table",
        joined(caption, tag("thead", head), tag("tbody", rows)),
        class_="heat",
        role="grid",
        aria_label=f"{panel.title} by layer and {unit}",
        data_panel=index,
    )
    return tag("div", table, class_="scroll")


def _cell(panel: Panel, cell: tuple[int, float], at: str, limit: float, *, first: bool) -> Html:
    e = panel.cells.get(cell)
    place = {"data_l": cell[0], "data_s": cell[1]}
    if e is None:
        return tag("td", "·", role="gridcell", tabindex=-1, **place)
    share = min(1.0, abs(e.mean) / limit) if limit else 0.0
    return tag(
        "td",
        short(e, panel.digits),
        role="gridcell",
        class_=sign_class(e.mean),
        style=f"--s:{round(MOST_COLOUR * share)}%",
        tabindex=0 if first else -1,
        aria_label=f"layer {cell[0]}, {at}: {signed_number(e.mean, panel.digits)}",
        aria_selected="false",
        **place,
    )


def short(e: Estimate, digits: int) -> str:
    """A number as a narrow column has room for it: ``+.36``."""
    digits = min(digits, 2)
    text = signed_number(e.mean, digits)
    if not round(e.mean, digits):
        return "0"
    return text.replace("0.", ".", 1) if abs(e.mean) < 1 and text[1] == "0" else text
