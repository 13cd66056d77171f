"""The figure of a choice: a picture, the same bytes every time, no formula in its texts."""

from __future__ import annotations

from typing import Any

import pytest

from utils.drawing import tuning_plots
from utils.drawing.style import Text
from utils.drawing.tuning_plots import Dot, tuning_figure
from utils.stats import Estimate


def dots(count: int) -> list[Dot]:
    effects = [Estimate(n / 9, n / 10, n / 8, 25) for n in range(count)]
    return [
        Dot(n % 4, 0.1 * (1 + n // 4), effect, 0.002 * n, n % 4 == 3, n < 2, n == 1)
        for n, effect in enumerate(effects)
    ]


def draw(count: int, budget: float = 0.01) -> bytes:
    return tuning_figure(dots(count), budget=budget, unit="dose", title="calm: layer 1", note="So")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("count", "budget"), [(12, 0.01), (1, 0.0), (2, float("inf"))])
def test_few_cells_and_any_budget_are_drawn(count: int, budget: float) -> None:
    assert draw(count, budget)[:4] == b"\x89PNG"


def test_the_texts_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    whole = tuning_plots.png

    def png(figure: Any) -> bytes:
        data = whole(figure)
        texts.extend(text.get_text() for text in figure.findobj(Text))
        return data

    monkeypatch.setattr(tuning_plots, "png", png)
    assert draw(12) == draw(12)
    assert "calm: layer 1" in texts and "0.01" in texts and "chosen" in texts
    assert not [text for text in texts if "$" in text]
