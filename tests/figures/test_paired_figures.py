"""Figures of results: changes are paired, the texts hold what is drawn, no axis exaggerates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up_results import AB, CALM, Results, bars, lines_with_points, random_scores

from behaviors import Behavior
from utils.data.evaluation import OPEN_ENDED
from utils.data.kinds_of_test import Test
from utils.stats import Estimate, mean_of_changes, mean_of_scores


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    return Results.watched(tmp_path, monkeypatch)


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
            change = mean_of_changes(
                scores[layer, strength] - scores[layer, base], test.scale.level[1]
            )
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
            level = mean_of_scores(scores[layer, strength], test.scale.level)
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
        "change": [
            Estimate(0, 0, 0, 20)
            if s == base
            else mean_of_changes(scores[2, s] - scores[2, base], 1.0)
            for s in strengths
        ],
        "score": [mean_of_scores(scores[2, s], (0.0, 1.0)) for s in strengths],
    }
    assert len(figure.axes) >= len(expected)
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


@pytest.mark.parametrize("test", [AB, OPEN_ENDED], ids=lambda t: t.type)
def test_the_change_of_what_changes_are_counted_from_is_0_for_sure(
    results: Results, test: Test
) -> None:
    scores = random_scores((-1.0, 0.0, 1.0), layers=(1,), top=10.0 if test is OPEN_ENDED else 1.0)
    table = results.table(scores, test)
    itself = table.change((1, 0.0), (1, 0.0))
    assert itself is not None and itself.n == 20
    assert (itself.mean, itself.low, itself.high) == (0, 0, 0)
    other = table.change((1, 1.0), (1, 0.0))
    assert other is not None and other.low < other.mean < other.high
