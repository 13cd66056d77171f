"""The mean norm of a model's vectors is fixed by its first normalisation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROWS, write_json
from running import artifacts, call
from torch import Tensor

from utils.errors import UserError

LAYERS = (1, 2)
LABEL = "tiny-llama"


class Desk:
    """A tiny model, two behaviours, and a third that comes later."""

    def __init__(self, model: Path, datasets: Path, out: Path) -> None:
        self.model, self.datasets, self.out = model, datasets, out
        self.folders = ("--datasets_dir", datasets, "--artifacts_dir", out)

    def generate(self, *more: object) -> None:
        layers = () if "--layers" in more else ("--layers", *LAYERS)
        assert call("generate_vectors", *layers, "--model", self.model, *self.folders, *more) == 0

    def normalize(self, *more: object) -> None:
        assert call("normalize_vectors", *self.folders, *more) == 0

    def steer(self, *more: object) -> None:
        grid = ("--layers", *LAYERS, "--multipliers", -1, 0, 1, "--model", self.model)
        assert call("prompting_with_steering", *grid, *self.folders, *more) == 0

    def add_behavior(self, name: str = "own") -> None:
        rows = [r | {"question": f"{r['question']} Really?"} for r in ROWS]
        write_json(self.datasets / f"generate/{name}/generate_dataset.json", rows)
        write_json(self.datasets / f"test/{name}/test_dataset_ab.json", rows)

    def vector(self, behavior: str, layer: int, kind: str = "normalized_vectors") -> Tensor:
        return torch.load(self.out / kind / behavior / f"vec_layer_{layer}_{LABEL}.pt")

    def mean_norm(self, layer: int, *behaviors: str) -> float:
        norms = [float(self.vector(b, layer, "vectors").double().norm()) for b in behaviors]
        return sum(norms) / len(norms)

    def norm(self, behavior: str, layer: int) -> float:
        return float(self.vector(behavior, layer).double().norm())


@pytest.fixture
def desk(tiny_folder: Path, datasets: Path, tmp_path: Path) -> Desk:
    data = tmp_path / "data"
    shutil.copytree(datasets, data)
    desk = Desk(tiny_folder, data, tmp_path / "out")
    desk.generate()
    desk.normalize()
    return desk


@pytest.mark.parametrize("chosen", [(), ("--behaviors", "own")], ids=["all", "the new one"])
def test_a_behaviour_that_is_added_changes_nothing_for_the_others(
    desk: Desk, chosen: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    desk.steer()
    before = artifacts(desk.out)
    records = {p: p.read_bytes() for p in desk.out.rglob(".*.record")}
    desk.add_behavior()
    desk.generate("--behaviors", "own")
    capsys.readouterr()
    desk.normalize(*chosen)
    assert "mean over bold, calm (fixed by the first normalisation)" in capsys.readouterr().out
    assert before.items() <= artifacts(desk.out).items()
    assert records and all(path.read_bytes() == data for path, data in records.items())
    for layer in LAYERS:
        mean = desk.mean_norm(layer, "bold", "calm")
        assert desk.norm("own", layer) == pytest.approx(mean, rel=1e-6)
        assert mean != pytest.approx(desk.mean_norm(layer, "bold", "calm", "own"), rel=1e-6)
    for step in (desk.normalize, lambda: desk.steer("--behaviors", "bold", "calm")):
        capsys.readouterr()
        step()
        assert "nothing to do" in capsys.readouterr().out
    desk.steer("--behaviors", "own")


def test_a_subset_given_later_keeps_what_is_there(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.normalize("--behaviors", "calm")
    assert "nothing to do" in capsys.readouterr().out


def test_a_new_layer_has_the_same_reference(desk: Desk) -> None:
    desk.add_behavior()
    desk.generate("--behaviors", "own", "--layers", 0)
    with pytest.raises(UserError, match=r"(?s)over bold, calm.*layer 0.*--behaviors bold calm"):
        desk.normalize()
    desk.generate("--layers", 0)
    desk.normalize()
    assert desk.norm("own", 0) == pytest.approx(desk.mean_norm(0, "bold", "calm"), rel=1e-6)


def test_another_reference_is_refused_with_what_it_makes_stale_and_made_when_meant(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.steer("--behaviors", "calm")
    before = artifacts(desk.out)
    stale = r"(?s)was over bold, calm, now over calm.*calm \(4\)"
    with pytest.raises(UserError, match=stale) as caught:
        desk.normalize("--reference", "calm")
    assert "--overwrite" in str(caught.value) and "bold (" not in str(caught.value)
    assert artifacts(desk.out) == before
    desk.normalize("--reference", "calm", "--overwrite")
    assert "make them again" in capsys.readouterr().out
    for layer in LAYERS:
        for behavior in ("bold", "calm"):
            mean = desk.mean_norm(layer, "calm")
            assert desk.norm(behavior, layer) == pytest.approx(mean, rel=1e-6)
    with pytest.raises(UserError, match=r"multiplier=-1\.0.*\n.*vector"):
        desk.steer("--behaviors", "calm")
    # and that is the reference from now on
    desk.add_behavior()
    desk.generate("--behaviors", "own")
    desk.normalize()
    assert desk.norm("own", 1) == pytest.approx(desk.mean_norm(1, "calm"), rel=1e-6)


def test_files_from_elsewhere_were_normalised_together(desk: Desk) -> None:
    for record in (desk.out / "normalized_vectors").rglob(".*.record"):
        record.unlink()
    before = artifacts(desk.out / "normalized_vectors")
    desk.add_behavior()
    desk.generate("--behaviors", "own")
    desk.normalize()
    assert before.items() <= artifacts(desk.out / "normalized_vectors").items()
    assert desk.norm("own", 2) == pytest.approx(desk.mean_norm(2, "bold", "calm"), rel=1e-6)


def test_several_references_leave_the_choice_to_the_user(desk: Desk) -> None:
    desk.normalize("--behaviors", "bold", "--reference", "bold", "--overwrite")
    desk.add_behavior()
    desk.generate("--behaviors", "own")
    with pytest.raises(UserError, match=r"bold; bold, calm\nSay over which with --reference"):
        desk.normalize()
    desk.normalize("--behaviors", "own", "--reference", "own", "bold")
    assert desk.norm("own", 1) == pytest.approx(desk.mean_norm(1, "bold", "own"), rel=1e-6)


def test_a_raw_vector_that_changed_is_named_in_words(desk: Desk) -> None:
    path = desk.out / "vectors/bold" / f"vec_layer_1_{LABEL}.pt"
    path.with_name(f".{path.name}.record").unlink()
    torch.save(2 * torch.load(path), path)
    with pytest.raises(UserError, match=r"vectors: bold [0-9a-f]{8} -> [0-9a-f]{8}\n") as caught:
        desk.normalize()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("flag", ["--behaviors", "--reference"])
def test_a_name_that_is_nearly_one_is_answered_with_it(desk: Desk, flag: str) -> None:
    with pytest.raises(UserError, match=r"Clam \(did you mean calm\?\)"):
        desk.normalize(flag, "Clam")


@pytest.mark.parametrize(
    "name", ["MODEL", "MODEL/", f"/elsewhere/{LABEL}.gguf", f"some-one/{LABEL}", LABEL]
)
def test_the_model_is_named_as_the_other_scripts_take_it(
    desk: Desk, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.normalize("--model", name.replace("MODEL", str(desk.model)))
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(UserError, match="no vectors of Llama-2-7b-hf"):
        desk.normalize("--model_size", "7b", "--use_base_model")


def test_raw_data_that_have_not_been_processed_are_told_from_an_unknown_name(desk: Desk) -> None:
    write_json(desk.datasets / "raw/own/dataset.json", ROWS)
    with pytest.raises(UserError, match=r"(?s)raw data.*process_raw_datasets\.py --behaviors own"):
        desk.generate("--behaviors", "own")
    with pytest.raises(UserError, match=r"did you mean bold\?"):
        desk.generate("--behaviors", "blod")
