"""What tune.py found on pairs held out, beside layers that were chosen on the questions shown."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_json
from result_desk import MODEL, Desk, choice

from utils.errors import UserError
from utils.files.names import ResultName, Variant
from utils.scores.tuned import read_tuned


@pytest.fixture
def desk(tmp_path: Path, datasets: Path) -> Desk:
    return Desk(tmp_path / "artifacts", datasets).fill()


def test_a_best_layer_is_said_to_be_chosen_and_the_tuned_figure_stands_beside(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.plot("--layers", 1) == 0
    assert "chosen on these same questions" not in capsys.readouterr().out
    assert desk.plot() == 0
    text = capsys.readouterr().out
    assert "(the layer with the largest change of 3, chosen on these same questions)" in text
    assert "tuned" not in text
    write_json(desk.paths.tuning("calm", MODEL), choice())
    write_json(desk.paths.tuning("bold", MODEL), choice(chosen=None, test=None))
    assert desk.plot() == 0, "nothing is drawn again, and yet it is said"
    lines = capsys.readouterr().out.splitlines()
    assert (
        "tuned on pairs held out: calm: layer 1, dose 0.2; then, on 50 test questions, "
        "content effect +0.459 [+0.210, +0.700] logits"
    ) in lines
    assert "tuned on pairs held out: bold: do not steer" in lines


def test_a_cells_divergence_is_that_of_the_test_where_it_was_measured_there(desk: Desk) -> None:
    write_json(desk.paths.tuning("calm", MODEL), choice())
    found = read_tuned(["bold", "calm"], Variant("ab", model=MODEL), MODEL, desk.paths)
    assert found.keys() == {"calm"}
    calm = found["calm"]
    assert calm.kl(1, 0.2 * (1 + 1e-9), "dose", both=True) == 0.06
    assert calm.kl(1, 1.0, "multiplier", both=True) == 0.05
    assert calm.kl(1, 0.1, "dose", both=True) == 0.03
    assert calm.kl(2, 1.0, "multiplier", both=True) == 0.4
    others = [(2, 0.2, "dose", True), (1, 0.3, "dose", True), (1, 0.2, "dose", False)]
    assert [calm.kl(n, s, unit, both=both) for n, s, unit, both in others] == [None] * 3
    write_json(desk.paths.tuning("calm", MODEL), choice(direction="neg"))
    calm = read_tuned(["calm"], Variant("ab", model=MODEL), MODEL, desk.paths)["calm"]
    assert calm.kl(1, -0.2, "dose", both=False) == 0.06
    assert calm.kl(1, 0.2, "dose", both=False) is None


def test_choices_are_for_plain_runs_and_must_be_whole(desk: Desk) -> None:
    path = write_json(desk.paths.tuning("calm", MODEL), choice())
    for other in (Variant("ab", system_prompt="pos", model=MODEL), Variant("mmlu", model=MODEL)):
        assert read_tuned(["calm"], other, MODEL, desk.paths) == {}
    write_json(path, {"chosen": None})
    with pytest.raises(UserError, match=r"is not a choice that \./tune\.py wrote"):
        read_tuned(["calm"], Variant("ab", model=MODEL), MODEL, desk.paths)


def test_tables_of_a_try_say_so(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.plot() == 0
    assert "of a try" not in capsys.readouterr().out
    for strength in (-1.0, 0.0, 1.0):
        name = ResultName(1, strength, "calm", Variant("ab", model=MODEL))
        tried = replace(name, variant=replace(name.variant, limit=6))
        shutil.copy(desk.paths.result(name), desk.paths.result(tried))
    assert desk.plot("--limit", 6) == 0
    assert "by multiplier (of a try)\n" in capsys.readouterr().out
