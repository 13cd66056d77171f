"""GGUF files: converted once, to the very weights and tokens of loading them directly."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import gguf
import pytest
import torch
from conftest import QUESTIONS
from gguf.quants import dequantize, quantize
from running import ROOT, call
from safetensors.torch import load_file
from small_gguf import KINDS, OLD_KINDS, SHAPE, tensors, write_gguf

from utils.errors import UserError
from utils.files.cache import file_hash, remembered_hash
from utils.files.contents import read_record, sha256_file
from utils.models.choice import choose_model, read_shape
from utils.models.identity import weights_fingerprint
from utils.models.loading import load_model, load_tokenizer
from utils.weights import gguf_conversion
from utils.weights.gguf_conversion import converted_folder, known_folder
from utils.weights.gguf_header import read_gguf_header
from utils.weights.named import find_named

WITH_ACCENTS = "e\u0301lan, u\u0308ber, \u1100\u1161"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    folder = tmp_path_factory.mktemp("gguf")
    return {k: write_gguf(folder / f"tiny-{k[0]}.gguf", k) for k in (KINDS, OLD_KINDS)}


@pytest.fixture
def source(made: dict[tuple[str, ...], Path]) -> Path:
    return made[KINDS]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(*_args: Any, **_options: Any) -> None:
    raise AssertionError("the file was read or converted again")


def test_the_header_says_what_the_gguf_package_reads(source: Path) -> None:
    header = read_gguf_header(source)
    reader = gguf.GGUFReader(source)
    assert header.weights == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert header.architecture == "qwen2"
    named = {k: v for k, v in header.metadata.items() if not k.startswith("GGUF.")}
    assert len(named) > 5
    for key, value in named.items():
        assert reader.fields[key].contents() == value
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert {tokens[i]: i for i in header.control_tokens.values()} == header.control_tokens
    assert set(header.control_tokens) == {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}


@pytest.mark.parametrize("kinds", [KINDS, OLD_KINDS], ids="-".join)
def test_the_converted_weights_are_the_dequantised_ones(
    made: dict[tuple[str, ...], Path], cache: Path, kinds: tuple[str, ...]
) -> None:
    """The oracle is the gguf package's own dequantisation of what was written."""
    folder = converted_folder(made[kinds])
    assert folder.parent == cache
    found = load_file(folder / "model.safetensors")
    expected = tensors(kinds)
    assert set(found) == set(expected)
    for name, (weight, kind) in expected.items():
        qtype = gguf.GGMLQuantizationType[kind]
        rounded = torch.from_numpy(dequantize(quantize(weight.numpy(), qtype), qtype).copy())
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], rounded), name
        assert (kind == "F32") == torch.equal(rounded, weight)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kinds", [KINDS, OLD_KINDS], ids="-".join)
def test_converted_is_direct_bit_for_bit(
    made: dict[tuple[str, ...], Path], cache: Path, kinds: tuple[str, ...], dtype: str
) -> None:
    path = str(made[kinds])
    converted = choose_model(path, None, False)
    direct = choose_model(path, None, False, keep_converted=False)
    tokenizers = [load_tokenizer(c) for c in (direct, converted)]
    models = [load_model(c, device="cpu", dtype=dtype) for c in (direct, converted)]
    assert len(list(cache.glob("tiny-*"))) == 1
    states = [m.state_dict() for m in models]
    assert set(states[0]) == set(states[1])
    for name, weight in states[0].items():
        assert weight.dtype == getattr(torch, dtype)
        assert torch.equal(weight, states[1][name]), name
    for text in [*QUESTIONS, WITH_ACCENTS, "<|im_start|>user\nno<|im_end|>\n", "日本語 🙂 (A)"]:
        ids = [t(text)["input_ids"] for t in tokenizers]
        assert ids[0] == ids[1]
    logits = [m(torch.tensor([ids[0]])).logits for m in models]
    assert torch.equal(*logits)
    chats: list[Any] = [
        t.apply_chat_template([{"role": "user", "content": "Hm?"}], add_generation_prompt=True)
        for t in tokenizers
    ]
    assert chats[0]["input_ids"] == chats[1]["input_ids"]
    assert models[0].generation_config.eos_token_id == models[1].generation_config.eos_token_id


@pytest.mark.parametrize("keep", [True, False])
def test_accents_are_composed_and_both_ends_of_an_answer_known(
    source: Path, cache: Path, keep: bool
) -> None:
    choice = choose_model(str(source), None, False, keep_converted=keep)
    tokenizer = load_tokenizer(choice)
    assert tokenizer("e\u0301")["input_ids"] == tokenizer("\u00e9")["input_ids"]
    ends = load_model(choice, device="cpu").generation_config.eos_token_id
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|im_end|>", "<|endoftext|>"]
    assert cache.exists() == keep


def test_the_second_start_neither_parses_nor_converts_nor_hashes(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = choose_model(str(source), None, False)
    first = load_model(choice, device="cpu").state_dict()
    said = capsys.readouterr().err
    assert f"once into {cache}/tiny-Q8_0-" in said and "--no_model_cache" in said
    for name in (
        "utils.weights.gguf_conversion._write",
        "utils.weights.gguf_conversion.read_gguf_header",
    ):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("utils.models.choice.read_gguf_header", refuse)
    monkeypatch.setattr("utils.files.cache.hash_of", refuse)
    shape = read_shape(choice)
    assert (shape.layers, shape.width, shape.context) == (4, SHAPE["hidden_size"], 512)
    again = load_model(choice, device="cpu").state_dict()
    assert first.keys() == again.keys() != set()
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert weights_fingerprint(choice) == sha256_file(source)[:16]
    assert "converting" not in capsys.readouterr().err


def test_the_same_file_under_another_name_is_not_converted_again(
    source: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = converted_folder(source)
    other = Path(shutil.copy(source, tmp_path / "other.gguf"))
    monkeypatch.setattr("utils.weights.gguf_conversion._write", refuse)
    assert known_folder(other) is None
    assert converted_folder(other) == known_folder(other) == folder


def test_a_hash_is_remembered_until_the_file_changes(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"one")
    assert remembered_hash(path) is None
    assert file_hash(path) == remembered_hash(path) == sha256_file(path)
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert remembered_hash(path) is None
    assert file_hash(path) == sha256_file(path)
    assert cache.exists()
    for note in (cache / "hashes").iterdir():
        note.write_text("[]")
    assert remembered_hash(path) is None


def test_a_conversion_that_fails_leaves_nothing(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(_path: Path, _header: Any, target: Path) -> None:
        target.mkdir()
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("utils.weights.gguf_conversion._write", break_off)
    with pytest.raises(UserError, match="No space left on device"):
        converted_folder(source)
    assert not [p for p in cache.rglob("*") if p.suffix == ".safetensors"]


def test_a_kill_while_converting_leaves_nothing_that_is_taken_for_whole(
    source: Path, cache: Path
) -> None:
    code = "import sys; from pathlib import Path; from utils.weights.gguf_conversion import *; "
    code += "print(converted_folder(Path(sys.argv[1])))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, str(source)], env=environment)
    while process.poll() is None and not list(cache.glob(".converting-*/*")):
        time.sleep(0.0005)
    time.sleep(random.Random(0).uniform(0, 0.005))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert known_folder(source) is None and list(cache.glob(".converting-*"))
    folder = converted_folder(source)
    assert len(load_file(folder / "model.safetensors")) == len(tensors())
    assert not list(cache.glob(".converting-*"))


def test_a_full_disk_names_the_flag_before_anything_is_parsed(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(source)._replace(free=read_gguf_header(source).float32_bytes - 1)
    monkeypatch.setattr(gguf_conversion.shutil, "disk_usage", lambda _path: usage)
    monkeypatch.setattr("utils.weights.gguf_conversion._write", refuse)
    with pytest.raises(UserError, match="--no_model_cache") as refused:
        converted_folder(source)
    assert str(cache) in str(refused.value)


def test_no_model_cache_gives_the_same_vectors_and_keeps_nothing(
    source: Path, cache: Path, datasets: Path, tmp_path: Path
) -> None:
    options = ["--layers", 0, 2, "--behaviors", "calm", "--model", source]
    options += ["--datasets_dir", datasets]
    call("generate_vectors", *options, "--artifacts_dir", tmp_path / "a", "--no_model_cache")
    assert {p.name for p in cache.iterdir()} == {"hashes", "notes", "templates"}
    call("generate_vectors", *options, "--artifacts_dir", tmp_path / "b")
    assert known_folder(source) is not None
    files = sorted((tmp_path / "a").rglob("vec_*.pt"))
    assert len(files) == 2
    for path in files:
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes()
        records = [read_record(p) for p in (path, other)]
        assert records[0] is not None and records[1] is not None
        assert records[0]["inputs"] == records[1]["inputs"]
        assert records[0]["inputs"]["weights"] == sha256_file(source)[:16]


@pytest.mark.parametrize("keep", [True, False])
def test_a_gguf_file_is_not_quantised_once_more(source: Path, cache: Path, keep: bool) -> None:
    choice = choose_model(str(source), None, False, keep_converted=keep)
    with pytest.raises(UserError, match="a quantisation of its own"):
        load_model(choice, device="cpu", load_in="4bit")
    assert keep or not cache.exists()


# What the tokenizer that the publisher of Qwen gives out makes of these texts.
REAL_IDS = {
    "e\u0301lan x": [963, 10715, 856],
    "(A)": [4346, 8],
    "<|im_start|>user\n": [151644, 872, 198],
}


def test_the_real_qwen_has_its_tokens_and_ends_its_answer() -> None:
    row = find_named("qwen2.5-coder-0.5b")
    assert row is not None
    if gguf_conversion.find_folder(row.fingerprint) is None:
        pytest.skip("qwen2.5-coder-0.5b is not in the cache (491 MB): --model fetches it")
    choice = choose_model(row.name, None, False)
    tokenizer = load_tokenizer(choice)
    for text, ids in REAL_IDS.items():
        assert tokenizer(text)["input_ids"] == ids
    model = load_model(choice, device="cpu")
    shape = (model.config.num_hidden_layers, model.config.hidden_size)
    assert (*shape, model.config.max_position_embeddings) == (row.layers, row.width, row.context)
    assert model.generation_config.eos_token_id == [151645, 151643]
    question = [{"role": "user", "content": "What is two plus two? Answer with one digit."}]
    prompt: Any = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = cast(Any, model).generate(**prompt, do_sample=False, max_new_tokens=12)[0]
    assert tokenizer.decode(answer[prompt["input_ids"].shape[1] :]) == "4<|im_end|>"
