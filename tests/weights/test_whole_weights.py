"""A model is loaded with all of its weights, or not at all: no partial success of a library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, make_model, make_tokenizer, write_json
from families import MORE, SLOWLY
from peft import LoraConfig, get_peft_model
from running import call
from safetensors.torch import load_file, save_file

from utils.errors import UserError
from utils.models.choice import choose_model
from utils.models.loading import load_model

Weights = dict[str, torch.Tensor]
WEIGHTS = "model.safetensors"
RANDOM = "not in its files and would be random"


def load(folder: Path, weights: Path | None = None) -> torch.nn.Module:
    chosen = choose_model(str(folder), None, False, None if weights is None else str(weights))
    return load_model(chosen, device="cpu")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


def change(folder: Path, change: Callable[[Weights], Weights]) -> Weights:
    """Rewrite the weights of a folder; returns what they were."""
    weights = load_file(folder / WEIGHTS)
    changed = {k: v.clone() for k, v in change(weights).items()}
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
    return weights


def same(model: torch.nn.Module, weights: Weights) -> bool:
    state = model.state_dict()
    return set(state) == set(weights) and all(torch.equal(state[k], v) for k, v in weights.items())


PREFIXES = ["module.", "_orig_mod.", "base_model.model.", "language_model.", "module._orig_mod."]
PREFIXES += ["my.own.wrapper."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_weights_under_a_prefix_are_read_and_it_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], prefix: str
) -> None:
    weights = change(folder, lambda w: {prefix + k: v for k, v in w.items()})
    assert same(load(folder), weights)
    assert f"weights under '{prefix}'" in capsys.readouterr().err


def test_a_prefix_does_not_hide_what_is_lost(folder: Path) -> None:
    change(folder, lambda w: {f"module.{k}": v for k, v in w.items() if ".2." not in k})
    with pytest.raises(UserError, match=rf"{RANDOM}: model\.layers\.2\.input_layernorm"):
        load(folder)


def test_two_models_in_one_file_are_told(folder: Path) -> None:
    change(folder, lambda w: {p + k: v for k, v in w.items() for p in ("student.", "teacher.")})
    with pytest.raises(UserError, match=r"several prefixes: student\., teacher\."):
        load(folder)


LOST: dict[str, Callable[[Weights], Weights]] = {
    "lm_head.weight": lambda w: {
        k.removeprefix("model."): v for k, v in w.items() if k != "lm_head.weight"
    },
    "model.layers.2.input_layernorm.weight": lambda w: {
        k: v for k, v in w.items() if ".2." not in k and ".3." not in k
    },
    "model.layers.1.mlp.up_proj.weight": lambda w: {
        k: v for k, v in w.items() if k != "model.layers.1.mlp.up_proj.weight"
    },
    "model.norm.weight": lambda w: {k: v for k, v in w.items() if k != "model.norm.weight"},
}


@pytest.mark.parametrize("name", LOST)
def test_missing_weights_end_the_script_with_their_names(
    folder: Path, datasets: Path, tmp_path: Path, name: str
) -> None:
    change(folder, LOST[name])
    given = ["--behaviors", "calm", "--layers", 1, "--model", folder, "--datasets_dir", datasets]
    with pytest.raises(UserError, match=f"{RANDOM}: {name}"):
        call("generate_vectors", *given, "--artifacts_dir", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.pt"))


MORE_WEIGHTS = [
    "model.layers.4.mlp.up_proj.weight",
    "model.layers.1.self_attn.q_proj.bias",
    "model.layers.0.self_attn.q_norm.weight",
    "model.layers.0.self_attn.q_proj.lora_A.default.weight",
    "lm_head.bias",
    "model.embed_norm.weight",
]


@pytest.mark.parametrize("name", MORE_WEIGHTS)
def test_weights_without_a_place_in_the_model_are_refused(folder: Path, name: str) -> None:
    change(folder, lambda w: w | {name: torch.ones(8)})
    with pytest.raises(UserError, match=f"no place in the model .*: {name}") as refused:
        load(folder)
    assert ("merge_and_unload" in str(refused.value)) == ("lora" in name)


BESIDE = [
    *("model.layers.0.self_attn.rotary_emb.inv_freq", "v_head.summary.weight", "score.weight"),
    *("mtp.layers.0.norm.weight", "model.vision_tower.patch.weight"),
    "multi_modal_projector.linear.weight",
]


@pytest.mark.parametrize("name", BESIDE)
def test_what_a_language_model_does_not_run_is_no_fault(folder: Path, name: str) -> None:
    weights = change(folder, lambda w: w | {name: torch.ones(4)})
    assert same(load(folder), weights)


def test_shapes_of_another_model_are_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"intermediate_size": 64})
    with pytest.raises(
        UserError, match=r"down_proj.weight has the shape \(32, 48\) there, \(32, 64"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (".2.block_sparse_moe.experts.3.w1", "keeps together in one tensor"),
        (".2.block_sparse_moe.experts.", rf"{RANDOM}: model\.layers\.2\.mlp\.experts"),
        (".experts.3.", r"has the shape \(3, 32, 48\) there, \(4, 32, 48\)"),
    ],
)
def test_lost_experts_are_missing_too(tmp_path: Path, lost: str, said: str) -> None:
    make_model("mixtral").save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    whole = change(tmp_path, lambda w: {k: v for k, v in w.items() if lost not in k})
    assert any(lost in k for k in whole)
    with pytest.raises(UserError, match=said):
        load(tmp_path)


@pytest.mark.parametrize("family", [*FAMILIES, *MORE, *SLOWLY])
def test_a_whole_model_of_every_family_is_loaded_whole(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FAMILIES | MORE | {name: options for name, (options, _) in SLOWLY.items()}
    monkeypatch.setitem(FAMILIES, family, options[family])
    model = make_model(family)
    model.save_pretrained(tmp_path)
    assert same(load(tmp_path), model.state_dict())


def test_a_tied_head_is_not_missing(tmp_path: Path) -> None:
    model = make_model("llama", tie_word_embeddings=True)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    assert same(load(tmp_path), model.state_dict())


def test_a_folder_with_an_adapter_beside_the_weights_is_refused(folder: Path) -> None:
    adapted = get_peft_model(make_model("llama"), LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(str(folder))
    with pytest.raises(UserError, match="a model and an adapter in one"):
        load(folder)


# Finetuned weights on top


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.pt"


OLD = {
    "llama": {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(4)},
    "gpt2": {f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(4)}
    | {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 8, 8).tril() for i in range(4)},
    "gpt_neox": {f"gpt_neox.layers.{i}.attention.bias": torch.ones(1, 1, 8, 8) for i in range(4)}
    | {f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq": torch.ones(1) for i in range(4)},
}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("family", OLD)
def test_tables_that_old_versions_kept_are_no_weights(
    tmp_path: Path, file: Path, family: str, prefix: str
) -> None:
    make_model(family).save_pretrained(tmp_path / "base")
    weights = {k: v + 1 for k, v in make_model(family).state_dict().items()}
    torch.save({prefix + k: v for k, v in (weights | OLD[family]).items()}, file)
    assert same(load(tmp_path / "base", file), weights)


def test_whole_blocks_may_stand_alone(tiny_folder: Path, file: Path) -> None:
    old = make_model("llama").state_dict()
    part = {k: v + 1 for k, v in old.items() if k.startswith("model.layers.2.")}
    torch.save(part, file)
    assert same(load(tiny_folder, file), old | part)


WRONG: dict[str, tuple[Callable[[Weights], object], str]] = {
    "a lost head": (lambda w: {k: v for k, v in w.items() if "lm_head" not in k}, "lm_head.weight"),
    "a lost block": (
        lambda w: {k: v for k, v in w.items() if ".3." not in k},
        "model.layers.3.self_attn.q_proj.weight",
    ),
    "a part of a block": (
        lambda w: {k: v for k, v in w.items() if k.startswith("model.layers.2.mlp.up")},
        "model.layers.2.self_attn.q_proj.weight",
    ),
    "a block more": (
        lambda w: w | {"model.layers.4.mlp.up_proj.weight": w["lm_head.weight"]},
        ".4.",
    ),
    "another width": (lambda w: {k: v.repeat_interleave(2, 0) for k, v in w.items()}, "lm_head"),
    "an unmerged adapter": (lambda w: w | {"model.layers.0.lora_A.weight": torch.ones(1)}, "merge"),
    "nothing": (lambda w: {}, "by name"),
    "weights one level down": (lambda w: {"state_dict": w}, "by name"),
    "a list": (lambda w: list(w.values()), "holds no weights"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_finetuned_weights_that_do_not_fit_are_named(
    tiny_folder: Path, file: Path, kind: str
) -> None:
    made, name = WRONG[kind]
    torch.save(made(make_model("llama").state_dict()), file)
    with pytest.raises(UserError, match=name):
        load(tiny_folder, file)


# Adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    get_peft_model(make_model("llama"), config).save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_a_whole_adapter_is_merged(tiny_folder: Path, adapter: Path) -> None:
    old, new = make_model("llama").state_dict(), load(tiny_folder, adapter).state_dict()
    moved = {k for k in old if not torch.equal(old[k], new[k])}
    assert moved == {k for k in old if "q_proj" in k or "up_proj" in k}


@pytest.mark.parametrize(
    ("lost", "extra", "said"),
    [
        (".3.", None, "lacks"),
        ("lora_B", None, "lacks"),
        ("nothing", "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight", "no place"),
        ("nothing", "base_model.model.model.layers.1.mlp.gate_proj.lora_A.weight", "no place"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    tiny_folder: Path, adapter: Path, lost: str, extra: str | None, said: str
) -> None:
    path = adapter / "adapter_model.safetensors"
    weights = {k: v.clone() for k, v in load_file(path).items() if lost not in k}
    weights |= {} if extra is None else {extra: torch.ones(2, 32)}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"{said}.* weights: "):
        load(tiny_folder, adapter)
