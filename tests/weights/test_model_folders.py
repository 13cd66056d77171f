"""Folders of models as people have them: broken files, newer formats, numbers under other names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CHATML, make_model, make_tokenizer, write_json
from running import call
from transformers import AutoConfig, GPT2Config, MptConfig

from utils.errors import UserError
from utils.models.choice import ModelShape, choose_model, read_shape
from utils.models.loading import check_embedded, load_model, load_tokenizer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


def deep(value: str) -> bytes:
    """A header of safetensors, nested deeper than any reader goes."""
    text = (value * 100_000).encode()
    return len(text).to_bytes(8, "little") + text


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "a pointer": lambda _: POINTER,
    "half": lambda old: old[: len(old) // 2],
    "the head alone": lambda old: old[:100],
    "nothing": lambda _: b"",
    "no header": lambda old: b"\xff" * 64 + old,
    "a web page": lambda _: b"<!DOCTYPE html><html>Please log in</html>",
    "nested": lambda _: deep("["),
    "more than it says": lambda old: old + b"\0" * 64,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_weights_are_named_before_anything_is_loaded(
    folder: Path, datasets: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / WEIGHTS
    path.write_bytes(BROKEN[kind](path.read_bytes()))
    monkeypatch.setattr("utils.models.loading.load_pretrained", None)
    given = ["--behaviors", "calm", "--layers", 1, "--model", folder, "--datasets_dir", datasets]
    expected = "git lfs pull" if kind == "a pointer" else "no whole file of weights"
    with pytest.raises(UserError, match=f"{path} is .*{expected}") as refused:
        call("generate_vectors", *given, "--artifacts_dir", tmp_path / "out")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["a pointer", "half", "nothing", "a web page"])
def test_broken_pickles_are_named(folder: Path, kind: str) -> None:
    path = folder / WEIGHTS
    path.rename(folder / "pytorch_model.bin")
    path = folder / "pytorch_model.bin"
    zipped = b"PK\x03\x04" + bytes(1000)
    path.write_bytes(BROKEN[kind](zipped))
    with pytest.raises(UserError, match=r"pytorch_model\.bin is|cannot load .*tiny: "):
        load_model(choose_model(str(folder), None, False), device="cpu")


@pytest.mark.parametrize("kind", ["a pointer", "half", "nothing", "a web page"])
def test_a_broken_tokenizer_is_one_line(folder: Path, kind: str) -> None:
    path = folder / TOKENIZER
    path.write_bytes(BROKEN[kind](path.read_bytes()))
    with pytest.raises(UserError) as refused:
        load_tokenizer(choose_model(str(folder), None, False))
    assert str(folder) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["model", "pre_tokenizer", "decoder"])
def test_a_tokenizer_of_a_newer_format_is_one_line(folder: Path, key: str) -> None:
    path = folder / TOKENIZER
    content = json.loads(path.read_text())
    content[key]["type"] = "FromTheFuture"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"cannot load the tokenizer of .* newer ones need"):
        load_tokenizer(choose_model(str(folder), None, False))


def shards(folder: Path) -> list[Path]:
    make_model("llama").save_pretrained(folder, max_shard_size="20KB")
    (folder / WEIGHTS).unlink()
    found = sorted(folder.glob("model-*.safetensors"))
    assert len(found) > 2
    return found


def test_lost_and_broken_shards_are_named(folder: Path) -> None:
    first, second, *_ = shards(folder)
    choice = choose_model(str(folder), None, False)
    load_model(choice, device="cpu")
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"{second.name} is no whole file"):
        load_model(choice, device="cpu")
    second.unlink()
    with pytest.raises(UserError, match=f"1 are not there: {second.name}"):
        load_model(choice, device="cpu")
    second.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="not in its files and would be random"):
        load_model(choice, device="cpu")


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}']
)
def test_an_index_that_is_none_is_named(folder: Path, text: str) -> None:
    shards(folder)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(UserError, match=r"index\.json is no readable list of shards"):
        load_model(choose_model(str(folder), None, False), device="cpu")


CONFIGS = ["", "[]", '"x"', "{" * 100_000, '{"a":' * 100_000, '{"n": ' + "9" * 5000 + "}", "\udcff"]
CONFIGS += ['{"model_type": "gpt2", "n_layer": "many"}', '{"model_type": "mpt", "attn_config": 7}']


@pytest.mark.parametrize("text", CONFIGS, ids=range(len(CONFIGS)))
def test_a_config_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"config\.json is") as refused:
        read_shape(choose_model(str(tmp_path), None, False))
    assert len(str(refused.value)) < 700


SHAPES = {
    "mpt": (MptConfig(d_model=32, n_layers=3, n_heads=4, max_seq_len=64), (3, 32, 64)),
    "gpt2": (GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=64), (3, 32, 64)),
    "gptj": (AutoConfig.for_model("gptj", n_embd=32, n_layer=3, n_positions=64), (3, 32, 64)),
    "bloom": (AutoConfig.for_model("bloom", n_layer=3, hidden_size=32), (3, 32, None)),
    "gpt_neo": (
        AutoConfig.for_model("gpt_neo", num_layers=2, attention_types=[[["global"], 2]]),
        (2, 2048, 2048),
    ),
    "codegen": (AutoConfig.for_model("codegen", n_layer=3), (3, 4096, 2048)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_numbers_of_a_config_are_found_under_its_family_s_names(
    tmp_path: Path, kind: str
) -> None:
    config, expected = SHAPES[kind]
    config.save_pretrained(tmp_path)
    assert read_shape(choose_model(str(tmp_path), None, False)) == ModelShape(*expected)


def test_what_a_config_leaves_out_is_its_family_s_default(tmp_path: Path) -> None:
    """As in the configs of Qwen 2 VL of 2024, flat, and of models published with a difference."""
    flat = {"model_type": "qwen2_vl", "hidden_size": 32, "num_hidden_layers": 4}
    write_json(tmp_path / "config.json", flat | {"max_position_embeddings": 128})
    assert read_shape(choose_model(str(tmp_path), None, False)) == ModelShape(4, 32, 128)
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    assert read_shape(choose_model(str(tmp_path), None, False)) == ModelShape(32, 4096, 2048)


SCRIPTS = {
    "generate_vectors": ["--behaviors", "calm", "--layers", 9],
    "finetune_llama": ["--behavior", "calm", "--layer", 9, "--direction", "pos"],
    "prompting_with_steering": ["--behaviors", "calm", "--layers", 9, "--multipliers", 1],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_layer_too_high_is_found_before_anything_is_loaded(
    script: str, datasets: Path, tmp_path: Path
) -> None:
    SHAPES["mpt"][0].save_pretrained(tmp_path / "mpt")
    given = ["--model", tmp_path / "mpt", "--datasets_dir", datasets]
    with pytest.raises(UserError, match="mpt has layers 0 to 2"):
        call(script, *SCRIPTS[script], *given, "--artifacts_dir", tmp_path / "out")


# A tokenizer and an embedding of unlike size


def template_with(token: str) -> str:
    return CHATML.replace("<|im_start|>", token)


@pytest.mark.parametrize("how", ["template", "bos"])
def test_a_token_of_every_prompt_beyond_the_embedding_is_named(
    folder: Path, datasets: Path, tmp_path: Path, how: str
) -> None:
    tokenizer = make_tokenizer(template_with("<|turn|>" if how == "template" else "<|im_start|>"))
    if how == "template":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    else:
        tokenizer.add_special_tokens({"bos_token": "<|turn|>"})
    tokenizer.save_pretrained(folder)
    given = ["--behaviors", "calm", "--layers", 1, "--model", folder, "--datasets_dir", datasets]
    with pytest.raises(UserError, match=r"no embedding \(it has \d+\): '<\|turn\|>' \(\d+\)"):
        call("generate_vectors", *given, "--artifacts_dir", tmp_path / "out")


def test_the_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    """Its plain vocabulary is larger than the embedding."""
    make_model("llama", vocab_size=300).save_pretrained(folder)
    with pytest.raises(UserError, match="tokens for which the model has no embedding"):
        load_tokenizer(choose_model(str(folder), None, False))


def test_a_token_that_no_prompt_holds_may_lie_beyond_the_embedding(folder: Path) -> None:
    """Many finetuned Llamas have one for padding."""
    tokenizer = make_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    assert load_tokenizer(choose_model(str(folder), None, False)).pad_token_id == rows
    check_embedded(tokenizer, None, "x")
