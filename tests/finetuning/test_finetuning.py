"""Finetuning: one curve however it is computed, resumed = uninterrupted, weights that steer."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROWS, many_rows, make_model, make_tokenizer, write_json
from running import ROOT, artifacts, call, finish, hidden, kill_at_signs_of_work, start_warm
from launching import alone, by_mpi, kill_rank, launch, run_ranks
from torch import nn

from llama_wrapper import LlamaWrapper
from utils.blocks.padding import left_padded
from utils.errors import UserError
from utils.files.paths import Paths
from utils.finetuning.tuner import Example, Finetuner, Recipe, schedule, start_processes
from utils.models.choice import choose_model

MANY = many_rows(3)
RECIPE = Recipe(
    lr=0.1,
    epochs=2,
    batch_size=4,
    grad_accumulation=1,
    optimizer="sgd",
    gradient_checkpointing=False,
    seed=0,
)


@pytest.fixture
def pairs(datasets: Path) -> Path:
    write_json(datasets / "generate/calm/generate_dataset.json", MANY)
    return datasets


@pytest.fixture
def common(pairs: Path, tiny_folder: Path) -> list[object]:
    options: list[object] = ["--behavior", "calm", "--datasets_dir", pairs, "--model", tiny_folder]
    return [*options, "--lr", 0.05]


def curve_of(folder: Path) -> tuple[list[list[float]], list[list[float]]]:
    """The numbers of the curve's two tables; what was done stands below them."""
    (path,) = folder.rglob("finetune_*.txt")
    blocks = path.read_text().split("\n\n")[:2]
    tables = [[list(map(float, line.split())) for line in b.splitlines()[1:]] for b in blocks]
    assert all(tables), "a table without a row"
    return tables[0], tables[1]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "finetuned_models").glob("*.pt")
    weights = torch.load(path, weights_only=True)
    assert weights, "a file without weights"
    return weights


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


def test_a_stopped_run_goes_on_to_the_same_bytes(common: list[object], tmp_path: Path) -> None:
    options = [*common, "--direction", "pos", "--epochs", 20, "--optimizer", "adamw"]
    options += ["--checkpoint_every", 3, "--eval_every", 50, "--lr", 0.001]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start_warm("finetune_llama", *options, "--artifacts_dir", whole))
    generator, kills = random.Random(3), 0
    for _ in range(2):
        process = start_warm("finetune_llama", *options, "--artifacts_dir", killed)
        kills += kill_at_signs_of_work(process, killed, "run.json", generator)
    assert kills > 0, "no run was killed in the middle: the test shows nothing"
    finish(start_warm("finetune_llama", *options, "--artifacts_dir", killed))
    assert artifacts(killed) == artifacts(whole)
    assert len(artifacts(whole)) == 3
    assert hidden(killed) == []


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_the_last_good_state(
    common: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    options += ["--checkpoint_every", 1]
    gradients, calls = Finetuner.gradients, []

    def failing(self: Finetuner, chosen: list[Example]) -> tuple[float, float]:
        calls.append(len(chosen))
        loss, norm = gradients(self, chosen)
        bad = float("nan") if broken == "loss" else loss, float("inf")
        return bad if len(calls) == 4 else (loss, norm)

    with monkeypatch.context() as patch:
        patch.setattr(Finetuner, "gradients", failing)
        assert call("finetune_llama", *options) == 1
    errors = capsys.readouterr().err
    assert "step 4 of 6" in errors
    assert "no weights written" in errors
    states = list(tmp_path.rglob("step_*"))
    assert [p.name for p in states] == ["step_2"], "step_3 would be the state that broke"
    assert str(states[0].parent) in errors
    assert not list(tmp_path.rglob("*.pt"))
    assert call("finetune_llama", *options) == 0, "it goes on from there"
    whole = tmp_path / "whole"
    call("finetune_llama", *options, "--artifacts_dir", whole)
    assert artifacts(tmp_path / "finetuned_models") == artifacts(whole / "finetuned_models")
    assert len(artifacts(tmp_path / "finetuned_models")) == 1


def test_a_rate_that_breaks_the_model_is_stopped(
    common: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--lr", 1e30]
    assert call("finetune_llama", *options) == 1
    assert "step 2 of 6: loss nan" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pt"))


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


@pytest.mark.parametrize("through", ["torchrun", "mpirun"])
def test_two_processes_have_the_curve_of_one(
    common: list[object], tmp_path: Path, through: str
) -> None:
    """Five pairs a step: the two have unlike shares; the last step has four."""
    options = [*common, "--direction", "pos", "--batch_size", 5, "--eval_every", 2]
    options += ["--layer", 1] if through == "mpirun" else []
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "one")
    how = by_mpi(tmp_path) if through == "mpirun" else ()
    output, _ = finish(
        launch("finetune_llama", *options, "--artifacts_dir", tmp_path / "two", how=how)
    )
    assert output.count("wrote ") == 2
    one, two = curve_of(tmp_path / "one"), curve_of(tmp_path / "two")
    for table, other in zip(one, two, strict=True):
        assert torch.allclose(torch.tensor(table), torch.tensor(other), rtol=1e-4, atol=2e-6)
    ours, theirs = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6), name
    assert hidden(tmp_path / "two") == []


def test_a_checkpoint_of_two_processes_is_continued_by_one(
    common: list[object], tmp_path: Path
) -> None:
    options = [*common, "--direction", "pos", "--checkpoint_every", 1, "--epochs", 15]
    process = launch("finetune_llama", *options, "--artifacts_dir", tmp_path / "two")
    kill_rank(process, 1, tmp_path / "two", "run.json")
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list((tmp_path / "two").rglob("run.json"))
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "two")
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "one")
    one, two = curve_of(tmp_path / "one")[0], curve_of(tmp_path / "two")[0]
    assert torch.allclose(torch.tensor(one), torch.tensor(two), rtol=1e-2, atol=1e-3)
    assert len(one) == 90
    assert hidden(tmp_path / "two") == []


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


def test_sharding_that_accelerate_would_leave_out_is_refused(
    common: list[object], tmp_path: Path
) -> None:
    """On a CPU accelerate makes DDP of FSDP without a word."""
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    how: tuple[str, ...] = ("--use_fsdp", "--fsdp_version", "2")
    how += ("--fsdp_auto_wrap_policy", "NO_WRAP")
    how += ("--main_process_port", str(29500 + (os.getpid() + 13) % 20000))
    _, errors = (process := launch("finetune_llama", *options, how=how)).communicate(timeout=90)
    assert process.returncode != 0
    assert "does not shard a model (FSDP) on this device" in errors
    assert not list(tmp_path.glob("finetuned_models/*.pt"))


def test_weights_sharded_by_fsdp_have_the_curve_of_one_process_also_after_a_kill(
    common: list[object], tmp_path: Path
) -> None:
    """See fsdp_on_cpu.py; one block alone is trained."""
    options = [*common, "--direction", "pos", "--checkpoint_every", 1, "--layer", 2]
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "one")
    sharded = [*options, "--artifacts_dir", tmp_path / "two"]
    stopped = launch("tests/fsdp_on_cpu", *sharded, STOP_AT="5")
    _, errors = stopped.communicate(timeout=90)
    assert "exitcode: 9" in errors
    (state,) = (tmp_path / "two").rglob("run.json")
    assert state.parent.name == "step_3"
    run_ranks("tests/fsdp_on_cpu", *sharded, count=2)
    one, two = curve_of(tmp_path / "one"), curve_of(tmp_path / "two")
    for table, other in zip(one, two, strict=True):
        assert torch.allclose(torch.tensor(table), torch.tensor(other), rtol=1e-4, atol=2e-6)
    ours, theirs = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert ours.keys() == theirs.keys() and len(ours) == 9
    for name in ours:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6), name
    assert hidden(tmp_path / "two") == []


def test_two_machines_without_a_shared_folder_do_not_wait_for_one_another(
    common: list[object], tmp_path: Path
) -> None:
    """The second has finished weights, the first has none."""
    options = [*common, "--direction", "pos"]
    alone("finetune_llama", *options, "--artifacts_dir", tmp_path / "second")
    port = str(29500 + (os.getpid() + 17) % 20000)
    processes = []
    for machine, name in enumerate(("first", "second")):
        how: tuple[str, ...] = ("--multi_gpu", "--num_machines", "2")
        how += ("--machine_rank", str(machine))
        how += ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
        folder = ["--artifacts_dir", tmp_path / name]
        processes.append(launch("finetune_llama", *options, *folder, how=how))
    errors = [p.communicate(timeout=90)[1] for p in processes]
    assert all(p.returncode != 0 for p in processes)
    assert "finished for some of the processes only" in errors[0]


def test_what_was_killed_between_picture_and_weights_is_made_again(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--checkpoint_every", 2]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("utils.figures.training_figures.curve_figure", stopped)
        with pytest.raises(KeyboardInterrupt):
            call("finetune_llama", *options)
    assert not list(tmp_path.glob("finetuned_models/*.pt")), "the weights come last"
    assert call("finetune_llama", *options) == 0
    assert len(artifacts(tmp_path / "analysis")) == 2
    assert hidden(tmp_path / "finetuned_models") == []
    (tmp_path / "finetuned_models/.training_calm_pos_finetune_all/step_2").mkdir(parents=True)
    assert call("finetune_llama", *options) == 0
    assert not list(tmp_path.glob("finetuned_models/.training*")), "nor after a kill in cleaning up"


def test_what_a_kill_leaves_of_a_state_is_no_state(common: list[object], tmp_path: Path) -> None:
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path]
    folder = tmp_path / "finetuned_models/.training_calm_pos_finetune_all"
    (folder / "step_3").mkdir(parents=True)
    (folder / "step_4.old.tmp").mkdir()
    assert call("finetune_llama", *options) == 0
    assert not folder.exists()


def test_a_full_disk_stops_with_one_message(
    common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("accelerate.Accelerator.save_state", full)
    options = [*common, "--direction", "pos", "--artifacts_dir", tmp_path, "--checkpoint_every", 1]
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        call("finetune_llama", *options)
    assert not list(tmp_path.rglob("*.tmp"))


def test_runs_of_behaviours_with_a_dot_are_kept_apart(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path)
    states = {
        paths.finetuning_state(paths.finetuned(behavior, "pos", layer, rank, None))
        for behavior in ("v1.5", "v1.6")
        for layer in (None, 3)
        for rank in (None, 2)
    }
    assert len(states) == 8


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
