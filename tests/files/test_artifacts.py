"""Durable files: whole or absent, with a record, and refused when they are not what it says."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from running import every_file

from utils.errors import UserError
from utils.files.artifacts import State, fingerprint, must_make, save, state, torch_bytes
from utils.files.contents import sha256_bytes, sha256_file, verify
from utils.files.durable import write_bytes
from utils.files.json_files import json_bytes
from utils.files.paths import record_path

INPUTS = {"kind": "vector", "model": "tiny", "layer": 3, "data": "abc"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "vectors" / "calm" / "vec_layer_3_tiny.pt"


# ---------------------------------------------------------------- writing


def no_space(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_writing_makes_the_folders_and_replaces_the_old_file(place: Path) -> None:
    write_bytes(place, b"old")
    write_bytes(place, b"new")
    assert every_file(place.parent) == {place.name: b"new"}


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_bytes(place, b"old")
    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(UserError, match=r"cannot write .*vec_layer_3_tiny\.pt: No space left"):
        write_bytes(place, b"new and longer")
    assert every_file(place.parent) == {place.name: b"old"}


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_first_write_that_fails_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(UserError, match="cannot write"):
        write_bytes(place, b"new")
    assert every_file(place.parent) == {}


def test_a_file_in_the_place_of_the_folder_is_named(place: Path) -> None:
    place.parent.parent.mkdir()
    place.parent.write_text("mine")
    with pytest.raises(UserError, match=r"cannot write .*calm"):
        write_bytes(place, b"new")
    assert place.parent.read_text() == "mine"


def test_the_new_bytes_are_flushed_before_they_take_the_place_of_the_old(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(handle: int) -> None:
        steps.append("fsync")
        fsync(handle)

    def note_replace(old: Path, new: Path) -> None:
        steps.append("replace")
        assert Path(old).parent == Path(new).parent, "a rename is atomic within one folder"
        assert Path(old).name.startswith(".")
        assert Path(old).read_bytes() == b"new"
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_bytes(place, b"new")
    assert steps[:2] == ["fsync", "replace"]


def test_a_kill_between_record_and_artefact_leaves_an_absent_artefact(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = write_bytes

    def killed(path: Path, data: bytes) -> None:
        if path == place:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("utils.files.artifacts.write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            save(place, b"data", INPUTS)
    assert list(every_file(place.parent)) == [record_path(place).name]
    assert state(place, INPUTS) == (State.ABSENT, [])
    assert must_make(place, INPUTS, overwrite=False)


def test_the_same_value_gives_the_same_bytes() -> None:
    vector = torch.linspace(-1, 1, 33)
    assert torch_bytes(vector) == torch_bytes(vector.clone())
    assert torch_bytes(vector) != torch_bytes(vector + 1)
    rows = [{"question": "Naïve?", "a_prob": 0.1}]
    assert json_bytes(rows) == json_bytes(json.loads(json_bytes(rows)))
    assert "Naïve?".encode() in json_bytes(rows)


def test_json_files_never_hold_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_bytes([float("nan")])


def test_saving_the_same_twice_gives_the_same_bytes_and_the_same_record(place: Path) -> None:
    save(place, torch_bytes(torch.ones(4)), INPUTS)
    before = every_file(place.parent)
    save(place, torch_bytes(torch.ones(4)), dict(reversed(INPUTS.items())))
    after = every_file(place.parent)
    assert list(before) == list(after) == [record_path(place).name, place.name]
    assert after[place.name] == before[place.name]
    records = [json.loads(files[record_path(place).name]) for files in (before, after)]
    assert records[0] == records[1]


def test_a_record_says_what_made_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/generate_vectors.py", "--model", "my model"])
    save(place, b"data", INPUTS)
    record = json.loads(record_path(place).read_bytes())
    assert record_path(place).name.startswith(".")
    assert record["artifact"] == place.name
    assert record["sha256"] == sha256_bytes(b"data") == sha256_file(place)
    assert record["inputs"] == INPUTS
    assert record["command"] == "generate_vectors.py --model 'my model'"
    assert {"python", "torch", "transformers", "numpy"} <= record["versions"].keys()


def test_a_fingerprint_depends_on_the_values_and_not_on_the_order_of_the_keys() -> None:
    assert fingerprint(INPUTS) == fingerprint(dict(reversed(INPUTS.items())))
    assert fingerprint(INPUTS) != fingerprint(INPUTS | {"layer": 4})


# ---------------------------------------------------------------- states


def test_absent(place: Path) -> None:
    assert state(place, INPUTS) == (State.ABSENT, [])
    assert must_make(place, INPUTS, overwrite=False)
    assert must_make(place, INPUTS, overwrite=True)


def test_finished_is_never_made_again(place: Path) -> None:
    save(place, b"data", INPUTS)
    assert state(place, dict(reversed(INPUTS.items()))) == (State.FINISHED, [])
    assert not must_make(place, INPUTS, overwrite=False)
    assert not must_make(place, INPUTS, overwrite=True)


def test_changed_inputs_are_refused_with_every_difference_named(place: Path) -> None:
    save(place, b"data", INPUTS)
    now = {"kind": "vector", "model": "other", "layer": 3, "pairs": 8}
    expected = ["data: is no longer there (abc)", "model: tiny -> other", "pairs: is new (8)"]
    assert state(place, now) == (State.CHANGED, expected)
    with pytest.raises(UserError) as caught:
        must_make(place, now, overwrite=False)
    message = str(caught.value)
    assert str(place) in message and "--overwrite" in message
    assert all(line in message for line in expected)
    assert "layer" not in message.replace(place.name, "")
    assert must_make(place, now, overwrite=True)
    assert place.read_bytes() == b"data", "asking writes nothing"


def test_a_foreign_file_is_kept_and_said_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bytes(place, b"of the paper")
    assert state(place, INPUTS) == (State.FOREIGN, [])
    assert not must_make(place, INPUTS, overwrite=False)
    said = capsys.readouterr().out
    assert str(place) in said and "kept" in said and "--overwrite" in said
    assert must_make(place, INPUTS, overwrite=True)


@pytest.mark.parametrize("data", [b"dat", b"dbta", b"", b"data\n"])
def test_a_damaged_file_is_refused(place: Path, data: bytes) -> None:
    save(place, b"data", INPUTS)
    place.write_bytes(data)
    assert state(place, INPUTS) == (State.DAMAGED, [])
    with pytest.raises(UserError) as caught:
        must_make(place, INPUTS, overwrite=False)
    message = str(caught.value)
    assert str(place) in message and record_path(place).name in message
    assert "--overwrite" in message
    assert must_make(place, INPUTS, overwrite=True)
    with pytest.raises(UserError, match="not the file that its record describes"):
        verify(place)


def test_a_damaged_file_of_other_inputs_is_not_taken_for_a_whole_one(place: Path) -> None:
    save(place, b"data", INPUTS)
    place.write_bytes(b"dat")
    assert state(place, INPUTS | {"layer": 4})[0] is State.DAMAGED


def test_whole_files_and_files_from_elsewhere_are_read(place: Path) -> None:
    write_bytes(place, b"of the paper")
    verify(place)
    save(place, b"data", INPUTS)
    verify(place)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "record",
    [b"", b"not JSON", b"\xff\xfe", b"[]", b'"text"', b'{"sha256": "0"}', b'{"inputs": {}}'],
)
def test_a_record_that_is_none_is_named(place: Path, record: bytes, overwrite: bool) -> None:
    save(place, b"data", INPUTS)
    record_path(place).write_bytes(record)
    with pytest.raises(UserError) as caught:
        must_make(place, INPUTS, overwrite=overwrite)
    assert str(record_path(place)) in str(caught.value) and "delete it" in str(caught.value)
    with pytest.raises(UserError, match="readable record"):
        verify(place)


def test_a_record_whose_inputs_are_no_mapping_is_named(place: Path) -> None:
    save(place, b"data", INPUTS)
    record = {"sha256": sha256_bytes(b"data"), "inputs": ["vector"]}
    record_path(place).write_text(json.dumps(record))
    with pytest.raises(UserError, match="readable record"):
        must_make(place, INPUTS, overwrite=False)
