"""What a record calls the weights: every change of a byte is another name, wherever it is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY, make_model, make_tokenizer
from running import call
from safetensors.torch import load_file, save_file

from utils.errors import UserError
from utils.files.artifacts import differences, same_weights, save
from utils.files.cache import remembered_hash
from utils.files.contents import sha256_file
from utils.models.choice import choose_model
from utils.models.identity import weights_fingerprint

MIB = 1 << 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose file is longer than both samples together: a vocabulary of 60 000."""
    made = tmp_path / "model"
    make_model("llama", vocab_size=60_000).save_pretrained(made)
    make_tokenizer().save_pretrained(made)
    assert (made / "model.safetensors").stat().st_size > 4 * MIB
    return made


def fingerprint(model: Path, weights: Path | None = None) -> str:
    given = None if weights is None else str(weights)
    return weights_fingerprint(choose_model(str(model), None, False, given))


def turn_a_byte(path: Path, place: int) -> None:
    """Edit in place: the name, the size, the inode and the time of the last change stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.999])
def test_a_byte_turned_anywhere_is_another_model(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    turn_a_byte(path, int(path.stat().st_size * share))
    assert fingerprint(folder) != before


def test_weights_edited_in_place_are_not_finished(folder: Path, datasets: Path) -> None:
    """The whole way: a rerun on edited weights must not say that its vectors are finished."""
    place = ["--artifacts_dir", folder.parent / "out", "--datasets_dir", datasets]
    options = ["--model", folder, "--layers", 1, "--behaviors", "calm", *place]
    assert call("generate_vectors", *options) == 0
    assert call("generate_vectors", *options) == 0, "the same weights are finished"
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.embed_tokens.weight"][20_000:40_000] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="weights: "):
        call("generate_vectors", *options)


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "tokenizer.model", "tokenizer.json"])
def test_another_vocabulary_is_another_model(folder: Path, name: str) -> None:
    (folder / name).write_text("a b\n")
    before = fingerprint(folder)
    (folder / name).write_text("b a\n")
    assert fingerprint(folder) != before


@pytest.mark.parametrize("kind", ["file", "adapter"])
def test_finetuned_weights_edited_in_place_are_others(folder: Path, kind: str) -> None:
    weights = folder.parent / "tuned.pt"
    if kind == "adapter":
        weights = folder.parent / "adapter"
        weights.mkdir()
        (weights / "adapter_config.json").write_text("{}")
    file = weights / "adapter_model.safetensors" if kind == "adapter" else weights
    file.write_bytes(bytes(5 * MIB))
    before = fingerprint(folder, weights)
    assert before.startswith(f"{fingerprint(folder)}+")
    turn_a_byte(file, 2 * MIB + 17)
    assert fingerprint(folder, weights) != before


def test_large_files_are_read_whole_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(folder)
    assert remembered_hash(folder / "model.safetensors") is not None
    assert remembered_hash(folder / "config.json") is None, "small files leave no note"
    read: list[str] = []
    monkeypatch.setattr("utils.files.cache.hash_of", lambda path: read.append(path.name))
    assert fingerprint(folder) == before
    assert not read


def test_a_record_with_the_first_hash_alone_is_held_against_that_one(folder: Path) -> None:
    now = fingerprint(folder)
    earlier = now.split(".")[0]
    assert len(earlier) == 16
    assert differences({"weights": earlier, "a": 1}, {"weights": now, "a": 1}) == []
    assert differences({"weights": earlier[::-1]}, {"weights": now})
    assert differences({"weights": now}, {"weights": earlier}), "a full hash is never dropped"
    assert same_weights("ab+cd", "ab.01+cd.02") and not same_weights("ab.03+cd", "ab.01+cd.02")


def test_finetuned_weights_are_held_against_their_record(folder: Path, tmp_path: Path) -> None:
    """The file that finetune_llama.py wrote: those bytes, for the model it was trained from."""
    weights = tmp_path / "tuned.pt"
    save(weights, b"some weights", {"weights": fingerprint(folder), "model": folder.name})
    assert fingerprint(folder, weights).startswith(fingerprint(folder))
    other = tmp_path / "other" / folder.name
    shutil.copytree(folder, other)
    torch.manual_seed(1)
    tensors = load_file(other / "model.safetensors")
    tensors["model.embed_tokens.weight"][30_000] += torch.randn(TINY["hidden_size"])
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="trained from other weights"):
        fingerprint(other, weights)
    turn_a_byte(weights, 3)
    assert sha256_file(weights)
    with pytest.raises(UserError, match="not the file that its record describes"):
        fingerprint(folder, weights)
