"""tune.py: what it chooses, what it refuses, what it never opens before it has chosen."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import make_wrapper, write_json
from planted import MODEL, PLANTED, contents, plant
from running import artifacts, call, finish, hidden, kill_at_signs_of_work, start_warm

import utils.tuning.run as run
from utils.data.items import load_ab_items
from utils.errors import UserError
from utils.files.contents import load_torch, read_contents
from utils.files.paths import Paths
from utils.steering.one_pass import Steer
from utils.tuning.splits import asked_twice

OPEN = ("letters=inf", "rollout_kl=inf", "knowledge=inf", "loops=inf")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    plant(root)
    return root


@pytest.fixture(scope="module")
def tuned(planted: Path, tiny_folder: Path) -> Paths:
    """A run over three layers and two doses."""
    shutil.copytree(planted, planted / "tuned")
    paths = paths_of(planted / "tuned")
    assert tune(paths, tiny_folder, "--layers", "0-2", "--budget", "kl=1", *OPEN) == 0
    return paths


@pytest.fixture
def paths(planted: Path, tmp_path: Path) -> Paths:
    """A copy of what is planted."""
    for name in ("made", "datasets"):
        shutil.copytree(planted / name, tmp_path / name)
    return paths_of(tmp_path)


def paths_of(root: Path) -> Paths:
    return Paths(root / "made", root / "datasets")


def flags(paths: Paths, model: Path, *more: object) -> list[object]:
    folders = ("--artifacts_dir", paths.artifacts, "--datasets_dir", paths.datasets)
    return ["--model", model, *folders, *more]


def tune(paths: Paths, model: Path, *more: object) -> int:
    return call("tune", *flags(paths, model, "--doses", -0.1, 0.2, *more))


def chosen(paths: Paths) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(paths.tuning("calm", MODEL).read_text())
    return found


def test_the_layer_of_a_planted_direction_is_chosen(tuned: Paths) -> None:
    found = chosen(tuned)
    assert (found["chosen"]["layer"], found["chosen"]["dose"]) == (PLANTED, pytest.approx(0.2))
    assert len(found["cells"]) == 6 and found["splits"]["test"] == [*range(1, 9)]
    assert found["chosen"]["effect"]["low"] > 0 and found["chosen"]["effect"]["n"] == 12
    looked = [cell for cell in found["cells"] if "loops" in cell]
    assert looked and all({"rollout_kl", "knowledge"} <= cell.keys() for cell in looked)
    assert not hidden(tuned.artifacts), "no journal is left"
    table = tuned.tuning("calm", MODEL).with_suffix(".txt").read_text()
    assert table.count("\n") == 2 + 6 + 1 and "chosen on 12 contrast pairs held out" in table
    assert tuned.tuning("calm", MODEL).with_suffix(".tex").read_text().count("calm") == 2
    assert tuned.tuning("calm", MODEL).with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_the_test_is_run_with_the_vector_that_users_add(tuned: Paths) -> None:
    """The effect on the test, from its file and the normalised vector alone."""
    found = chosen(tuned)
    vector = load_torch(read_contents(tuned.vector("calm", PLANTED, MODEL, normalized=True)))
    wrapper, size = make_wrapper("llama"), found["chosen"]["multiplier"]
    questions, _ = asked_twice(load_ab_items(tuned.test_data("calm", "ab"), made_by=""))
    steers = [Steer(PLANTED, sign * size * vector) for sign in (1, -1)]
    levels = contents(wrapper, questions, steers)
    assert found["test"]["effect"]["mean"] == pytest.approx(
        float((levels[:, 1] - levels[:, 2]).mean() / 2), rel=1e-3
    )
    shown = [level["content"]["mean"] for level in found["test"]["levels"]]
    assert shown == pytest.approx(levels[:, [2, 0, 1]].mean(axis=0).tolist(), rel=1e-3, abs=1e-5)
    optimism = found["chosen"]["effect"]["mean"] - found["test"]["effect"]["mean"]
    assert found["optimism"] == pytest.approx(optimism)


def test_a_finished_choice_is_not_made_again_and_other_budgets_are_told(
    tuned: Paths, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = artifacts(tuned.artifacts)
    assert tune(tuned, tiny_folder, "--layers", "0-2", "--budget", "kl=1", *OPEN) == 0
    assert "nothing to do" in (out := capsys.readouterr().out) and f"calm: layer {PLANTED}" in out
    with pytest.raises(UserError, match=r"budgets: kl 1\.0 -> 0\.5"):
        tune(tuned, tiny_folder, "--layers", "0-2", "--budget", "kl=0.5", *OPEN)
    assert artifacts(tuned.artifacts) == before


def test_a_report_on_another_test_is_told(paths: Paths, tuned: Paths, tiny_folder: Path) -> None:
    shutil.copytree(tuned.artifacts, paths.artifacts, dirs_exist_ok=True)
    rows = json.loads(paths.test_data("calm", "ab").read_text())
    write_json(paths.test_data("calm", "ab"), rows[1:])
    with pytest.raises(UserError, match="reports another test"):
        tune(paths, tiny_folder, "--layers", "0-2", "--budget", "kl=1", *OPEN)


def test_without_a_budget_it_says_what_it_would_have_needed(
    paths: Paths, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(paths, tiny_folder, "--layers", PLANTED, "--budget", "kl=0", *OPEN) == 1
    out = capsys.readouterr().out
    assert "calm, tiny-llama: do not steer" in out
    found = chosen(paths)
    assert found["chosen"] is None and found["test"] is None and found["splits"]["test"] == []
    assert not any(cell["feasible"] for cell in found["cells"])
    with pytest.raises(UserError, match="says not to steer calm"):
        call("prompting_with_steering", *flags(paths, tiny_folder, "--layers", "tuned"))
    (need,) = [line.split()[-1] for line in out.splitlines() if "dose 0.1 would need" in line]
    assert tune(paths, tiny_folder, "--layers", PLANTED, "--budget", "kl=0", *OPEN) == 1, "finished"
    again = ("--layers", PLANTED, "--overwrite", "--budget", need, *OPEN)
    assert tune(paths, tiny_folder, *again) == 0
    assert chosen(paths)["chosen"]["dose"] == pytest.approx(0.1)


def test_no_test_question_is_opened_before_the_choice(
    paths: Paths, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's file cannot be read until a cell is chosen: reading it earlier would fail."""
    place = paths.test_data("calm", "ab")
    whole, choose = place.read_bytes(), run.choose
    place.write_bytes(b"not to be read")
    seen: list[bytes] = []

    def choose_and_show(*given: Any) -> Any:
        seen.append(place.read_bytes())
        found = choose(*given)
        place.write_bytes(whole)
        return found

    monkeypatch.setattr(run, "choose", choose_and_show)
    assert tune(paths, tiny_folder, "--layers", PLANTED, "--budget", "kl=1", *OPEN) == 0
    assert seen == [b"not to be read"] and chosen(paths)["test"]["effect"]["n"] == 8


def test_the_same_bytes_after_a_kill(paths: Paths, tuned: Paths, tiny_folder: Path) -> None:
    asked = ("--doses", -0.1, 0.2, "--layers", "0-2", "--budget", "kl=1", *OPEN)
    arguments = flags(paths, tiny_folder, *asked)
    process = start_warm("tune", *arguments)
    assert kill_at_signs_of_work(process, paths.artifacts, ".journal_*", random.Random(5))
    assert hidden(paths.artifacts), "a journal is left"
    finish(start_warm("tune", *arguments))
    assert artifacts(paths.artifacts / "analysis") == artifacts(tuned.artifacts / "analysis")
    assert not hidden(paths.artifacts)


def test_the_tuned_cell_is_steered_at(paths: Paths, tuned: Paths, tiny_folder: Path) -> None:
    with pytest.raises(UserError, match=r"no layer has been chosen for calm(.|\n)*\./tune\.py"):
        call("prompting_with_steering", *flags(paths, tiny_folder, "--layers", "tuned"))
    shutil.copytree(tuned.artifacts, paths.artifacts, dirs_exist_ok=True)
    asked = ("--layers", "tuned", "--doses", "tuned")
    assert call("prompting_with_steering", *flags(paths, tiny_folder, *asked)) == 0
    names = sorted((n.layer, n.strength) for n in paths.results_of("calm"))
    dose = chosen(tuned)["chosen"]["dose"]
    assert names == [(PLANTED, -dose), (PLANTED, 0.0), (PLANTED, dose)]
    with pytest.raises(UserError, match="--doses tuned goes with --layers tuned"):
        call("prompting_with_steering", *flags(paths, tiny_folder, "--doses", "tuned"))
    place = tuned.vector("calm", 0, MODEL, normalized=True)
    shutil.copy(place, paths.vector("calm", PLANTED, MODEL, normalized=True))
    paths.vector("calm", PLANTED, MODEL, normalized=True).with_name(
        f".vec_layer_{PLANTED}_{MODEL}.pt.record"
    ).unlink()
    with pytest.raises(UserError, match=r"another vector of layer 1(.|\n)*tune.py .*--overwrite"):
        call("prompting_with_steering", *flags(paths, tiny_folder, *asked))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--doses", 0, 0.1), "0 is the unsteered model"),
        (("--layers", 1, "--neutral_prompts", "nowhere.json"), "missing data file nowhere.json"),
        (("--layers", 9), "has layers 0 to 3"),
    ],
)
def test_wrong_input_is_told(
    planted: Path, tiny_folder: Path, asked: tuple[object, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        call("tune", *flags(paths_of(planted), tiny_folder, *asked))


def test_missing_activations_name_the_command_that_saves_them(
    paths: Paths, tiny_folder: Path
) -> None:
    shutil.rmtree(paths.artifacts / "activations")
    with pytest.raises(UserError, match=r"--behaviors calm --layers 1 --save_activations"):
        tune(paths, tiny_folder, "--layers", 1)


def test_a_vector_of_other_activations_is_refused(paths: Paths, tiny_folder: Path) -> None:
    for sign in ("pos", "neg"):
        target, source = (paths.activations("calm", sign, n, MODEL) for n in (1, 0))
        shutil.copy(source, target)
        target.with_name(f".{target.name}.record").unlink()
    with pytest.raises(UserError, match="does not point where the saved activations"):
        tune(paths, tiny_folder, "--layers", 1)


def test_budgets_that_are_none_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("kl", "kl=-1", "kl=x", "speed=1"):
        with pytest.raises(SystemExit):
            call("tune", "--budget", wrong)
        assert f"argument --budget: {wrong}: expected" in capsys.readouterr().err
