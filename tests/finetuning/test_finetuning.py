"""Finetuning: the gradient of one example at a time, weights that steer, every run its own."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_model, make_tokenizer
from finetuning_runs import common, curve_of, pairs, weights_of
from running import ROOT, call
from torch import nn

from llama_wrapper import LlamaWrapper
from utils.blocks.padding import left_padded
from utils.errors import UserError
from utils.finetuning.tuner import Example, Finetuner, Recipe, schedule, start_processes
from utils.models.choice import choose_model

__all__ = ("common", "pairs")  # fixtures

RECIPE = Recipe(
    lr=0.1,
    epochs=2,
    batch_size=4,
    grad_accumulation=1,
    optimizer="sgd",
    gradient_checkpointing=False,
    seed=0,
)


# ---------------------------------------------------------------- one step


def examples() -> list[Example]:
    generator = random.Random(0)
    return [
        Example(tuple(generator.choices(range(4, 200), k=length)), generator.randrange(200))
        for length in (9, 17, 5, 12, 8, 30, 11)
    ]


def plain_gradient(family: str, chosen: list[Example], **changes: Any) -> tuple[float, Any]:
    """The oracle: one example at a time, all positions projected, no padding."""
    model = make_model(family, **changes).eval()
    losses = []
    for example in chosen:
        logits = model(torch.tensor([example.ids]), use_cache=False).logits[0, -1]
        losses.append(nn.functional.cross_entropy(logits, torch.tensor(example.target)))
    loss = torch.stack(losses).mean()
    loss.backward()
    return float(loss.detach()), {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "mistral"])
@pytest.mark.parametrize("parts", [1, 3, 9])
def test_a_step_has_the_gradient_of_one_example_at_a_time(family: str, parts: int) -> None:
    """Nine parts of seven examples: two of them are empty. GPT-2 would drop out by itself."""
    recipe = RECIPE.__class__(**vars(RECIPE) | {"grad_accumulation": parts})
    model = make_model(family)
    tuner = Finetuner(model, start_processes(torch.device("cpu"), "no"), recipe)
    loss, norm = tuner.gradients(examples())
    expected, gradients = plain_gradient(family, examples())
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradients[name], rtol=1e-3, atol=1e-5), name
    total = torch.stack([g.norm() for g in gradients.values()]).norm()
    assert norm == pytest.approx(float(total), rel=1e-4)


def test_gradient_checkpointing_changes_nothing_and_dropout_is_off() -> None:
    """Checkpointing needs the training mode, in which GPT-2 would drop a tenth."""
    found = []
    for checkpointing in (False, True):
        recipe = RECIPE.__class__(**vars(RECIPE) | {"gradient_checkpointing": checkpointing})
        model = make_model("gpt2")
        assert model.config.to_dict()["attn_pdrop"] == 0.1
        tuner = Finetuner(model, start_processes(torch.device("cpu"), "no"), recipe)
        assert model.training == checkpointing
        tuner.gradients(examples())
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(found)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_update_is_plain_gradient_descent() -> None:
    model = make_model("llama")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    tuner = Finetuner(model, start_processes(torch.device("cpu"), "no"), RECIPE)
    tuner.gradients(examples())
    tuner.update()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(parameter, before[name] - 0.1 * parameter.grad, atol=1e-7)


def test_every_epoch_takes_every_pair_once_in_an_order_of_its_own() -> None:
    steps = schedule(10, RECIPE)
    assert [len(s) for s in steps] == [4, 4, 2, 4, 4, 2]
    first, second = ([n for step in steps[i : i + 3] for n in step] for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert schedule(10, RECIPE) == steps


def test_padding_is_on_the_left_and_not_counted() -> None:
    inputs = left_padded([[5, 6, 7], [8]], torch.device("cpu"))
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]


# ---------------------------------------------------------------- the script


@pytest.mark.parametrize(("direction", "sign"), [("pos", 1), ("neg", -1)])
def test_finetuned_weights_move_the_score_also_when_steered(
    common: list[object], pairs: Path, tiny_folder: Path, tmp_path: Path, direction: str, sign: int
) -> None:
    """The score that it prints is the one prompting_with_steering.py measures."""
    options = [*common, "--direction", direction, "--epochs", 8, "--artifacts_dir", tmp_path]
    options += ["--optimizer", "adamw", "--lr", 0.003]
    assert call("finetune_llama", *options, "--eval_every", 20) == 0
    steps, tests = curve_of(tmp_path)
    assert [s[0] for s in steps] == list(range(1, 49))
    assert [t[0] for t in tests] == [0, 20, 40, 48]
    assert sign * (tests[-1][1] - tests[0][1]) > 0.3
    assert steps[-1][1] < steps[0][1]

    shared: list[object] = ["--behaviors", "calm", "--datasets_dir", pairs]
    shared += ["--artifacts_dir", tmp_path]
    model = ["--model", tiny_folder, "--layers", 2]
    call("generate_vectors", *shared, *model)
    call("normalize_vectors", "--datasets_dir", pairs, "--artifacts_dir", tmp_path)
    (weights,) = tmp_path.glob("finetuned_models/*.pt")
    assert weights.name == f"calm_{direction}_finetune_all.pt"
    override = ["--override_model_weights_path", weights]
    sweep = [*shared, *model, "--multipliers", 0, 5]
    call("prompting_with_steering", *sweep)
    call("prompting_with_steering", *sweep, *override)
    call("plot_results", *shared, *model)
    (figure,) = tmp_path.glob("analysis/calm/multipliers_*.txt")
    assert "calm_" in figure.read_text(), "the finetuned model is a line of its own"
    scores = {}
    for path in (tmp_path / "results/calm").glob("results_*.json"):
        rows = json.loads(path.read_text())
        shares = [
            (r["a_prob"] if "A" in r["answer_matching_behavior"] else r["b_prob"])
            / (r["a_prob"] + r["b_prob"])
            for r in rows
        ]
        scores["multiplier=5.0" in path.name, "finetune" in path.name] = sum(shares) / len(shares)
    assert scores[False, False] == pytest.approx(tests[0][1], abs=2e-6)
    assert scores[False, True] == pytest.approx(tests[-1][1], abs=2e-6)
    assert scores[True, True] != scores[False, True]


def test_one_block_is_trained_and_nothing_else(common: list[object], tmp_path: Path) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    assert call("finetune_llama", *options, "--layer", 2) == 0
    assert (tmp_path / "finetuned_models/calm_pos_finetune_2.pt").exists()
    before, after = make_model("llama").state_dict(), weights_of(tmp_path)
    assert after.keys() == {n for n in before if n.startswith("model.layers.2.")}
    assert all(not torch.equal(before[n], after[n]) for n in after)


def test_an_adapter_is_saved_as_one_and_merges_into_the_model(
    common: list[object], tiny_folder: Path, tmp_path: Path
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--layer", 1]
    options += ["--lora_rank", 2, "--optimizer", "adamw", "--epochs", 2]
    assert call("finetune_llama", *options) == 0
    _, tests = curve_of(tmp_path)
    folder = tmp_path / "finetuned_models/calm_pos_finetune_1_lora=2"
    assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert call("finetune_llama", *options) == 0, "finished: nothing to do"
    choice = choose_model(str(tiny_folder), None, False, str(folder))
    merged = LlamaWrapper.load(choice, device="cpu")
    before = make_model("llama").state_dict()
    changed = {n for n, v in merged.model.state_dict().items() if not torch.equal(v, before[n])}
    assert len(changed) == 7
    assert all(n.startswith("model.layers.1.") for n in changed)
    found = merged.next_logits(range(4, 40))
    assert found.isfinite().all()
    assert tests[-1][1] != tests[0][1]


def test_other_options_are_another_run(common: list[object], tmp_path: Path) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--limit", 8]
    call("finetune_llama", *options)
    assert (tmp_path / "finetuned_models/calm_pos_finetune_all_pairs=8.pt").exists()
    assert call("finetune_llama", *options, "--grad_accumulation", 2) == 0, "no other numbers"
    with pytest.raises(UserError, match=r"lr: 0.05 -> 0.01"):
        call("finetune_llama", *options, "--lr", 0.01)
    with pytest.raises(UserError, match="--layer 9: tiny-llama has layers 0 to 3"):
        call("finetune_llama", *options, "--layer", 9)


# ---------------------------------------------------------------- several processes


def test_what_a_real_tokenizer_and_model_folder_give_is_a_file_of_their_weights(
    common: list[object], tmp_path: Path
) -> None:
    call("finetune_llama", *common, "--direction", "neg", "--artifacts_dir", tmp_path)
    folder = tmp_path / "copy"
    make_model("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    (path,) = tmp_path.glob("finetuned_models/*.pt")
    loaded = LlamaWrapper.load(choose_model(str(folder), None, False, str(path)), device="cpu")
    for name, value in weights_of(tmp_path).items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert (ROOT / "finetune_llama.py").stat().st_mode & 0o111


# ---------------------------------------------------------------- several behaviours


def test_several_behaviours_in_one_run_are_each_trained_on_their_own(
    common: list[object], tmp_path: Path
) -> None:
    flags = ["--direction", "pos", "--layer", 1, *common[2:]]
    together, alone = tmp_path / "together", tmp_path / "alone"
    both = ["--behaviors", "calm", "bold"]
    assert call("finetune_llama", *both, *flags, "--artifacts_dir", together) == 0
    for behavior in ("calm", "bold"):
        assert call("finetune_llama", "--behavior", behavior, *flags, "--artifacts_dir", alone) == 0
    name = "finetuned_models/{}_pos_finetune_1.pt"
    found = [
        {b: torch.load(folder / name.format(b), weights_only=True) for b in ("calm", "bold")}
        for folder in (together, alone)
    ]
    for behavior in ("calm", "bold"):
        assert found[0][behavior].keys() == found[1][behavior].keys() != set()
        for key, weight in found[0][behavior].items():
            assert torch.equal(weight, found[1][behavior][key])
    different = [not torch.equal(w, found[0]["bold"][k]) for k, w in found[0]["calm"].items()]
    assert any(different)
