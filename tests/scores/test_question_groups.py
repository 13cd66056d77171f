"""Categories in figures: small ones pooled, ordered by effect, no interval of a few questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_results import CALM, KNOWLEDGE, Results, lines_with_points, random_scores

from utils.figures.category_figures import verdicts
from utils.scores.question_groups import MMLU_GROUPS, rows_of
from utils.stats import mean_of_changes


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    return Results.watched(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"a": 5, "b": 6}, {"a": 5, "b": 6}),
        ({"a": 5, "b": 4, "c": 2}, {"a": 5, "2 small categories": 6}),
        ({"a": 4, "b": 9}, {"a": 4, "b": 9}),
        (dict.fromkeys(MMLU_GROUPS, 2), {"STEM": 36, "humanities": 26, "social sciences": 24,
                                         "other": 28}),
        ({"virology": 7, "anatomy": 2, "nutrition": 1, "sociology": 2},
         {"virology": 7, "2 small subjects of other": 3, "sociology": 2}),
        # another test's category of that name
        ({"astronomy": 2, "plants": 2, "b": 6}, {"2 small categories": 4, "b": 6}),
    ],
)  # fmt: skip
def test_small_categories_are_pooled(sizes: dict[str, int], expected: dict[str, int]) -> None:
    rows = rows_of([name for name, n in sizes.items() for _ in range(n)])
    assert {row.name: row.questions for row in rows} == expected
    assert sorted(c for row in rows for c in row.categories) == sorted(sizes)


def test_categories_stand_by_effect_with_paired_changes_and_no_interval_of_four(
    results: Results,
) -> None:
    sizes = {"large gain": 6, "loss": 7, "tiny": 2, "small gain": 5}
    categories = [name for name, n in sizes.items() for _ in range(n)]
    effect = {"large gain": 0.2, "loss": -0.1, "tiny": 0.0, "small gain": 0.05}
    scores = random_scores((0.0, 1.0), (2,), n=20)
    scores[2, 1.0] = scores[2, 0.0] + [effect[c] for c in categories]
    table = results.table(scores, KNOWLEDGE, categories)
    results.figures(KNOWLEDGE).categories(CALM, table, 2)
    axes, beside = results.figure("categories").axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["large gain (6)", "small gain (5)", "tiny (2)", "loss (7)"]
    (points,) = lines_with_points(axes).values()
    assert points[:, 0].tolist() == pytest.approx(
        [effect[n.rsplit(" ", 1)[0]] for n in sizes_of(names, axes, points)]
    )
    assert len([s for c in axes.collections for s in c.get_segments()]) == 3, "none of two"
    rows = {r["category"]: r for r in results.text("categories") if r["quantity"] == "change"}
    assert rows["tiny"]["low95"] == rows["tiny"]["high95"] == "-"
    for name in ("large gain", "loss", "small gain"):
        chosen = np.array(categories) == name
        e = mean_of_changes((scores[2, 1.0] - scores[2, 0.0])[chosen], 1.0)
        assert [float(rows[name][k]) for k in ("mean", "low95", "high95")] == pytest.approx(
            [e.mean, e.low, e.high], abs=2e-6
        )
    level = scores[2, 0.0][np.array(categories) == "large gain"].mean()
    assert beside.get_yticklabels()[0].get_text() == f"{level:.2f}"
    # better, worse, same, too few
    assert "& 2 & 1 & 0 & 1" in verdicts(table, 2).decode().splitlines()[5]


def sizes_of(names: list[str], axes: Any, points: np.ndarray) -> list[str]:
    """The row of every point."""
    return [names[round(y)] for y in points[:, 1]]
