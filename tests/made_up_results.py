"""Result files with made-up scores, and the figures that plot_results.py draws of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_json
from drawn_figures import watch

from behaviors import Behavior
from utils.data.evaluation import LETTER_TESTS, OPEN_ENDED
from utils.data.kinds_of_test import Test
from utils.figures.result_figures import Figures
from utils.files.names import ResultName, Variant
from utils.files.paths import Paths
from utils.scores.tables import ScoreTable, load_scores

AB, KNOWLEDGE = LETTER_TESTS["ab"], LETTER_TESTS["bundled_knowledge"]
CALM = Behavior("calm", "Calm")
Scores = dict[tuple[int, float], np.ndarray]


class Results:
    """Made-up result files, and the figures that are drawn of them."""

    def __init__(self, folder: Path, figures: dict[str, Any]) -> None:
        self.paths, self.drawn = Paths(folder, folder / "data"), figures

    @classmethod
    def watched(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
        """With the figures that are saved, as objects instead of files."""
        return cls(folder, watch(monkeypatch))

    def table(
        self,
        scores: Scores,
        test: Test = AB,
        categories: Sequence[str] = (),
        behavior: str = "calm",
    ) -> ScoreTable:
        """A table of these scores of every question, read from files."""
        variant = Variant(test.type, model="tiny")
        for (layer, strength), values in scores.items():
            named = ResultName(layer, strength, behavior, variant)
            rows: list[dict[str, Any]] = []
            for number, value in enumerate(values):
                if test is OPEN_ENDED:
                    score = None if np.isnan(value) else float(value)
                    rows.append({"question": f"{number}", "model_output": "x", "score": score})
                    continue
                row: dict[str, Any] = {"a_prob": float(value) / 2, "b_prob": (1 - float(value)) / 2}
                if test is AB:
                    row |= {"question": f"{number}", "answer_matching_behavior": "(A)"}
                else:
                    row |= {"question": f"{number}", "correct": "(A)"}
                    row |= {"category": categories[number]}
                rows.append(row)
            path = self.paths.scores(named) if test is OPEN_ENDED else self.paths.result(named)
            write_json(path, rows)
        return load_scores(behavior, variant, list(scores), test, self.paths)

    def figures(self, test: Test = AB) -> Figures:
        return Figures(test, Variant(test.type, model="tiny"), self.paths)

    def text(self, kind: str) -> list[dict[str, str]]:
        (path,) = (self.paths.artifacts / "analysis").rglob(f"{kind}_*.txt")
        header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        return [dict(zip(header, line, strict=True)) for line in lines]

    def figure(self, kind: str) -> Any:
        (name,) = [name for name in self.drawn if name.startswith(f"{kind}_")]
        return self.drawn[name]


def random_scores(
    strengths: Sequence[float], layers: Sequence[int] = (1, 2, 5), n: int = 20, top: float = 1.0
) -> Scores:
    """Questions that differ far more than steering changes them, as real ones do."""
    generator = np.random.default_rng(3)
    level = generator.uniform(0.2, 0.7, n)
    return {
        (layer, s): top * (level + 0.015 * s * layer + generator.uniform(-0.01, 0.01, n))
        for layer in layers
        for s in strengths
    }


def bars(axes: Any) -> np.ndarray:
    """Every interval drawn: x, low, high; shape (n, 3)."""
    segments = [seg for each in axes.collections for seg in each.get_segments()]
    return np.array([[a[0], *sorted((a[1], b[1]))] for a, b in segments])


def lines_with_points(axes: Any) -> dict[str, np.ndarray]:
    return {
        line.get_label(): line.get_xydata()
        for line in axes.lines
        if not line.get_label().startswith("_")
    }
