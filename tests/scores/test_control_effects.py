"""Effects of vectors beside their controls: files to numbers, by hand and on synthetic effects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.data.items import ABItem
from utils.data.orders import Kept
from utils.errors import UserError
from utils.files.names import Variant
from utils.scores.control_effects import Controls, Effect, effects_of, p_max
from utils.scores.control_report import HEADER, controls_report, effect_rows
from utils.scores.control_rows import QUANTITIES, control_content

R, QUESTIONS = 19, 8
VARIANT = Variant("ab", model="tiny")


def made_up(vector: float, draws: list[float], kind: str = "shuffled") -> Controls:
    """One in which all quantities are alike."""
    questions = {q: vector + np.linspace(-0.1, 0.1, QUESTIONS) for q in QUANTITIES}
    means = {f"{kind}:{r}": dict.fromkeys(QUANTITIES, value) for r, value in enumerate(draws)}
    return Controls("calm", questions, means, 0)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def probabilities(difference: float) -> tuple[float, float]:
    """P(A) and P(B) with this difference of their logarithms."""
    return 0.9 * sigmoid(difference), 0.9 * sigmoid(-difference)


def test_content_letter_and_score_are_those_that_were_put_in(tmp_path: Path) -> None:
    """Three questions, the second kept; under the control the third has no probabilities."""
    items = [ABItem("q", x, "B" if x == "A" else "A", {}) for x in "ABB"]
    kept = [Kept(2, "both choices say the same")]
    # (content, letter) of the questions that have both orders; the second has its own difference
    effects = {"plain": [(0.2, 1.0), (0.4, -1.0)], "vector": [(0.7, 1.5), (0.3, -2.0)]}

    def column(values: list[tuple[float, float]], alone: float) -> list[tuple[float, float]]:
        (c1, b1), (c3, b3) = values
        published = [c1 + b1, alone, -c3 + b3]
        return [probabilities(d) for d in (*published, -c1 + b1, c3 + b3)]

    unsteered = np.array(column(effects["plain"], 0.5))
    vector = np.array(column(effects["vector"], 0.8))
    broken = np.where(np.arange(5)[:, None] == 2, np.nan, vector)
    content = control_content(
        "calm", items, kept, unsteered, np.stack([vector, broken], axis=1), ["random:0"]
    )
    own, control = content["rows"]
    assert (own["vector"], control["vector"], own["n"]) == ("calm", "random:0", 2)
    assert own["content"] == pytest.approx((0.5 - 0.1) / 2)
    assert own["letter"] == pytest.approx((0.5 - 1.0) / 2)
    scores = [sigmoid(2.2) - sigmoid(1.2), sigmoid(-0.8) - sigmoid(-0.5)]
    scores.append(sigmoid(2.3) - sigmoid(1.4))
    assert own["score"] == pytest.approx(np.mean(scores))
    assert [q["content"] for q in content["questions"]] == [
        pytest.approx(0.5),
        None,
        pytest.approx(-0.1),
    ]
    assert control["content"] is control["score"] is None
    path = tmp_path / "controls.json"
    path.write_text(json.dumps(content))
    found = Controls.read(path)
    estimate = found.estimate("content")
    assert estimate is not None and (estimate.mean, estimate.n) == (pytest.approx(0.2), 2)
    assert found.kept == 1 and np.isnan(found.draws("random", "content")).all()


@pytest.mark.parametrize("content", ["[]", '{"rows": []}', '{"rows": [{}], "questions": 3}'])
def test_another_file_is_told_from_one_of_controls(tmp_path: Path, content: str) -> None:
    path = tmp_path / "controls.json"
    path.write_text(content)
    with pytest.raises(UserError, match="holds no effects of controls"):
        Controls.read(path)


def test_p_is_that_of_the_formula_for_one_sign_and_for_both() -> None:
    plus = made_up(0.5, [0.1 * r for r in range(R)])
    (one,) = effects_of({(3, 2.0): plus})
    assert (one.strength, one.both) == (2.0, False)
    # 0.5, 0.6 ... 1.8 are as large: 14 of 19
    assert one.p("shuffled") == (1 + 14) / (R + 1) and one.p("random") is None
    minus = made_up(-0.7, [-0.05 * r for r in range(R)])
    (both,) = effects_of({(3, 2.0): plus, (3, -2.0): minus})
    assert (both.strength, both.both) == (2.0, True)
    # T = 0.6; of the controls 0.075 r, which is as large from 8 on
    estimate = both.controls.estimate("content")
    assert estimate is not None and estimate.mean == pytest.approx(0.6)
    assert both.p("shuffled") == (1 + 11) / (R + 1)
    (alone,) = effects_of({(3, -2.0): minus})
    assert (alone.strength, alone.both) == (-2.0, False)
    assert effects_of({(0, 1.0): made_up(0.5, [0.1] * (R - 1))})[0].p("shuffled") is None


def test_a_planted_effect_has_the_smallest_p_and_a_broken_draw_counts_as_larger() -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(0, 0.1, (2, R))
    cells = {(n, 1.0): made_up(0.02 + n * 3, list(draws[n])) for n in range(2)}
    quiet, planted = effects_of(cells)
    assert planted.p("shuffled") == p_max([quiet, planted]) == 1 / (R + 1)
    assert quiet.p("shuffled") > 0.5 and p_max([planted]) is None  # type: ignore[operator]
    draws[1, 4] = np.nan
    cells = {(n, 1.0): made_up(0.02 + n * 3, list(draws[n])) for n in range(2)}
    quiet, planted = effects_of(cells)
    assert planted.p("shuffled") == p_max([quiet, planted]) == 2 / (R + 1)
    assert planted.broken("shuffled") == 1
    text = controls_report({"calm": [quiet, planted]}, VARIANT, {})
    assert "shuffled controls that broke the model (NaN) count as larger: 1 at layer 1" in text


def test_the_table_corrects_for_the_number_of_behaviours() -> None:
    generator = np.random.default_rng(1)
    found = {
        name: effects_of(
            {(4, s): made_up(s * size, list(generator.normal(0, 0.1, R))) for s in (-1.0, 1.0)}
        )
        for name, size in (("bold", 2.0), ("calm", 0.0))
    }
    text = controls_report(found, replace(VARIANT, unit="dose"), {})
    assert "p at dose ±1, Holm over 2 behaviours: bold 0.100, calm 1.000" in text
    assert "19 draws allow none below 0.10 there; --control_draws 39 would" in text
    (line,) = [line for line in text.splitlines() if line.startswith("bold  ")]
    assert line.split()[1] == "+2.000" and "0.050" in line
    assert "content effect at layer 4, dose ±1;" in text, "one place, said once"
    assert not {"at", "KL", "random"} & set(text.splitlines()[1].split()), "nothing but dashes"
    assert all(len(line) <= 80 for line in text.splitlines())


def test_behaviours_at_a_strength_of_their_own_are_corrected_together() -> None:
    generator = np.random.default_rng(1)
    found = {
        name: effects_of(
            {(4, s): made_up(s, list(generator.normal(0, 0.1, R))) for s in (-size, size)}
        )
        for name, size in (("bold", 2.0), ("calm", 1.0))
    }
    text = controls_report(found, replace(VARIANT, unit="dose"), {})
    assert "p at dose of each, Holm over 2 behaviours: bold 0.100, calm 0.100" in text
    (line,) = [line for line in text.splitlines() if line.startswith("bold  ")]
    assert line.split()[1:4] == ["4,", "±2", "+2.000"]


def test_a_files_rows_hold_every_control_and_quantity() -> None:
    own = made_up(0.5, [0.1 * r for r in range(R)])
    own.means["letter"] = dict.fromkeys(QUANTITIES, -3.0)  # type: ignore[index]
    rows = [
        dict(zip(HEADER, row, strict=True))
        for row in effect_rows([Effect(2, 1.0, False, own)], {2: 0.25})
    ]
    assert [row["vector"] for row in rows] == ["calm", "shuffled (19)", "letter"] * 3
    first: dict[str, Any] = rows[0]
    assert (first["strength"], first["dose"]) == ("+1", "0.25")
    assert (first["mean"], first["p_shuffled"], first["p_random"]) == ("0.500000", "0.75", "-")
    band = np.percentile([0.1 * r for r in range(R)], [50, 2.5, 97.5])
    assert [rows[1][k] for k in ("mean", "low95", "high95")] == [f"{x:.6f}" for x in band]
    assert (rows[2]["mean"], rows[2]["low95"]) == ("-3.000000", "-")
