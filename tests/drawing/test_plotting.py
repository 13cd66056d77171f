"""Pictures: what a reader needs to tell lines apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from utils.drawing import plotting
from utils.drawing.line_plots import line_figure
from utils.drawing.panels import Line, Panel
from utils.stats import Estimate


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The legend and the lines of each figure, at the moment it is saved."""
    kept: list[dict[str, Any]] = []

    def keep(figure: Figure, _path: Path) -> None:
        own = [a.get_legend() for a in figure.axes]
        every = [*figure.legends, *(x for x in own if x is not None)]
        legends = [[t.get_text() for t in x.get_texts()] for x in every]
        colors = [{x.get_label(): x.get_color() for x in a.lines} for a in figure.axes]
        boxes = [x.get_window_extent() for x in every]
        fits = all(b.x0 >= 0 and b.x1 <= figure.bbox.x1 for b in boxes)
        kept.append({"legends": legends, "colors": colors, "fits": fits})

    monkeypatch.setattr(plotting, "save_figure", keep)
    return kept


def panel(*labels: str) -> Panel:
    point = Estimate(0.5, 0.4, 0.6, 9)
    return Panel([Line(label, [0, 1], [point, point]) for label in labels], "layer", "score")


def test_the_legend_names_lines_that_only_a_later_panel_has(
    drawn: list[dict[str, Any]], tmp_path: Path
) -> None:
    line_figure([panel("plain"), panel("finetuned", "plain"), panel("plain")], tmp_path / "a.png")
    assert drawn[0]["legends"] == [["plain", "finetuned"]]
    first, second, *_ = drawn[0]["colors"]
    assert first["plain"] == second["plain"] != second["finetuned"]


def test_one_kind_of_line_needs_no_legend(drawn: list[dict[str, Any]], tmp_path: Path) -> None:
    line_figure([panel("plain"), panel("plain")], tmp_path / "a.png")
    assert drawn[0]["legends"] == []


@pytest.mark.parametrize("length", [4, 17, 26, 40])
@pytest.mark.parametrize("panels", [1, 4])
def test_the_legend_fits_into_the_figure(
    drawn: list[dict[str, Any]], tmp_path: Path, length: int, panels: int
) -> None:
    labels = [letter + "n" * (length - 1) for letter in "abc"]
    line_figure([panel(*labels)] * panels, tmp_path / "a.png")
    assert drawn[0]["legends"] == [labels]
    assert drawn[0]["fits"]
