"""Where and how a model is loaded: quantised weights, spread blocks, devices of many processes."""

from __future__ import annotations

from pathlib import Path

import accelerate
import pytest
import torch
from conftest import QUESTIONS, make_model, make_tokenizer, make_wrapper
from running import call

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.files.contents import read_record
from utils.models import loading
from utils.models.choice import choose_model
from utils.models.device import pick_device
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer

STEERS = [Steer(1, torch.full((32,), 0.5)), Steer(2, torch.linspace(-1, 1, 32))]


def dispatched(folder: Path, kind: str) -> LlamaWrapper:
    """The tiny Llama under accelerate's hooks, as a model spread over devices has them."""
    model = make_model("llama")
    if kind == "hooks":
        model = accelerate.dispatch_model(model, {"": "cpu"}, force_hooks=True, main_device="cpu")
    else:
        places = {"model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk"}
        places |= dict.fromkeys(["model.layers.3", "model.norm", "model.rotary_emb"], "cpu")
        places |= {"model.embed_tokens": "disk", "lm_head": "disk"}
        model = accelerate.dispatch_model(
            model, places, main_device="cpu", offload_dir=str(folder / "off"), force_hooks=True
        )
    return LlamaWrapper(model, make_tokenizer())


@pytest.mark.parametrize("kind", ["hooks", "disk"])
def test_a_dispatched_model_gives_the_numbers_of_a_plain_one(tmp_path: Path, kind: str) -> None:
    plain, spread = make_wrapper("llama"), dispatched(tmp_path, kind)
    assert spread.device == torch.device("cpu")
    if kind == "disk":
        weight = spread.blocks[1].get_parameter("mlp.up_proj.weight")
        assert weight.device.type == "meta", "it is not in memory"
    prompts = [plain.prompt_format().letter_prompt(q, ("A", "B")) for q in QUESTIONS[:3]]
    grids = [LetterGrid(w, prompts, STEERS) for w in (plain, spread)]
    assert grids[1].packed is not None
    assert sorted(i for batch in grids[0].batches for i in batch) == [0, 1, 2]
    for batch in grids[0].batches:
        assert torch.equal(*(grid.probabilities(batch) for grid in grids))
    questions = [plain.prompt_format().open_prompt(q) for q in QUESTIONS[:3]]
    answers = [
        GreedyGrid(w, questions, [None, *STEERS], max_new_tokens=6).answers([0, 1, 2])
        for w in (plain, spread)
    ]
    assert answers[0] == answers[1]
    assert [len(row) for row in answers[0]] == [1 + len(STEERS)] * 3
    assert all(answer.tokens for row in answers[0] for answer in row)


def test_device_map_auto_gives_the_same_files(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    options = ["--layers", 1, 2, "--behaviors", "calm", "--model", tiny_folder]
    options += ["--datasets_dir", datasets]
    call("generate_vectors", *options, "--artifacts_dir", tmp_path / "a")
    call("generate_vectors", *options, "--artifacts_dir", tmp_path / "b", "--device_map", "auto")
    files = sorted((tmp_path / "a").rglob("vec_*.pt"))
    assert len(files) == 2
    for path in files:
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes()
    again = call("generate_vectors", *options, "--artifacts_dir", tmp_path / "b")
    assert again == 0, "where it ran does not count as another input"


@pytest.mark.parametrize("load_in", ["4bit", "8bit"])
@pytest.mark.filterwarnings("ignore:.*one forward pass a cell")
def test_quantised_weights_are_smaller_and_steer_alike(tmp_path: Path, load_in: str) -> None:
    make_model("llama", hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    choice = choose_model(str(tmp_path), None, False)
    plain = LlamaWrapper.load(choice, device="cpu")
    small = LlamaWrapper.load(choice, device="cpu", load_in=load_in)
    sizes = [w.blocks[1].get_parameter("mlp.up_proj.weight") for w in (plain, small)]
    bits = 32 * sizes[1].nelement() * sizes[1].element_size() / (sizes[0].nelement() * 4)
    assert bits == int(load_in[0])
    prompts = [plain.prompt_format().letter_prompt(q, ("A", "B")) for q in QUESTIONS[:3]]
    steers = [Steer(1, torch.linspace(-4, 4, 64)), Steer(2, torch.linspace(-4, 4, 64))]
    fast, slow = (LetterGrid(small, prompts, steers, slow=s) for s in (False, True))
    assert (fast.packed is not None) == (load_in == "4bit")
    full = LetterGrid(plain, prompts, steers)
    for index in range(3):
        found, expected = fast.probabilities([index]), slow.probabilities([index])
        rounding = (full.probabilities([index]) - expected).abs().max()
        assert rounding > 0
        if load_in == "8bit":
            assert torch.equal(found, expected), "what 8 bits round away depends on the batch"
        assert (found - expected).abs().max() < rounding
        assert (found[0, 0] / found[0, 2]).log().abs().max() > 0.1, "steering does something"


def test_quantised_results_are_told_from_others(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    options = ["--layers", 1, "--behaviors", "calm", "--model", tiny_folder]
    options += ["--datasets_dir", datasets, "--artifacts_dir", tmp_path / "out"]
    call("generate_vectors", *options, "--load_in", "8bit")
    (vector,) = (tmp_path / "out").rglob("vec_*.pt")
    record = read_record(vector)
    assert record is not None
    assert record["inputs"]["dtype"] == "float32, weights in 8bit"
    with pytest.raises(UserError, match=r"dtype: float32, weights in 8bit -> float32"):
        call("generate_vectors", *options)


def test_where_bitsandbytes_does_not_work_it_is_said(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = choose_model(str(tiny_folder), None, False)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="--load_in 4bit needs bitsandbytes"):
        loading.load_model(choice, device="cpu", load_in="4bit")


def test_quantised_weights_take_no_others_on_top(tiny_folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    torch.save({}, weights)
    choice = choose_model(str(tiny_folder), None, False, str(weights))
    with pytest.raises(UserError, match="finetuned weights cannot be put into quantised ones"):
        loading.load_model(choice, device="cpu", load_in="4bit")


def test_each_process_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "empty", lambda *_a, device, **_k: asked.append(str(device)))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert str(pick_device("auto")) == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [str(pick_device(d)) for d in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:3",
        "cuda:3",
        "cuda:1",
        "cpu",
    ]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert str(pick_device("auto")) == "cpu"
    assert asked == ["cuda", "cuda:3", "cuda:3", "cuda:1", "cpu", "cpu"]


def test_one_model_over_all_devices_is_for_one_process(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start one process"):
        loading.load_model(
            choose_model(str(tiny_folder), None, False), device="cpu", device_map="auto"
        )


def test_finetuned_weights_are_not_lost_on_a_model_that_lies_elsewhere(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What accelerate keeps outside its devices has no storage to be loaded into."""
    torch.save(make_model("llama").state_dict(), tmp_path / "w.pt")
    offloaded = accelerate.cpu_offload(make_model("llama"), torch.device("cpu"))
    whole = dict.fromkeys(("missing_keys", "unexpected_keys", "mismatched_keys"), ())
    monkeypatch.setattr(
        loading.AutoModelForCausalLM, "from_pretrained", lambda *_a, **_k: (offloaded, whole)
    )
    choice = choose_model(str(tiny_folder), None, False, str(tmp_path / "w.pt"))
    with pytest.raises(UserError, match="no finetuned weights can be loaded"):
        loading.load_model(choice, device="cpu", device_map="auto")


def test_more_processes_than_devices_is_said_by_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "4")
    with pytest.raises(UserError, match="4 processes on a machine with 2 devices"):
        pick_device("cuda")
