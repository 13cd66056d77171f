"""File systems as clusters have them, full disks, long names, and folders where a file must be."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_json
from journals import journal_in, journal_path, values_in
from running import ROOT, artifacts, call, environment, hidden

from utils.errors import UserError
from utils.files import file_system, locks
from utils.files.artifacts import must_make, save
from utils.files.contents import read_record
from utils.files.durable import write_bytes
from utils.files.paths import record_path

WITHOUT_LOCKS = [errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL]
WITHOUT_FOLDER_SYNC = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS]


def run(tiny_folder: Path, datasets: Path, out: Path, *more: object) -> None:
    """The three stages, small."""
    model = ("--model", tiny_folder, "--artifacts_dir", out, "--datasets_dir", datasets)
    call("generate_vectors", "--layers", 1, "--behaviors", "calm", "--save_activations", *model)
    call("normalize_vectors", "--artifacts_dir", out, "--datasets_dir", datasets)
    grid = ("--layers", 1, "--multipliers", 1, "--behaviors", "calm")
    call("prompting_with_steering", *grid, *model, *more)


@pytest.fixture
def nowhere_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_warned", set())


@pytest.mark.parametrize("number", WITHOUT_LOCKS)
def test_without_locks_all_works_after_one_warning(
    number: int,
    tiny_folder: Path,
    datasets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    nowhere_warned: None,
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    if number == WITHOUT_LOCKS[0]:
        run(tiny_folder, datasets, tmp_path / "out")
    else:
        with journal_in(tmp_path / "out") as journal:
            journal.append([0], [[1]])
            journal.remove()
        save(tmp_path / "out" / "a", b"a", {})
    assert not hidden(tmp_path / "out")
    said = capsys.readouterr().err
    assert said.count("has no file locks") == 1
    assert "start no second process that writes to the same folder" in said


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_lock_that_fails_is_not_taken_for_another_process(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=os.strerror(number)):
        locks.lock(tmp_path / "lock", "at work")


@pytest.mark.parametrize("number", WITHOUT_FOLDER_SYNC)
def test_folders_that_cannot_be_brought_to_disk_are_no_fault(
    number: int,
    tiny_folder: Path,
    datasets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(file_system.os, "fsync", fsync)
    if number == WITHOUT_FOLDER_SYNC[0]:
        run(tiny_folder, datasets, tmp_path)
    save(tmp_path / "a", b"a", {})
    assert read_record(tmp_path / "a") is not None


def test_a_folder_that_fails_to_reach_the_disk_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(file_system.os, "fsync", fsync)
    with pytest.raises(UserError, match=r"cannot write .*Input/output error"):
        write_bytes(tmp_path / "a", b"a")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("letter", ["a", "é", "漢"])
def test_the_longest_name_is_that_of_the_record(tmp_path: Path, letter: str) -> None:
    """What can be written is written; what cannot is said when it is planned."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") - len(".") - len(".record")
    name = letter * (longest // len(letter.encode()))
    name += "b" * (longest - len(name.encode()))
    fits = tmp_path / "made" / name
    assert must_make(fits, {}, overwrite=False)
    save(fits, b"1", {})
    assert fits.read_bytes() == b"1" and record_path(fits).exists()
    with pytest.raises(UserError, match=r"b\.record is 1 bytes too long"):
        must_make(fits.with_name(f"{name}b"), {}, overwrite=False)


def test_a_model_with_a_long_name_is_refused_before_it_is_loaded(
    tiny_folder: Path, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("final-" + "y" * 225)
    shutil.copytree(tiny_folder, folder)

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the model must not be loaded")

    monkeypatch.setattr("llama_wrapper.LlamaWrapper.load", refuse)
    flags = ("--artifacts_dir", tmp_path / "out", "--datasets_dir", datasets, "--model", folder)
    grid = ("--layers", 1, "--behaviors", "calm")
    for script, more in (
        ("generate_vectors", (*grid, "--save_activations")),
        ("prompting_with_steering", (*grid, "--multipliers", 0)),
        ("finetune_llama", ("--behavior", "calm", "--direction", "pos")),
    ):
        with pytest.raises(UserError, match="bytes too long"):
            call(script, *more, *flags)


# ---------------------------------------------------------------- in the way, and full


def test_a_folder_where_a_file_must_be_is_said(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_folder, datasets, out)
    for name in artifacts(out):
        path = out / name
        kept = path.read_bytes()
        path.unlink()
        path.mkdir()
        with pytest.raises(UserError, match=r"in the way|cannot read|missing"):
            run(tiny_folder, datasets, out)
        path.rmdir()
        path.write_bytes(kept)
    run(tiny_folder, datasets, out)


LIMITED = """
import resource, runpy, signal, sys
import {heavy}
script, limit = sys.argv[1], int(sys.argv[2])
sys.argv = sys.argv[1:2] + sys.argv[3:]
import llama_wrapper
load = llama_wrapper.LlamaWrapper.load
def limited(*args, **kwargs):
    wrapper = load(*args, **kwargs)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return wrapper
llama_wrapper.LlamaWrapper.load = limited
runpy.run_path(script, run_name="__main__")
"""


def on_a_full_disk(limit: int, script: str, *arguments: object) -> tuple[int, str]:
    """Run a script whose files may have so many bytes from when the model is loaded."""
    program = LIMITED.format(heavy="torch")
    command = [sys.executable, "-c", program, str(ROOT / f"{script}.py"), str(limit)]
    found = subprocess.run(
        [*command, *map(str, arguments)],
        env=environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return found.returncode, found.stderr


def test_a_disk_that_is_full_while_work_is_kept_costs_nothing_but_the_rest(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    """The journal of a sweep and the sums of vectors: one line, status 2, and a rerun goes on."""
    out = tmp_path / "out"
    run(tiny_folder, datasets, out, "--batch_tokens", 1)
    whole = artifacts(out)
    flags = ("--artifacts_dir", out, "--datasets_dir", datasets, "--model", tiny_folder)
    grid = ("--layers", 1, "--behaviors", "calm")
    sweep = ("prompting_with_steering", *grid, "--multipliers", 1, "--batch_tokens", 1, *flags)
    vectors = ("generate_vectors", *grid, "--save_activations", *flags)
    for command, kind, limit in ((sweep, "results", 300), (vectors, "vectors", 300)):
        for path in (out / kind).rglob("*"):
            if path.is_file():
                path.unlink()
        status, errors = on_a_full_disk(limit, *command)
        assert status == 2, errors
        assert "Traceback" not in errors and "cannot write" in errors and "too large" in errors
        assert call(*command) == 0
        assert artifacts(out) == whole
        assert not hidden(out)


def test_a_journal_goes_on_after_a_write_that_was_refused(tmp_path: Path) -> None:
    """What was refused is not in the file, in whole or in part."""
    program = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from journals import journal_in\n"
        "from utils.errors import UserError\n"
        "with journal_in(Path(sys.argv[1])) as journal:\n"
        "    journal.append([0], [['short']])\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "    try: journal.append([1], [['long' * 100]])\n"
        "    except UserError as error: print(error)\n"
        "    journal.append([2], [['after']])\n"
    )
    path = journal_path(tmp_path)
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout == f"cannot write {path}: File too large\n"
    assert values_in(path) == {0: "short", 2: "after"}


def test_data_in_the_place_of_a_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "results", [])
    with pytest.raises(UserError, match="is a file where a folder must be"):
        must_make(tmp_path / "results" / "a" / "b.json", {}, overwrite=False)
    with pytest.raises(UserError, match="cannot write"), journal_in(tmp_path):
        pass
