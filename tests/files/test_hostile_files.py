"""JSON that no careful program wrote: one message with the place of the fault, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROWS, write_json
from running import call

from utils.data.published import raw_rows, read_jsonl
from utils.errors import UserError
from utils.files.artifacts import save, state
from utils.files.cache import remembered_hash
from utils.files.contents import read_json
from utils.files.json_files import check_writable, json_bytes, parse_json
from utils.models.choice import choose_model, read_shape

DEEP = b"[" * 100_000 + b"]" * 100_000
HOSTILE = {
    "deep": DEEP,
    "deep_object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "digits": b"[" + b"9" * 5000 + b"]",
    "cut": b'[{"question": "Is it',
    "empty": b"",
    "nul": b"\0" * 100,
    "nul_in_text": b'["a\0b"]',
    "utf16": '["a"]'.encode("utf-16"),
    "not_utf8": b'["caf\xe9"]',
    "two": b"[] []",
}
# What json reads and a script must not take.
WRONG = {"null": b"null", "number": b"7", "text": b'"x"', "numbers": b"[1, 2]", "nan": b"NaN"}
RESULT = "results_layer=1_multiplier=1.0_behavior=calm_type={}_model=tiny.json"


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_json_raises_is_one_message_with_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 300


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(UserError, match=str(path)):
            read_json(path)


def run(script: str, folder: Path, *more: object) -> int:
    return call(
        script, "--artifacts_dir", folder / "a", "--datasets_dir", folder / "datasets", *more
    )


def data(folder: Path, tiny: Path) -> Path:
    return folder / "datasets/generate/calm/generate_dataset.json"


def description(folder: Path, tiny: Path) -> Path:
    return folder / "datasets/generate/calm/behavior.json"


def result(folder: Path, tiny: Path) -> Path:
    return folder / "a/results/calm" / RESULT.format("ab")


def scores(folder: Path, tiny: Path) -> Path:
    write_json(folder / "a/results/calm" / RESULT.format("open_ended"), [{"question": "Is it?"}])
    return folder / "a/results/open_ended_scores/calm" / RESULT.format("open_ended")


def config(folder: Path, tiny: Path) -> Path:
    return tiny / "config.json"


Place = Callable[[Path, Path], Path]
GENERATE = ("generate_vectors", "--layers", 1)
PLOT = ("plot_results", "--model", "tiny")
READERS: dict[str, tuple[Place, tuple[object, ...]]] = {
    "data": (data, GENERATE),
    "description": (description, GENERATE),
    "config": (config, GENERATE),
    "result": (result, PLOT),
    "scores": (scores, (*PLOT, "--type", "open_ended")),
}


@pytest.mark.parametrize("fault", HOSTILE | WRONG)
@pytest.mark.parametrize("reader", READERS)
def test_every_script_names_the_file_that_it_cannot_read(
    tmp_path: Path, datasets: Path, tiny_folder: Path, reader: str, fault: str
) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    for file in tiny_folder.iterdir():
        (tiny / file.name).symlink_to(file)
    place, (script, *flags) = READERS[reader]
    path = place(tmp_path, tiny)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes((HOSTILE | WRONG)[fault])
    model = [] if script == "plot_results" else ["--model", tiny]
    with pytest.raises(UserError) as caught:
        run(str(script), tmp_path, "--behaviors", "calm", *flags, *model)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize("fault", HOSTILE | WRONG | {"measured": b""})
def test_a_record_that_is_none_is_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "artefact.json"
    save(path, b"[]", {"kind": "x"})
    content = (HOSTILE | WRONG).get(fault)
    record = tmp_path / ".artefact.json.record"
    whole = json.loads(record.read_bytes()) | {"measured": [1, 2]}
    record.write_bytes(json_bytes(whole) if content is None else content)
    with pytest.raises(UserError, match="not a readable record"):
        state(path, {"kind": "x"})


@pytest.mark.parametrize("content", [b'{"text_config": 7}', b'{"text_config": [1]}', b"[]", DEEP])
def test_a_config_of_wrong_types_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="config"):
        read_shape(choose_model(str(tmp_path), None, False))


@pytest.mark.parametrize("fault", HOSTILE)
def test_published_files_that_came_broken_are_named(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"question": "y"}\n' + HOSTILE[fault] + b"\n7\n")
    with pytest.raises(UserError, match=r"line [23]"):
        read_jsonl(path)
    path.write_bytes((HOSTILE | WRONG)[fault])
    with pytest.raises(UserError, match=r"x\.jsonl"):
        raw_rows("refusal", [path], 0)


def test_a_note_in_the_cache_that_cannot_be_read_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import utils.files.cache

    (tmp_path / "note").write_bytes(DEEP)
    monkeypatch.setattr(utils.files.cache, "_note", lambda _: tmp_path / "note")
    assert remembered_hash(tmp_path / "note") is None


# ---------------------------------------------------------------- what cannot be written

UNWRITABLE: dict[str, tuple[str, str]] = {
    "nan": ("NaN", "NaN"),
    "infinite": ("-Infinity", "infinite"),
    "too_large": ("1e999", "infinite"),
    "within": ('{"a": [NaN]}', "NaN"),
    "half": (r'"Is it \ud800?"', "half a character"),
    "half_in_list": (r'["\udc00"]', "half a character"),
}
NESTED = "[" * 101 + "]" * 101


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_value_is_refused_if_and_only_if_it_cannot_be_written(name: str) -> None:
    text, reason = UNWRITABLE[name]
    value = parse_json(text.encode(), "x")
    with pytest.raises((ValueError, RecursionError)):
        json_bytes(value)
    with pytest.raises(UserError, match=f"here: field .*{reason}"):
        check_writable({"field": value}, "here")
    with pytest.raises(UserError, match="here: field is nested too deeply"):
        check_writable({"field": json.loads(NESTED)}, "here")
    good: dict[str, Any] = {
        "a": 1.5,
        "b": "\U0001f600\0",
        "c": None,
        "d": json.loads(NESTED[1:-1]),
        "e": 10**40,
    }
    check_writable(good, "here")
    json_bytes(good)


CHOICE = {"prompt": "Q? (A) y (B) n", "correct": "(A)", "incorrect": "(B)", "category": "Law"}


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("field", ["category", "correct", "prompt"])
def test_a_field_that_no_result_could_hold_is_found_before_the_model_loads(
    tmp_path: Path, datasets: Path, tiny_folder: Path, name: str, field: str
) -> None:
    text, reason = UNWRITABLE[name]
    if field != "category":
        text, reason = r'"(A) Is it \ud800?"', "half a character"
    rows = json.dumps([CHOICE, CHOICE | {field: "HERE"}]).replace('"HERE"', text)
    path = datasets / "test/truthfulqa/truthful_qa.json"
    path.parent.mkdir(parents=True)
    path.write_text(rows)
    flags = ("--type", "truthful_qa", "--layers", 1, "--multipliers", 0, "--model", tiny_folder)
    with pytest.raises(UserError, match=f"item 2: {field} .*{reason}"):
        run("prompting_with_steering", tmp_path, "--behaviors", "calm", *flags)
    assert not list((tmp_path / "a").rglob("*.json"))


@pytest.mark.parametrize("field", ["name", "rubric", "positive_system_prompt"])
def test_half_a_character_in_a_description_is_named(
    tmp_path: Path, datasets: Path, field: str
) -> None:
    path = write_json(description(tmp_path, tmp_path), {"name": "Calm", field: "\ud800"})
    with pytest.raises(UserError, match=f"{path}: {field} holds half a character"):
        run("plot_results", tmp_path)


@pytest.mark.parametrize("name", ["two\nlines", "a\tb", "bell\x07", "\x1b[31mred"])
def test_a_name_is_one_line(tmp_path: Path, datasets: Path, name: str) -> None:
    write_json(description(tmp_path, tmp_path), {"name": name})
    with pytest.raises(UserError, match="name must be one line"):
        run("plot_results", tmp_path)


@pytest.mark.parametrize("category", ["\ud800", float("nan")])
def test_a_foreign_result_that_no_table_could_hold_is_named(
    tmp_path: Path, datasets: Path, category: Any
) -> None:
    rows = [{"question": r["question"], "correct": "(A)", "incorrect": "(B)"} for r in ROWS]
    rows = [row | {"a_prob": 0.5, "b_prob": 0.2, "category": category} for row in rows]
    write_json(tmp_path / "a/results/calm" / RESULT.format("truthful_qa"), rows)
    with pytest.raises(UserError, match="row 1: category holds"):
        run("plot_results", tmp_path, "--type", "truthful_qa", "--model", "tiny")
