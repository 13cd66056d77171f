"""Durable files: whole or absent, with a record; sums that survive a kill."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from running import call, hidden
from torch import Tensor

from utils.errors import UserError
from utils.extraction import vector_sums
from utils.extraction.pairs import PairOutputs
from utils.files.artifacts import State, fingerprint, must_make, save, state, torch_bytes
from utils.files.contents import sha256_bytes, sha256_file, verify
from utils.files.durable import write_bytes
from utils.files.json_files import json_bytes
from utils.files.paths import record_path
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Readings
from utils.vectors.stored import read_vector

INPUTS = {"kind": "vector", "model": "tiny", "layer": 3, "data": "abc"}


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "vectors" / "calm" / "vec_layer_3_tiny.pt"


# ---------------------------------------------------------------- writing


def no_space(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_writing_makes_the_folders_and_replaces_the_old_file(place: Path) -> None:
    write_bytes(place, b"old")
    write_bytes(place, b"new")
    assert contents(place.parent) == {place.name: b"new"}


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_bytes(place, b"old")
    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(UserError, match=r"cannot write .*vec_layer_3_tiny\.pt: No space left"):
        write_bytes(place, b"new and longer")
    assert contents(place.parent) == {place.name: b"old"}


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_first_write_that_fails_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(os, step, no_space)
    with pytest.raises(UserError, match="cannot write"):
        write_bytes(place, b"new")
    assert contents(place.parent) == {}


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
    assert list(contents(place.parent)) == [record_path(place).name]
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
    before = contents(place.parent)
    save(place, torch_bytes(torch.ones(4)), dict(reversed(INPUTS.items())))
    after = contents(place.parent)
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


# ---------------------------------------------------------------- reading vectors


def old_format(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


class Trap:
    """A pickled object that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def vector_file(tmp_path: Path) -> Path:
    return tmp_path / "vec_layer_3_tiny.pt"


@pytest.mark.parametrize("write", [torch.save, old_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_plain_vector_is_read_as_float32(
    vector_file: Path, dtype: torch.dtype, write: Callable[[object, Path], None]
) -> None:
    vector = torch.linspace(-2, 2, 9, dtype=dtype)
    write(vector, vector_file)
    found = read_vector(vector_file, made_by="-", width=9).tensor
    assert found.dtype == torch.float32
    assert torch.equal(found, vector.float())


def test_a_missing_vector_names_the_command(vector_file: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_vector(vector_file, made_by="./generate_vectors.py --layers 3")
    assert str(vector_file) in str(caught.value)
    assert "Make it with: ./generate_vectors.py --layers 3" in str(caught.value)


@pytest.mark.parametrize("write", [torch.save, old_format])
def test_a_vector_cut_off_anywhere_is_named(
    vector_file: Path, write: Callable[[object, Path], None]
) -> None:
    write(torch.arange(9.0), vector_file)
    whole = vector_file.read_bytes()
    for length in [*range(60), *range(60, len(whole), 9), len(whole) - 1]:
        vector_file.write_bytes(whole[:length])
        try:
            read_vector(vector_file, made_by="-")
        except UserError as error:
            assert str(vector_file) in str(error), f"cut off at {length}"
        except Exception as error:  # noqa: BLE001 (which byte it was is what one wants to know)
            pytest.fail(f"cut off at byte {length}: {error!r}")
        else:
            pytest.fail(f"cut off at byte {length} and read as if whole")


def test_a_recorded_vector_with_one_changed_byte_is_named(vector_file: Path) -> None:
    save(vector_file, torch_bytes(torch.arange(9.0)), INPUTS)
    data = bytearray(vector_file.read_bytes())
    data[data.index(struct.pack("<f", 5.0))] ^= 1
    vector_file.write_bytes(data)
    with pytest.raises(UserError, match="not the file that its record describes"):
        read_vector(vector_file, made_by="-")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickled_object_is_refused_and_not_run(vector_file: Path, tmp_path: Path) -> None:
    for write in (torch.save, old_format):
        write(Trap(tmp_path / "sprung"), vector_file)
        with pytest.raises(UserError, match="no plain tensor file"):
            read_vector(vector_file, made_by="-")
    vector_file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match="no plain tensor file"):
        read_vector(vector_file, made_by="-")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"vector": torch.ones(4)}, "does not hold one 1-D floating-point tensor"),
        ([torch.ones(4)], "does not hold one 1-D floating-point tensor"),
        (1.5, "does not hold one 1-D floating-point tensor"),
        (torch.ones(1, 4), "does not hold one 1-D floating-point tensor"),
        (torch.tensor(1.0), "does not hold one 1-D floating-point tensor"),
        (torch.ones(4, dtype=torch.int64), "does not hold one 1-D floating-point tensor"),
        (torch.ones(4, dtype=torch.bool), "does not hold one 1-D floating-point tensor"),
        (torch.ones(4, dtype=torch.complex64), "does not hold one 1-D floating-point tensor"),
        (torch.tensor([1, float("nan"), 0, 0]), "NaN or infinite"),
        (torch.tensor([1, 0, 0, -float("inf")]), "NaN or infinite"),
        (torch.ones(5), "width 5, .* has 4"),
        (torch.ones(0), "width 0, .* has 4"),
    ],
    ids=[
        *("dictionary", "list", "number", "2-D", "0-D", "integers", "booleans", "complex"),
        *("nan", "infinite", "wider", "empty"),
    ],
)
def test_what_is_no_vector_of_this_model_is_refused_by_name(
    vector_file: Path, value: object, wanted: str
) -> None:
    torch.save(value, vector_file)
    with pytest.raises(UserError, match=wanted) as caught:
        read_vector(vector_file, made_by="-", width=4)
    assert str(vector_file) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"r\xae garbage", b"\x80\x02K", b"PK\x03\x04" + bytes(60)])
def test_garbage_is_no_vector(vector_file: Path, data: bytes) -> None:
    vector_file.write_bytes(data)
    with pytest.raises(UserError, match="no plain tensor file"):
        read_vector(vector_file, made_by="-")


# ---------------------------------------------------------------- as generate_vectors.py uses them


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads wait for each other, and long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(one_thread: None, tiny_folder: Path, datasets: Path, tmp_path: Path) -> list[object]:
    flags: list[object] = ["--layers", 1, 2, "--behaviors", "calm", "--model", tiny_folder]
    flags += ["--datasets_dir", datasets, "--artifacts_dir", tmp_path / "artifacts"]
    return [*flags, "--batch_tokens", 200]


def stop_after_two_batches(command: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run generate_vectors.py until it has saved two batches, then stop it."""
    readings = PairOutputs.readings
    done: list[object] = []

    def stopping(self: PairOutputs, batch: Any) -> Readings:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(batch)
        return readings(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(vector_sums, "SAVE_EVERY_SECONDS", -1.0)
        patch.setattr(PairOutputs, "readings", stopping)
        with pytest.raises(KeyboardInterrupt):
            call("generate_vectors", *command)


@pytest.mark.parametrize("first", [True, False], ids=["asked_at_first", "asked_at_last"])
def test_a_stopped_run_goes_on_with_activations_asked_for_in_one_of_its_halves(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    keep = ("--save_activations",)
    stop_after_two_batches([*command, *(keep if first else ())], monkeypatch)
    assert (tmp_path / "artifacts/vectors/calm/.progress_tiny-llama").exists()
    assert call("generate_vectors", *command, *(() if first else keep)) == 0
    whole = tmp_path / "whole"
    call("generate_vectors", *command, *(() if first else keep), "--artifacts_dir", whole)
    published = {n: d for n, d in contents(whole).items() if "/." not in n}
    found = contents(tmp_path / "artifacts")
    assert len(published) == (2 if first else 6)
    assert {n: d for n, d in found.items() if "/." not in n} == published
    assert hidden(tmp_path / "artifacts") == [], "no state is left behind"


def test_a_foreign_vector_is_not_overwritten_when_its_activations_are_made(
    command: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "artifacts/vectors/calm/vec_layer_1_tiny-llama.pt"
    foreign.parent.mkdir(parents=True)
    torch.save(torch.ones(32), foreign)
    before = foreign.read_bytes()
    assert call("generate_vectors", *command, "--save_activations") == 0
    assert f"kept (no record: it came from elsewhere; --overwrite replaces it): {foreign}" in (
        capsys.readouterr().out
    )
    assert foreign.read_bytes() == before
    assert not record_path(foreign).exists()
    folder = tmp_path / "artifacts/activations/calm"
    assert len(list(folder.glob("activations_*.pt"))) == 4


def test_the_last_line_of_an_idle_run_promises_what_overwrite_does(
    command: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("generate_vectors", *command)
    capsys.readouterr()
    call("generate_vectors", *command)
    promised = "--overwrite makes it again" in capsys.readouterr().out
    vector = tmp_path / "artifacts/vectors/calm/vec_layer_1_tiny-llama.pt"
    before = vector.stat().st_mtime_ns
    call("generate_vectors", *command, "--overwrite")
    assert (vector.stat().st_mtime_ns != before) == promised


def test_a_stopped_sweep_goes_on_and_makes_a_result_that_was_lost_in_between(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifacts"
    call("generate_vectors", *command)
    call("normalize_vectors", "--artifacts_dir", folder, "--datasets_dir", tmp_path / "datasets")
    sweep = [*command, "--multipliers", 1, "--batch_tokens", 60]
    call("prompting_with_steering", *sweep, "--layers", 1)
    probabilities = LetterGrid.probabilities
    done: list[object] = []

    def stopping(self: LetterGrid, batch: Any) -> Tensor:
        if done:
            raise KeyboardInterrupt
        done.append(batch)
        return probabilities(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LetterGrid, "probabilities", stopping)
        with pytest.raises(KeyboardInterrupt):
            call("prompting_with_steering", *sweep)
    name = "results_layer={}_multiplier=1.0_behavior=calm_type=ab_model=tiny-llama.json"
    first, second = (folder / "results/calm" / name.format(layer) for layer in (1, 2))
    before = first.read_bytes()
    first.unlink()
    assert call("prompting_with_steering", *sweep) == 0
    assert second.exists()
    assert first.exists(), "status 0 says that everything asked for is there"
    assert json.loads(first.read_bytes())[0].keys() == json.loads(before)[0].keys()


def test_the_same_command_makes_the_same_bytes(command: list[object], tmp_path: Path) -> None:
    call("generate_vectors", *command, "--save_activations")
    folder = tmp_path / "artifacts"
    first = contents(folder)
    assert len(first) == 12, "two vectors, four files of activations, and a record for each"
    shutil.rmtree(folder)
    call("generate_vectors", *command, "--save_activations")
    assert contents(folder) == first
