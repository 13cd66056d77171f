"""Figures as artefacts: what is drawn again, what is refused, and what has a name of its own."""

import json
import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from running import ROOT, artifacts, call, hidden

from utils.artifacts import State, state
from utils.contents import read_record
from utils.errors import UserError
from utils.paths import Paths, ResultName
from utils.subsets import LONGEST, part

MODEL = "tiny-llama"
LAYERS, MULTIPLIERS = (0, 1, 2), (-1.0, 0.0, 1.0)


class Desk:
    """Results and vectors without a model, and the scripts that draw them."""

    def __init__(self, root: Path, datasets: Path) -> None:
        self.paths = Paths(root, datasets)
        self.flags = ("--artifacts_dir", root, "--datasets_dir", datasets)

    def put(self, behavior: str, layer: int, strength: float, shift: float = 0.0) -> Path:
        rows = []
        for number in range(6):
            p = 0.5 + 0.02 * strength * (layer + 1) + 0.01 * number + shift
            answers = {"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}
            rows.append({"question": f"{number}?", **answers, "a_prob": p, "b_prob": 0.9 - p})
        path = self.paths.result(ResultName(layer, strength, behavior, "ab", model=MODEL))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
        return path

    def fill(self, behaviors: Sequence[str] = ("bold", "calm")) -> "Desk":
        for behavior in behaviors:
            for layer in LAYERS:
                for multiplier in MULTIPLIERS:
                    self.put(behavior, layer, multiplier)
        return self

    def plot(self, *more: object) -> int:
        return call("plot_results", *self.flags, "--model", MODEL, *more)

    def figures(self) -> dict[str, bytes]:
        return artifacts(self.paths.artifacts / "analysis")


@pytest.fixture
def desk(tmp_path: Path, datasets: Path) -> Desk:
    return Desk(tmp_path / "out", datasets).fill()


@pytest.fixture
def drawn(desk: Desk) -> Desk:
    desk.plot("--summary")
    return desk


def cpu_seconds(work: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_alone(script: str, *flags: object) -> str:
    """A script in a process of its own, which fails if matplotlib was imported."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[f'{script}.py', *map(str, flags)]!r}\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / f'{script}.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "assert 'matplotlib' not in sys.modules and 'torch' not in sys.modules\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PARTS = {
    "behaviors": ("--behaviors", "calm"),
    "layer": ("--layers", 1),
    "layers": ("--layers", 0, 2),
    "multipliers": ("--multipliers", 0, 1),
    "all of it": ("--behaviors", "calm", "--layers", 0, 2, "--multipliers", 1),
}


@pytest.mark.parametrize("flags", PARTS.values(), ids=PARTS)
def test_a_part_never_replaces_the_figures_of_the_whole(
    drawn: Desk, flags: tuple[object, ...]
) -> None:
    whole = drawn.figures()
    drawn.plot("--summary", *flags)
    after = drawn.figures()
    assert {name: after[name] for name in whole} == whole
    new = after.keys() - whole.keys()
    assert new and all(shlex.quote(name) == name for name in new)
    assert any(name.endswith(".csv") for name in new), "the table of a part is another table"
    assert hidden(drawn.paths.artifacts) == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--behaviors", "calm", "bold"),
        ("--layers", *range(32)),
        ("--multipliers", -1, 0, 1),
        ("--layers", 2, 1, 0, "--behaviors", "bold", "calm"),
    ],
)
def test_a_part_that_is_all_there_is_has_the_plain_names(
    drawn: Desk, flags: tuple[object, ...]
) -> None:
    before = drawn.figures()
    drawn.plot("--summary", *flags)
    assert drawn.figures() == before


def test_every_figure_has_one_record_with_its_numbers(drawn: Desk) -> None:
    analysis = drawn.paths.artifacts / "analysis"
    named = set()
    for record in analysis.rglob(".*.record"):
        if record.name.startswith(".drawn_"):
            continue
        path = record.with_name(record.name[1:].removesuffix(".record"))
        content = read_record(path)
        assert content is not None and state(path, content["inputs"])[0] is State.FINISHED
        named |= {path, *(path.with_name(name) for name in content.get("beside", {}))}
    assert named == {p for p in analysis.rglob("[!.]*") if p.is_file()}


def test_the_same_again_has_nothing_to_do_and_loads_nothing(drawn: Desk) -> None:
    before = {p: p.stat().st_mtime_ns for p in drawn.paths.artifacts.rglob("*") if p.is_file()}
    said: list[str] = []
    flags = (*drawn.flags, "--model", MODEL, "--summary")
    spent = cpu_seconds(lambda: said.append(run_alone("plot_results", *flags)))
    assert said[0].startswith("nothing to do") and "calm" in said[0]
    assert spent < 0.7
    assert before == {
        p: p.stat().st_mtime_ns for p in drawn.paths.artifacts.rglob("*") if p.is_file()
    }


def grown(desk: Desk) -> None:
    desk.put("calm", 3, 0.0)
    desk.put("calm", 3, 1.0)


def changed(desk: Desk) -> None:
    desk.put("calm", 2, 1.0, shift=0.1)


def cut(desk: Desk) -> None:
    (path,) = (desk.paths.artifacts / "analysis/calm").glob("LAYER_SWEEP_*.png")
    path.write_bytes(path.read_bytes()[:-9])


def without_numbers(desk: Desk) -> None:
    (path,) = (desk.paths.artifacts / "analysis/calm").glob("LAYER_SWEEP_*.txt")
    path.unlink()


def without_record(desk: Desk) -> None:
    for path in desk.paths.artifacts.rglob("analysis/**/.*.record"):
        path.unlink()


@pytest.mark.parametrize("change", [grown, changed, cut, without_numbers, without_record])
def test_more_or_changed_results_and_damaged_figures_are_drawn_again(
    drawn: Desk, change: Callable[[Desk], None], tmp_path: Path
) -> None:
    change(drawn)
    drawn.plot("--summary")
    fresh = Desk(tmp_path / "fresh", drawn.paths.datasets)
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh/results").symlink_to(drawn.paths.artifacts / "results")
    fresh.plot("--summary")
    found, expected = drawn.figures(), fresh.figures()
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("flags", [("--summary",), ("--layers", 1), ("--behaviors", "calm")])
def test_fewer_results_than_a_figure_shows_are_refused(
    drawn: Desk, flags: tuple[object, ...]
) -> None:
    drawn.plot(*flags)
    before = drawn.figures()
    drawn.paths.result(ResultName(1, 1.0, "calm", "ab", model=MODEL)).unlink()
    with pytest.raises(UserError, match=r"(?s)fewer.*calm.*layer=1_multiplier=1\.0.*--overwrite"):
        drawn.plot(*flags)
    assert drawn.figures() == before
    assert drawn.plot(*flags, "--overwrite") == 0
    assert drawn.figures() != before


def test_the_papers_command_draws_the_sweeps_and_no_page_for_each_layer(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.plot("--layers", *range(32), "--multipliers", 1, "--type", "ab")
    names = desk.figures()
    assert any(re.match(r"LAYER_SWEEPS_.*\.png", name) for name in names)
    assert sum("/LAYER_SWEEP_" in name and name.endswith(".png") for name in names) == 2
    assert not [n for n in names if re.search("MULTIPLIERS|multipliers_|CHANGES", n)]
    table = next(data for n, data in names.items() if re.match(r"LAYER_SWEEPS_.*\.txt", n))
    assert b"calm\t2\t1\t" in table
    assert "missing;" not in capsys.readouterr().out, "tiny-llama is not known to have 32 layers"


def test_one_layer_asked_for_has_its_figures(desk: Desk) -> None:
    desk.plot("--layers", 1)
    names = {name.split("_type")[0] for name in desk.figures()}
    assert {"MULTIPLIERS_layer=1", "CHANGES_layer=1", "calm/multipliers_layer=1"} <= names


def test_missing_cells_are_one_line_at_the_end_of_what_was_asked_for(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    for layer in (0, 1):
        desk.paths.result(ResultName(layer, 1.0, "calm", "ab", model=MODEL)).unlink()
    desk.paths.result(ResultName(2, -1.0, "bold", "ab", model=MODEL)).unlink()
    desk.plot("--layers", *range(9), "--multipliers", -1, 0, 1)
    lines = capsys.readouterr().out.splitlines()
    assert sum("are missing" in line for line in lines) == 1
    assert lines[-1].startswith("3 cells are missing")
    assert "--behaviors bold calm --layers 0 1 2 --multipliers -1 1" in lines[-1]


def test_a_behaviour_without_any_result_is_hinted_at_only_if_asked_for(
    tmp_path: Path, datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path / "out", datasets).fill(["calm"])
    desk.plot("--layers", 0, 1)
    assert "missing;" not in capsys.readouterr().out
    desk.plot("--layers", 0, 1, "--multipliers", 0, 1, "--behaviors", "calm", "bold")
    assert "4 cells are missing" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_size", "7b"), f"--model {MODEL}"),
        ((), f"--model {MODEL}"),
        (("--model", MODEL, "--limit", 8), f"--model {MODEL}"),
        (("--model", MODEL, "--layers", 7), "there are layers 0-2, multipliers -1, 0, 1"),
        (("--model", MODEL, "--type", "truthful_qa"), "./prompting_with_steering.py --type truth"),
    ],
)
def test_what_there_is_instead_is_named_with_its_flag(
    desk: Desk, flags: tuple[object, ...], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        call("plot_results", *desk.flags, *flags)


def vectors(desk: Desk, models: Sequence[str] = ("a", "b")) -> None:
    generator = torch.Generator().manual_seed(0)
    for model in models:
        for behavior in ("bold", "calm", "meek"):
            for layer in LAYERS:
                path = desk.paths.vector(behavior, layer, model, normalized=False)
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save(torch.randn(8, generator=generator), path)


@pytest.mark.parametrize(
    "flags",
    [
        ("--behaviors", "bold", "calm"),
        ("--models", "a"),
        ("--layers", 0, 2),
        ("--layers", 1, "--behaviors", "calm", "bold", "--models", "b"),
    ],
)
def test_vectors_a_part_never_replaces_the_whole(desk: Desk, flags: tuple[object, ...]) -> None:
    vectors(desk)
    call("analyze_vectors", *desk.flags)
    whole = desk.figures()
    call("analyze_vectors", *desk.flags, *flags)
    after = desk.figures()
    assert {name: after[name] for name in whole} == whole
    call("analyze_vectors", *desk.flags, "--layers", *LAYERS, "--models", "b", "a")
    assert {name: desk.figures()[name] for name in after} == after


def test_vectors_the_same_again_is_at_once_and_a_lost_one_is_refused(desk: Desk) -> None:
    vectors(desk, ["a"])
    call("analyze_vectors", *desk.flags)
    said: list[str] = []
    spent = cpu_seconds(lambda: said.append(run_alone("analyze_vectors", *desk.flags)))
    assert said[0].startswith("nothing to do") and spent < 0.7
    desk.paths.vector("calm", 1, "a", normalized=False).unlink()
    with pytest.raises(UserError, match=r"fewer.*calm: a: layer=1"):
        call("analyze_vectors", *desk.flags)
    assert call("analyze_vectors", *desk.flags, "--overwrite") == 0


@pytest.mark.parametrize(
    "text", ["a", "coordinate-other-ais,corrigible-neutral-HHH,hallucination", "x" * 90, "0,1" * 40]
)
def test_the_end_of_a_name_is_short_and_its_own(text: str) -> None:
    named, other = part(behaviors=text), part(behaviors=text + "y")
    assert len(named) <= LONGEST and named != other
    assert shlex.quote(named) == named and part(layers="", behaviors="") == ""
