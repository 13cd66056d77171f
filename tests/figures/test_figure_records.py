"""Figures as artefacts: what is drawn again, what is refused, and what has a name of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from result_desk import LAYERS, MODEL, Desk
from running import ROOT, call, hidden

from utils.errors import UserError
from utils.files.artifacts import State, state
from utils.files.contents import read_record
from utils.files.names import ResultName, Variant
from utils.files.subsets import LONGEST, part


@pytest.fixture
def desk(tmp_path: Path, datasets: Path) -> Desk:
    return Desk(tmp_path / "out", datasets).fill()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was drawn once, to be copied."""
    return tmp_path_factory.mktemp("kept")


def begun(desk: Desk, kept: Path, draw: Callable[[], object]) -> Desk:
    """A desk on which ``draw`` has been done, by the first test that wants it."""
    if not kept.exists():
        draw()
        shutil.copytree(desk.paths.artifacts, kept)
    shutil.copytree(kept, desk.paths.artifacts, dirs_exist_ok=True)
    return desk


@pytest.fixture
def drawn(desk: Desk, kept: Path) -> Desk:
    return begun(desk, kept / "results", lambda: desk.plot("--summary"))


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
    assert len(named) > 6, "figures, their numbers and tables"
    assert named == {p for p in analysis.rglob("[!.]*") if p.is_file()}


def test_the_same_again_has_nothing_to_do_and_loads_nothing(drawn: Desk) -> None:
    before = {p: p.stat().st_mtime_ns for p in drawn.paths.artifacts.rglob("*") if p.is_file()}
    flags = (*drawn.flags, "--model", MODEL, "--summary")
    said = run_alone("plot_results", *flags)
    assert said.startswith("nothing to do") and "calm" in said
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
    drawn.paths.result(ResultName(1, 1.0, "calm", Variant("ab", model=MODEL))).unlink()
    with pytest.raises(UserError, match=r"(?s)fewer.*calm.*layer=1_multiplier=1\.0.*--overwrite"):
        drawn.plot(*flags)
    assert drawn.figures() == before
    assert drawn.plot(*flags, "--overwrite") == 0
    assert drawn.figures() != before


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
def test_vectors_a_part_never_replaces_the_whole(
    desk: Desk, kept: Path, flags: tuple[object, ...]
) -> None:
    vectors(desk)
    begun(desk, kept / "vectors", lambda: call("analyze_vectors", *desk.flags))
    whole = desk.figures()
    call("analyze_vectors", *desk.flags, *flags)
    after = desk.figures()
    assert {name: after[name] for name in whole} == whole
    call("analyze_vectors", *desk.flags, "--layers", *LAYERS, "--models", "b", "a")
    assert {name: desk.figures()[name] for name in after} == after


def test_vectors_the_same_again_is_at_once_and_a_lost_one_is_refused(desk: Desk) -> None:
    vectors(desk, ["a"])
    call("analyze_vectors", *desk.flags)
    said = run_alone("analyze_vectors", *desk.flags)
    assert said.startswith("nothing to do")
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


def activations(desk: Desk, behaviors: Sequence[str] = ("bold", "calm")) -> None:
    generator = torch.Generator().manual_seed(0)
    for behavior in behaviors:
        pairs = len(json.loads(desk.paths.generate_data(behavior).read_text()))
        for layer in (0, 1):
            for sign in ("pos", "neg"):
                path = desk.paths.activations(behavior, sign, layer, "a")
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save(torch.randn(pairs, 6, generator=generator), path)


def test_activations_the_same_again_is_at_once_and_a_part_has_its_own_name(desk: Desk) -> None:
    activations(desk)
    call("plot_activations", *desk.flags)
    whole = desk.figures()
    said = run_alone("plot_activations", *desk.flags)
    assert said.startswith("nothing to do") and "AUROC" in said
    activations(desk, ["calm"])
    call("plot_activations", *desk.flags, "--layers", 0, "--behaviors", "calm", "bold")
    after = desk.figures()
    changed = {name for name in whole if after[name] != whole[name]}
    assert changed and all("calm/PCA_layer=0" in name for name in changed)
    new = after.keys() - whole.keys()
    assert new and all("layers=0" in name for name in new)
