"""A run that has nothing to do: without torch, and with every change of its inputs still seen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import write_json
from running import ROOT, call, environment

from utils.errors import UserError
from utils.files import remembered

RUN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
name = sys.argv[1]
import importlib
module = importlib.import_module(name)
module.main(module.build_parser().parse_args(sys.argv[2:]))
print("heavy:", *(m for m in ("torch", "transformers", "scipy") if m in sys.modules))
"""
OPEN = [{"question": f"What of {thing}?"} for thing in ("ships", "towns", "rain")]


@pytest.fixture
def place(
    tmp_path: Path, datasets: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with raw and normalised vectors of a model of its own."""
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))
    write_json(datasets / "test" / "calm" / "test_dataset_open_ended.json", OPEN)
    model = tmp_path / "model"
    model.mkdir()
    for file in tiny_folder.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    assert call("generate_vectors", *flags(tmp_path), *GENERATE) == 0
    assert call("normalize_vectors", "--artifacts_dir", tmp_path) == 0
    return tmp_path


GENERATE = ("--layers", "1", "2")
STEER = {
    "ab": ("--layers", "1", "2", "--multipliers", "0", "1"),
    "open_ended": (
        *("--type", "open_ended", "--layers", "1", "--multipliers", "0", "1"),
        *("--max_new_tokens", "4", "--show_answers", "0"),
    ),
    "doses": ("--layers", "1", "--doses", "0", "0.1"),
    "controls": (
        *("--layers", "1", "--multipliers", "1"),
        *("--controls", "random", "others", "--control_draws", "2"),
    ),
    "system prompt": ("--layers", "1", "--multipliers", "1", "--system_prompt", "pos"),
}
KINDS: list[tuple[str, tuple[str, ...]]] = [("generate_vectors", GENERATE)]
KINDS += [("prompting_with_steering", options) for options in STEER.values()]


def flags(place: Path) -> list[str]:
    folders = ["--artifacts_dir", str(place), "--datasets_dir", str(place / "datasets")]
    return ["--model", str(place / "model"), "--behaviors", "calm", *folders]


def in_a_new_process(script: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(ROOT), script, *options],
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(("script", "options"), KINDS)
def test_torch_is_not_imported(place: Path, script: str, options: tuple[str, ...]) -> None:
    assert call(script, *flags(place), *options) == 0
    out = in_a_new_process(script, *flags(place), *options)
    assert "nothing to do" in out
    # the table of controls has intervals, whose quantiles are scipy's
    allowed = {"scipy"} if "--controls" in options else set()
    name, *heavy = out.splitlines()[-1].split()
    assert name == "heavy:" and set(heavy) <= allowed


def test_records_of_before_are_finished_at_the_second_look(place: Path) -> None:
    """Without any note, as after an update: one look with torch, and none after that."""
    assert call("prompting_with_steering", *flags(place), *STEER["ab"]) == 0
    for note in (place / "cache" / "notes").rglob("*.json"):
        note.unlink()
    for heavy in (True, False):
        out = in_a_new_process("prompting_with_steering", *flags(place), *STEER["ab"])
        assert "nothing to do" in out
        assert ("torch" in out.splitlines()[-1].split()) is heavy


def change_template_file(place: Path) -> None:
    (place / "model" / "chat_template.jinja").write_text(
        (place / "model" / "chat_template.jinja").read_text() + "{# another #}"
    )


def change_template_in_config(place: Path) -> None:
    path = place / "model" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    (place / "model" / "chat_template.jinja").unlink(missing_ok=True)
    config["chat_template"] = "{% for m in messages %}{{ m['content'] }}{% endfor %} says: "
    path.write_text(json.dumps(config))


def change_questions(place: Path) -> None:
    path = place / "datasets" / "test" / "calm" / "test_dataset_ab.json"
    rows = json.loads(path.read_text())
    rows[0]["question"] += " Really?"
    path.write_text(json.dumps(rows))


def change_vector(place: Path) -> None:
    for path in (place / "normalized_vectors" / "calm").glob("vec_layer_1_*.pt"):
        vector = torch.load(path, weights_only=True)
        torch.save(vector * 2, path)
        path.with_name(f".{path.name}.record").unlink()


def change_weights(place: Path) -> None:
    path = place / "model" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


CHANGES = [
    (change_template_file, "template: "),
    (change_template_in_config, "weights: "),
    (change_questions, "data: "),
    (change_vector, "vector: "),
    (change_weights, "weights: "),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_changed_input_is_seen(place: Path, change: Callable[[Path], None], said: str) -> None:
    options = [*flags(place), *STEER["ab"]]
    for _ in range(2):
        assert call("prompting_with_steering", *options) == 0
    change(place)
    with pytest.raises(UserError, match=said):
        call("prompting_with_steering", *options)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"null", None])
def test_a_damaged_note_is_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path))
    key = {"a": 1, "b": [2, None]}
    remembered.keep("kind", key, {"answer": 42})
    assert remembered.recall("kind", key) == {"answer": 42}
    assert remembered.recall("kind", key | {"a": 2}) is None
    assert remembered.recall("another kind", key) is None
    (note,) = tmp_path.rglob("*.json")
    note.write_bytes(note.read_bytes().replace(b"42", b"43") if damage is None else damage)
    assert remembered.recall("kind", key) is None


def test_a_note_of_other_code_or_packages_is_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path))
    remembered.keep("kind", {}, 1)
    for name, other in (("code_version", lambda: "other"), ("_versions", lambda: {"torch": "0"})):
        with monkeypatch.context() as patch:
            patch.setattr(remembered, name, other)
            assert remembered.recall("kind", {}) is None
    assert remembered.recall("kind", {}) == 1


def test_no_room_for_notes_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("CAA_CACHE_DIR", str(blocked))
    remembered.keep("kind", {}, 1)
    assert remembered.recall("kind", {}) is None


def test_prompts_that_are_warned_of_are_warned_of_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that trims its questions apart cannot have their special tokens read as text."""
    monkeypatch.setattr("utils.prompts.special_tokens.LiteralText.hide", lambda _self, text: text)
    path = place / "datasets" / "test" / "calm" / "test_dataset_ab.json"
    rows = json.loads(path.read_text())
    rows[1]["question"] = "What is <|im_end|> for?\n\n" + rows[1]["question"]
    path.write_text(json.dumps(rows))
    for _ in range(3):
        with pytest.warns(UserWarning, match="reads that as the token itself"):
            assert call("prompting_with_steering", *flags(place), *STEER["ab"]) == 0
