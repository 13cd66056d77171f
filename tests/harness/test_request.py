"""What --model_args may say: refused before a model loads; doses are multipliers. No harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bench import Bench, bench, forbid_loading, says

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.harness.request import Request, check_names

__all__ = ("bench",)  # fixtures


@pytest.fixture
def given(tiny_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments that are accepted."""
    torch.save(torch.ones(32), tmp_path / "ones.pt")
    return {"model": tiny_folder, "vector": tmp_path / "ones.pt", "layer": 1, "multiplier": 2}


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing to add": ({"vector": None}, ["behavior=NAME or vector=FILE.pt"]),
    "two things to add": ({"behavior": "calm"}, ["behavior=NAME or vector=FILE.pt"]),
    "no strength": ({"multiplier": None}, ["multiplier=X or dose=X"]),
    "two strengths": ({"dose": 0.1}, ["multiplier=X or dose=X"]),
    "a dose of a file": ({"multiplier": None, "dose": 0.1}, ["dose= needs behavior="]),
    "not a number": ({"multiplier": "x"}, ["multiplier=x", "number"]),
    "not finite": ({"multiplier": float("nan")}, ["multiplier=nan", "finite"]),
    "a truth for a number": ({"multiplier": True}, ["multiplier=True"]),
    "no layer": ({"layer": None}, ["no layer", "0 to 3"]),
    "half a layer": ({"layer": 1.5}, ["layer=1.5", "0 to 3"]),
    "a layer beyond": ({"layer": 4}, ["layer=4", "0 to 3"]),
    "a scope": ({"scope": "answer"}, ["scope=answer", "continuation, after_instruction, all"]),
    "no file": ({"vector": "nowhere.pt"}, ["nowhere.pt", "no such file"]),
    "no model": ({"model": "./nowhere"}, ["nowhere", "neither a model folder"]),
    "a dtype": ({"dtype": "float33"}, ["float33", "bfloat16"]),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_before_the_model_loads(
    given: dict[str, Any],
    change: dict[str, Any],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forbid_loading(monkeypatch)
    Request.of(**given)
    with pytest.raises(UserError) as caught:
        Request.of(**(given | change))
    says(str(caught.value), *words)


def test_a_vector_of_another_width_is_refused(given: dict[str, Any]) -> None:
    torch.save(torch.ones(33), given["vector"])
    with pytest.raises(UserError, match="33"):
        Request.of(**given)


def test_several_processes_are_refused(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        Request.of(**given)


def test_an_argument_without_effect_is_refused() -> None:
    check_names({"model": "x", "batch_size": 4, "add_bos_token": True})
    with pytest.raises(UserError) as caught:
        check_names({"multiplyer": 2, "pretrained": "x"})
    says(str(caught.value), "multiplyer, pretrained", "did you mean multiplier", "behavior")


def test_a_behaviour_without_a_vector_names_the_command(bench: Bench) -> None:
    with pytest.raises(UserError) as caught:
        Request.of(
            model=str(bench.model), behavior="calm", layer=1, dose=1, artifacts_dir=bench.artifacts
        )
    says(str(caught.value), "missing vector", "./generate_vectors.py --behaviors calm --layers 1")


def test_a_dose_is_the_multiplier_that_the_front_door_takes(bench: Bench) -> None:
    bench.generate()
    bench.normalize()
    options: dict[str, Any] = {"layer": 2, "artifacts_dir": bench.artifacts}
    asked = Request.of(model=str(bench.model), behavior="bold", dose=-0.25, **options)
    wrapper = LlamaWrapper.load(bench.model, device="cpu")
    expected = wrapper.load_vector("bold", dose=-0.25, **options)
    found = asked.multiplier * asked.vector.vector
    assert torch.allclose(found, expected, rtol=1e-6)
    # by hand: a quarter of the median length that the record holds
    record = json.loads(
        (bench.artifacts / "normalized_vectors/bold/.vec_layer_2_tiny-llama.pt.record").read_text()
    )
    assert float(found.norm()) == pytest.approx(
        0.25 * record["measured"]["residual_norm"], rel=1e-6
    )
    said = asked.recorded()
    assert (said["behavior"], said["layer"], said["dose"]) == ("bold", 2, pytest.approx(-0.25))
    assert json.loads(json.dumps(said)) == said
