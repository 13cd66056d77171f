"""Figures of results: changes are paired, the texts hold what is drawn, no axis exaggerates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_json

from behaviors import Behavior
from utils import plotting
from utils.category_figures import verdicts
from utils.evaluation import LETTER_TESTS, OPEN_ENDED, Test
from utils.figures import Figures
from utils.paths import Paths, ResultName
from utils.question_groups import MMLU_GROUPS, rows_of
from utils.score_tables import ScoreTable, load_scores
from utils.stats import bootstrap_mean

AB, KNOWLEDGE = LETTER_TESTS["ab"], LETTER_TESTS["bundled_knowledge"]
CALM = Behavior("calm", "Calm")
Scores = dict[tuple[int, float], np.ndarray]


class Results:
    """Made-up result files, and the figures that are drawn of them."""

    def __init__(self, folder: Path, figures: dict[str, Any]) -> None:
        self.paths, self.drawn = Paths(folder, folder / "data"), figures

    def table(
        self,
        scores: Scores,
        test: Test = AB,
        categories: Sequence[str] = (),
        behavior: str = "calm",
    ) -> ScoreTable:
        """A table of these scores of every question, read from files."""
        name = ResultName(0, 0.0, behavior, test.type, model="tiny")
        for (layer, strength), values in scores.items():
            named = ResultName(layer, strength, behavior, test.type, model="tiny")
            rows: list[dict[str, Any]] = []
            for number, value in enumerate(values):
                if test is OPEN_ENDED:
                    score = None if np.isnan(value) else float(value)
                    rows.append({"question": f"{number}", "model_output": "x", "score": score})
                    continue
                row = {"a_prob": float(value) / 2, "b_prob": (1 - float(value)) / 2}
                if test is AB:
                    row |= {"question": f"{number}", "answer_matching_behavior": "(A)"}
                else:
                    row |= {"question": f"{number}", "correct": "(A)"}
                    row |= {"category": categories[number]}
                rows.append(row)
            path = self.paths.scores(named) if test is OPEN_ENDED else self.paths.result(named)
            write_json(path, rows)
        return load_scores(name, list(scores), test, self.paths)

    def figures(self, test: Test = AB) -> Figures:
        return Figures(test, ResultName(0, 0.0, "", test.type, model="tiny"), self.paths)

    def text(self, kind: str) -> list[dict[str, str]]:
        (path,) = (self.paths.artifacts / "analysis").rglob(f"{kind}_*.txt")
        header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        return [dict(zip(header, line, strict=True)) for line in lines]

    def figure(self, kind: str) -> Any:
        (name,) = [name for name in self.drawn if name.startswith(f"{kind}_")]
        return self.drawn[name]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    figures: dict[str, Any] = {}
    monkeypatch.setattr(
        plotting, "save_figure", lambda figure, path: figures.__setitem__(path.name, figure)
    )
    return Results(tmp_path, figures)


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


STRENGTHS = [(-1.0, 0.0, 1.0), (-2.0, -1.0, 0.0, 1.0, 2.0), (-1.0, 1.0), (0.5, 1.0, 2.0)]


@pytest.mark.parametrize("test", [AB, OPEN_ENDED], ids=lambda t: t.type)
@pytest.mark.parametrize("strengths", STRENGTHS, ids=str)
def test_a_sweep_shows_the_paired_change_and_its_interval(
    results: Results, strengths: tuple[float, ...], test: Test
) -> None:
    scores = random_scores(strengths, top=10.0 if test is OPEN_ENDED else 1.0)
    results.figures(test).layers(CALM, results.table(scores, test))
    base = 0.0 if 0.0 in strengths else min(strengths)
    axes = results.figure("LAYER_SWEEP").axes[0]
    shown = bars(axes)
    rows = results.text("LAYER_SWEEP")
    others = [s for s in strengths if s != base]
    assert len(shown) == 3 * len(others)
    for layer in (1, 2, 5):
        for strength in others:
            change = bootstrap_mean(scores[layer, strength] - scores[layer, base])
            (row,) = [
                r
                for r in rows
                if (r["layer"], r["multiplier"], r["quantity"])
                == (str(layer), f"{strength:g}", "change")
            ]
            numbers = [change.mean, change.low, change.high]
            found = [float(row[k]) for k in ("mean", "low95", "high95")]
            assert found == pytest.approx(numbers, abs=2e-6)
            near = shown[np.abs(shown[:, 0] - layer) < 0.5]
            assert np.abs(near[:, 1:] - numbers[1:]).max(axis=1).min() < 2e-6
            level = bootstrap_mean(scores[layer, strength])
            # what pairing is for
            assert change.high - change.low < 0.2 * (level.high - level.low)
    assert {r["multiplier"] for r in rows if r["quantity"] == "score"} == {
        f"{s:g}" for s in strengths
    }
    assert (
        axes.get_ylabel()
        .replace("\n", " ")
        .endswith(
            "unsteered" if base == 0 else f"multiplier {base:+g}".replace("-", "\N{MINUS SIGN}")
        )
    )
    assert any(line.get_ydata()[0] == line.get_ydata()[1] == 0 for line in axes.lines), "no change"


def test_unsteered_scores_of_one_layer_are_the_baseline_of_all(results: Results) -> None:
    scores = random_scores((1.0,)) | {(2, 0.0): random_scores((0.0,))[2, 0.0]}
    results.figures().layers(CALM, results.table(scores))
    rows = [r for r in results.text("LAYER_SWEEP") if r["quantity"] == "change"]
    means = [(scores[n, 1.0] - scores[2, 0.0]).mean() for n in (1, 2, 5)]
    assert [float(r["mean"]) for r in rows] == pytest.approx(means, abs=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_intervals_of_lines_on_one_another_stand_apart(results: Results, count: int) -> None:
    strengths = [1.0 + i for i in range(count)]
    same = {s: random_scores((1.0,)) for s in strengths}
    scores = {(n, s): same[s][n, 1.0] for n in (1, 2, 5) for s in strengths}
    scores |= {(n, 0.0): random_scores((0.0,))[n, 0.0] for n in (1, 2, 5)}
    results.figures().layers(CALM, results.table(scores))
    x = np.sort(bars(results.figure("LAYER_SWEEP").axes[0])[:, 0])
    near = x[np.abs(x - 2) < 0.5]
    assert len(near) == count and np.diff(near).min() > 0.05


@pytest.mark.parametrize("strengths", STRENGTHS[:3], ids=str)
def test_one_layer_shows_change_and_score_of_every_strength(
    results: Results, strengths: tuple[float, ...]
) -> None:
    scores = random_scores(strengths, (2,))
    table = results.table(scores)
    results.figures().multipliers(CALM, [table], 2)
    figure, rows = results.figure("multipliers"), results.text("multipliers")
    base = 0.0 if 0.0 in strengths else min(strengths)
    expected = {
        "change": [bootstrap_mean(scores[2, s] - scores[2, base]) for s in strengths],
        "score": [bootstrap_mean(scores[2, s]) for s in strengths],
    }
    for axes, (quantity, estimates) in zip(figure.axes, expected.items(), strict=False):
        (points,) = lines_with_points(axes).values()
        assert points == pytest.approx(
            np.array([[s, e.mean] for s, e in zip(strengths, estimates, strict=True)]), abs=1e-6
        )
        found = [
            [float(r[k]) for k in ("mean", "low95", "high95")]
            for r in rows
            if r["quantity"] == quantity
        ]
        assert found == pytest.approx(
            np.array([[e.mean, e.low, e.high] for e in estimates]), abs=2e-6
        )
        assert bars(axes)[:, 1:] == pytest.approx(np.array(found)[:, 1:], abs=2e-6)


@pytest.mark.parametrize(
    ("test", "level", "least"), [(AB, (0, 1), 0.05), (OPEN_ENDED, (0, 10), 1.0)], ids=["ab", "open"]
)
@pytest.mark.parametrize("value", [0.02, 0.5, 1.0])
def test_no_axis_is_so_short_that_rounding_looks_like_an_effect(
    results: Results, test: Test, level: tuple[int, int], least: float, value: float
) -> None:
    top = level[1]
    scores = {
        (n, s): np.full(8, top * value - 1e-4 * abs(s)) for n in (1, 2) for s in (-1.0, 0.0, 1.0)
    }
    figures, table = results.figures(test), results.table(scores, test)
    other = results.table(scores, test, behavior="bold")
    figures.layers(CALM, table)
    figures.multipliers(CALM, [table], 1)
    figures.all_multipliers([(CALM, [table]), (Behavior("bold", "Bold"), [other])], 1)
    figures.all_changes([(CALM, table), (Behavior("bold", "Bold"), other)], 1)
    for kind in ("LAYER_SWEEP", "multipliers"):
        change, score = (axes.get_ylim() for axes in results.figure(kind).axes[:2])
        assert change[0] <= -least and change[1] >= least
        assert score[0] <= level[0] and score[1] >= level[1]
    low, high = results.figure("MULTIPLIERS").axes[0].get_ylim()
    assert low <= -least and high >= least
    low, high = results.figure("CHANGES").axes[0].get_xlim()
    assert low <= -least and high >= least


def test_the_share_without_a_score_is_drawn(results: Results) -> None:
    scores = random_scores((-1.0, 0.0, 1.0), (2,), n=10, top=10.0)
    for strength, missing in ((-1.0, 3), (0.0, 0), (1.0, 7)):
        scores[2, strength][:missing] = np.nan
    table = results.table(scores, OPEN_ENDED)
    figures = results.figures(OPEN_ENDED)
    figures.multipliers(CALM, [table], 2)
    bold = results.table(scores, OPEN_ENDED, behavior="bold")
    figures.all_multipliers([(CALM, [table]), (Behavior("bold", "Bold"), [bold])], 2)
    (points,) = lines_with_points(results.figure("multipliers").axes[2]).values()
    assert points[:, 1].tolist() == [0.3, 0.0, 0.7]
    assert results.figure("multipliers").axes[2].get_ylim()[1] >= 1
    rows = [r for r in results.text("multipliers") if r["quantity"] == "score"]
    assert [int(r["missing"]) for r in rows] == [3, 0, 7]
    texts = [t.get_text() for t in results.figure("MULTIPLIERS").axes[0].texts]
    assert any("0 to 70 % no score" in text for text in texts)


@pytest.mark.parametrize("draw", ["layers", "multipliers", "all_changes", "sweeps"])
def test_every_figure_says_model_questions_intervals_and_layer(results: Results, draw: str) -> None:
    table = results.table(random_scores((-1.0, 0.0, 1.0)))
    figures = results.figures()
    calls = {
        "layers": lambda: figures.layers(CALM, table),
        "multipliers": lambda: figures.multipliers(CALM, [table], 2),
        "all_changes": lambda: figures.all_changes([(CALM, table)], 2),
        "sweeps": lambda: figures.sweeps([(CALM, table)]),
    }
    calls[draw]()
    (figure,) = results.drawn.values()
    legends = [legend.get_title().get_text() for legend in figure.legends]
    notes = " ".join([*legends, *(t.get_text() for axes in figure.axes for t in axes.texts)])
    notes = notes.replace("\n", " ")
    assert "tiny" in notes and "20 questions" in notes and "95 % intervals over questions" in notes
    assert ("layer 2" in notes) == (draw in ("multipliers", "all_changes"))


# ---------------------------------------------------------------- categories


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
        e = bootstrap_mean((scores[2, 1.0] - scores[2, 0.0])[chosen])
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
