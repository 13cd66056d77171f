"""What is trained is float32, whatever the arithmetic: a small step is not rounded away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import ROWS, make_model, write_json
from running import artifacts, call, hidden
from safetensors.torch import load_file

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.files.artifacts import read_record
from utils.finetuning.tuner import Example, Finetuner, Precision, precision
from utils.models.choice import choose_model

Weights = dict[str, torch.Tensor]
MIXED = "bfloat16, with float32 weights"


@pytest.fixture
def common(datasets: Path, tiny_folder: Path) -> list[object]:
    write_json(datasets / "generate/calm/generate_dataset.json", ROWS * 2)
    options: list[object] = ["--behavior", "calm", "--direction", "pos"]
    return [*options, "--datasets_dir", datasets, "--model", tiny_folder]


@pytest.fixture(autouse=True)
def accelerate_as_in_a_new_process() -> Iterator[None]:
    """A process has one precision, which accelerate keeps for good; here many share a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def trained(folder: Path, *options: object) -> Weights:
    AcceleratorState._reset_state(reset_partial_state=True)
    assert call("finetune_llama", *options, "--artifacts_dir", folder) == 0
    (path,) = folder.glob("finetuned_models/*.pt")
    return torch.load(path, weights_only=True)


def steps_of(weights: Weights) -> torch.Tensor:
    """How far every weight has come from where it began, in what it was saved in."""
    before = make_model("llama").state_dict()
    steps = [v.double() - before[n].to(v.dtype).double() for n, v in weights.items()]
    return torch.cat([step.flatten() for step in steps])


@pytest.mark.parametrize(
    "how",
    [
        ("--lr", 1e-4),
        ("--lr", 1e-4, "--layer", 2),
        ("--lr", 1e-4, "--grad_accumulation", 2, "--gradient_checkpointing"),
        ("--lr", 1e-6, "--optimizer", "adamw"),
    ],
)
def test_bfloat16_changes_as_many_weights_as_float32_and_in_the_same_direction(
    common: list[object], tmp_path: Path, how: tuple[object, ...]
) -> None:
    moved = {
        dtype: steps_of(trained(tmp_path / dtype, *common, *how, "--dtype", dtype))
        for dtype in ("float32", "bfloat16")
    }
    shares = {dtype: float((step != 0).double().mean()) for dtype, step in moved.items()}
    print(shares)
    assert shares["float32"] > 0.3
    assert shares["bfloat16"] == pytest.approx(shares["float32"], rel=0.05)
    one, two = moved.values()
    assert float(torch.nn.functional.cosine_similarity(one, two, dim=0)) > 0.9


def test_the_arithmetic_is_bfloat16_and_the_file_float32(
    common: list[object], tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    losses = Finetuner._losses

    def watched(self: Finetuner, examples: list[Example]) -> torch.Tensor:
        head = self.model.get_output_embeddings()
        handle = head.register_forward_hook(lambda _m, _a, out: seen.add(out.dtype))
        found = losses(self, examples)
        handle.remove()
        return found

    monkeypatch.setattr(Finetuner, "_losses", watched)
    weights = trained(tmp_path, *common, "--dtype", "bfloat16")
    assert seen == {torch.bfloat16}
    assert {w.dtype for w in weights.values()} == {torch.float32}
    (path,) = tmp_path.glob("finetuned_models/*.pt")
    choice = choose_model(str(tiny_folder), None, False, str(path))
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        loaded = LlamaWrapper.load(choice, device="cpu", dtype=name).model.state_dict()
        assert all(torch.equal(loaded[n], w.to(dtype)) for n, w in weights.items())


def test_an_adapter_is_float32_beside_bfloat16_weights(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()
    gradients = Finetuner.gradients

    def watched(self: Finetuner, examples: list[Example]) -> tuple[float, float]:
        seen.update((p.requires_grad, p.dtype) for p in self.model.parameters())
        return gradients(self, examples)

    monkeypatch.setattr(Finetuner, "gradients", watched)
    options = [*common, "--lora_rank", 2, "--lr", 1e-4, "--dtype", "bfloat16"]
    assert call("finetune_llama", *options, "--artifacts_dir", tmp_path) == 0
    assert seen == {(True, torch.float32), (False, torch.bfloat16)}
    (path,) = tmp_path.rglob("adapter_model.safetensors")
    halves = [w for n, w in load_file(path).items() if "lora_B" in n]
    assert halves and all(float((w != 0).double().mean()) > 0.3 for w in halves)
    record = read_record(path)
    assert record is not None and record["inputs"]["dtype"] == "bfloat16", "as before"


@pytest.mark.parametrize("stop", [4, 7])
def test_a_stopped_run_in_bfloat16_goes_on_to_the_same_bytes(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    options = [*common, "--dtype", "bfloat16", "--optimizer", "adamw", "--epochs", 3]
    options += ["--checkpoint_every", 2, "--eval_every", 3]
    trained(tmp_path / "whole", *options)
    gradients, calls = Finetuner.gradients, []

    def stopping(self: Finetuner, examples: list[Example]) -> tuple[float, float]:
        calls.append(len(examples))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return gradients(self, examples)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "gradients", stopping)
        with pytest.raises(KeyboardInterrupt):
            call("finetune_llama", *options, "--artifacts_dir", tmp_path / "stopped")
    assert list((tmp_path / "stopped").rglob("run.json")), "nothing to go on from"
    trained(tmp_path / "stopped", *options)
    assert artifacts(tmp_path / "stopped") == artifacts(tmp_path / "whole")
    assert hidden(tmp_path / "stopped") == []


def test_float16_is_refused_before_the_model_is_loaded(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.models.loading.load_model", lambda *_a, **_k: pytest.fail("loaded"))
    options = [*common, "--artifacts_dir", tmp_path, "--dtype", "float16"]
    with pytest.raises(UserError, match=r"float16.*--lora_rank, or --dtype bfloat16 or float32"):
        call("finetune_llama", *options)


@pytest.mark.parametrize(
    ("arguments", "expected", "described"),
    [
        (("auto", "cpu", False), Precision("float32", "no"), "float32"),
        (("auto", "cuda", False), Precision("float32", "bf16"), MIXED),
        (("auto", "cuda", True), Precision("float32", "bf16"), MIXED),
        (("auto", "mps", False), Precision("float32", "no"), "float32"),
        (("float32", "cuda", False), Precision("float32", "no"), "float32"),
        (("bfloat16", "cpu", False), Precision("float32", "bf16"), MIXED),
        (("bfloat16", "cuda", True), Precision("bfloat16", "no"), "bfloat16"),
        (("float16", "cuda", True), Precision("float16", "no"), "float16"),
        (("float32", "cuda", True), Precision("float32", "no"), "float32"),
    ],
)
def test_what_dtype_means(arguments: Any, expected: Precision, described: str) -> None:
    dtype, device, adapter = arguments
    assert precision(dtype, device, adapter=adapter) == expected
    assert expected.described() == described


@pytest.mark.parametrize(
    ("dtype", "recorded"), [("auto", "auto on cpu"), ("float32", "float32"), ("bfloat16", MIXED)]
)
def test_records_of_float32_stay_and_those_of_pure_bfloat16_are_another_run(
    common: list[object], tmp_path: Path, dtype: str, recorded: str
) -> None:
    trained(tmp_path, *common, "--dtype", dtype, "--limit", 4)
    (path,) = tmp_path.glob("finetuned_models/*.pt")
    record = read_record(path)
    assert record is not None and record["inputs"]["dtype"] == recorded
