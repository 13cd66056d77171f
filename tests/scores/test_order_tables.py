"""Results of both orders: scores of questions, effects with intervals, the figure and its axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_json
from made_up_results import AB, CALM, KNOWLEDGE, Results, bars, lines_with_points

from behaviors import Behavior
from utils.data.evaluation import LetterTest
from utils.figures.result_figures import Figures
from utils.files.names import ResultName, Variant
from utils.scores.score_report import orders_report
from utils.scores.subjects import Measured, Subject
from utils.scores.summary import as_csv, as_markdown, steerability, summary_rows
from utils.scores.tables import ScoreTable, load_scores
from utils.stats import mean_of_changes

N, STRENGTHS = 12, (-1.0, 0.0, 1.0)
LETTERS = ["A", "B"] * (N // 2)
KEPT = {"question": "kept", "order": "published", "a_prob": 0.9, "b_prob": 0.1}


def probabilities(difference: float) -> dict[str, float]:
    a = 1 / (1 + np.exp(-difference))
    return {"a_prob": 0.9 * a, "b_prob": 0.9 * (1 - a)}


def made_up(
    results: Results,
    content: np.ndarray,
    letter: np.ndarray,
    slopes: tuple[float, float] = (0.3, -2.0),
    strengths: tuple[float, ...] = STRENGTHS,
    test: LetterTest = AB,
) -> ScoreTable:
    """Files whose effects are planted, each moved by strength; a last question is kept."""
    variant = Variant(test.type, model="tiny", both_orders=True)
    for s in strengths:
        rows: list[dict[str, Any]] = []
        moved = content + s * slopes[0], letter + s * slopes[1]
        for n, (c, b) in enumerate(zip(*moved, strict=True)):
            sign = 1 if LETTERS[n] == "A" else -1
            for order, turned in (("published", 1), ("exchanged", -1)):
                matching = "A" if turned * sign > 0 else "B"
                rows.append(
                    {"question": f"{n}", "order": order, test.fields.matching: f"({matching})"}
                    | probabilities(turned * sign * c + b)
                    | {"category": "xy"[n % 2]}
                )
        rows.append(KEPT | {test.fields.matching: "(A)", "category": "x"})
        write_json(results.paths.result(ResultName(2, s, "calm", variant)), rows)
    cells = [(2, s) for s in strengths]
    return load_scores("calm", variant, cells, test, results.paths)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    return Results.watched(tmp_path, monkeypatch)


@pytest.fixture
def effects() -> tuple[np.ndarray, np.ndarray]:
    content, letter = np.random.default_rng(0).normal(size=(2, N))
    return content, letter


def share(difference: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-difference))


@pytest.mark.parametrize("test", [AB, KNOWLEDGE], ids=lambda t: t.type)
def test_a_score_is_the_mean_over_both_orders_and_a_kept_question_its_own(
    results: Results, effects: tuple[np.ndarray, np.ndarray], test: LetterTest
) -> None:
    c, b = effects
    table = made_up(results, c, b, test=test)
    sign = np.array([1 if x == "A" else -1 for x in LETTERS])
    # P(matching) of the two orders: D1 = sc + b towards A, D2 = -sc + b
    expected = (share(sign * (sign * c + b)) + share(-sign * (-sign * c + b))) / 2
    assert table.scores[2, 0.0] == pytest.approx([*expected, 0.9])
    if test is KNOWLEDGE:
        assert table.categories == ["x", "y"] * (N // 2) + ["x"]
    change = table.effect("content", (2, 1.0), (2, -1.0))
    assert change is not None and (change.n, change.missing) == (N, 1)
    assert change.mean == pytest.approx(0.6)
    level = table.effect("letter", (2, 0.0))
    if test is AB:
        assert level is not None and level.mean == pytest.approx(b.mean())
        assert level.low == pytest.approx(mean_of_changes(b, None).low)
    found = table.letter_share((2, 1.0), (2, -1.0))
    assert found == pytest.approx(4.0**2 / (4.0**2 + 0.6**2))
    assert table.effect("content", (2, 9.0)) is None and table.letter_share((2, 0.0), None) is None


def test_steerability_is_that_of_the_content(
    results: Results, effects: tuple[np.ndarray, np.ndarray]
) -> None:
    table = made_up(results, *effects)
    found = steerability(AB, {s: table.rows[2, s] for s in STRENGTHS})
    assert found == pytest.approx([0.3] * N + [0.0])


def test_the_summary_counts_questions_and_leaves_a_dash_where_nothing_is_known(
    results: Results, effects: tuple[np.ndarray, np.ndarray]
) -> None:
    (row,) = summary_rows("calm", AB, made_up(results, *effects))
    assert (row["questions"], row["exchanged"]) == (f"{N + 1}", f"{N}")
    assert row["content_change"] == "0.6000" and row["letter_change"] == "-4.0000"
    assert row["letter_share"] == "0.978"
    wins = {s: np.mean(abs(effects[0] + 0.3 * s) > abs(effects[1] - 2 * s)) for s in STRENGTHS}
    text = as_markdown([row])
    assert f"| {wins[0.0]:.3f} → {wins[-1.0]:.3f} / {wins[1.0]:.3f} |" in text
    assert as_csv([row]).decode().splitlines()[0].endswith("consistent_positive")
    alone = made_up(results, *effects, strengths=(1.0,))
    (row,) = summary_rows("calm", AB, alone)
    assert "| - | - | - | - → " in as_markdown([row])
    assert "content_change" not in row


def test_the_table_for_the_terminal_fits_it(
    results: Results, effects: tuple[np.ndarray, np.ndarray]
) -> None:
    table = made_up(results, *effects)
    behavior = Behavior("corrigible-neutral-HHH", "Corrigible")
    subject = Subject(behavior, [Measured(None, table, {}, frozenset())])  # type: ignore[arg-type]
    text = orders_report([subject])
    assert max(map(len, text.splitlines())) <= 80
    assert "+0.60 [+0.60, +0.60]" in text and "−4.00 [−4.00, −4.00]" in text and "0.98" in text
    plain = results.table({(2, s): np.full(6, 0.5 + s / 10) for s in STRENGTHS})
    assert orders_report([Subject(CALM, [Measured(None, plain, {}, frozenset())])]) == ""  # type: ignore[arg-type]


def test_the_figure_tells_content_from_letter_with_their_intervals(
    results: Results, effects: tuple[np.ndarray, np.ndarray]
) -> None:
    table = made_up(results, *effects)
    Figures(AB, table.variant, results.paths).orders(CALM, table, 2)
    figure, rows = results.figure("orders"), results.text("orders")
    changes, levels = figure.axes[:2]
    for axes, quantity in ((changes, "change"), (levels, "effect")):
        drawn = lines_with_points(axes)
        assert set(drawn) == {"content", "letter"}
        assert len({line.get_color() for line in axes.lines if line.get_label() in drawn}) == 2
        assert len(bars(axes)) == 6
        for name, points in drawn.items():
            means = [
                float(r["mean"]) for r in rows if (r["effect"], r["quantity"]) == (name, quantity)
            ]
            assert points[:, 1] == pytest.approx(means, abs=1e-6)
    slope = {name: points[:, 1] for name, points in lines_with_points(changes).items()}
    assert slope["content"] == pytest.approx([-0.3, 0, 0.3])
    assert slope["letter"] == pytest.approx([2, 0, -2])
    assert {r["n"] for r in rows} == {f"{N}"} and {r["missing"] for r in rows} == {"1"}
    notes = [legend.get_title().get_text() for legend in figure.legends]
    note = " ".join(notes).replace("\n", " ")
    assert f"{N + 1} questions, 1 of them in one order only" in note
    assert "both orders of the choices" in note and "letter: towards (A)" in note


def test_without_an_effect_the_axis_is_no_magnifying_glass(results: Results) -> None:
    table = made_up(results, np.zeros(N), np.full(N, 1e-4), slopes=(1e-5, 0))
    Figures(AB, table.variant, results.paths).orders(CALM, table, 2)
    low, high = results.figure("orders").axes[0].get_ylim()
    assert low <= -0.2 and high >= 0.2


def test_one_strength_is_shown_as_it_is(
    results: Results, effects: tuple[np.ndarray, np.ndarray]
) -> None:
    table = made_up(results, *effects, strengths=(1.0,))
    Figures(AB, table.variant, results.paths).orders(CALM, table, 2)
    assert {r["quantity"] for r in results.text("orders")} == {"effect"}
