"""Models that cannot be steered, or are not whole: refused by name before they load."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import huggingface_hub.constants
import pytest
from bench import (
    PLOT,
    PROMPT,
    RUNNING,
    Bench,
    bench,
    no_token,
    says,
    the_model_never_loads,
)
from conftest import make_tokenizer, write_json
from made_tokenizers import merging_tokenizer

import utils.models.choice
import utils.models.loading

__all__ = ("bench", "no_token", "the_model_never_loads")  # fixtures


def model_folder(folder: Path, config: object) -> Path:
    write_json(folder / "config.json", config)
    return folder


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


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("merged", ["(A", "(B"])
def test_a_tokenizer_that_merges_the_bracket_with_one_letter_only_is_refused_with_its_tokens(
    bench: Bench, script: str, merged: str
) -> None:
    folder = bench.root / "merging"
    folder.mkdir()
    shutil.copy(bench.model / "config.json", folder)
    tokenizer = merging_tokenizer(("(", merged[1]))
    assert tokenizer.tokenize(merged) == [merged]
    tokenizer.save_pretrained(folder)
    message = bench.refused(script, "--behaviors", "calm", "--model", folder)
    says(message, "does not hold the letter", f"({merged[1]}): ", f"'{merged}' ')'")
