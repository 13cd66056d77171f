"""Two real processes at one file: never the record of one with the bytes of the other."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from journals import journal_in, journal_path
from running import ROOT

from utils.errors import UserError
from utils.files.artifacts import save, save_large
from utils.files.contents import read_record, sha256_file
from utils.files.file_system import append
from utils.files.locks import folder_lock, lock, waited_lock

ROUNDS = 40
FORK = multiprocessing.get_context("fork")


def write_often(path: Path, me: int, barrier: Barrier, large: bool) -> None:
    torch.set_num_threads(1)
    for turn in range(ROUNDS):
        barrier.wait()
        if large:
            save_large(path, {"weights": torch.full((10,), float(me))}, {"writer": me})
        else:
            save(path, f"{me} {turn}".encode() * 100, {"writer": me})
        barrier.wait()
        barrier.wait()  # the one who looks has looked


@pytest.mark.parametrize("large", [False, True])
def test_a_file_and_its_record_are_of_one_writer(tmp_path: Path, large: bool) -> None:
    path, barrier = tmp_path / "artefact.pt", FORK.Barrier(3)
    writers = [
        FORK.Process(target=write_often, args=(path, me, barrier, large), daemon=True)
        for me in range(2)
    ]
    for writer in writers:
        writer.start()
    mixed = 0
    for _ in range(ROUNDS):
        barrier.wait(60)
        barrier.wait(60)
        record = read_record(path)
        assert record is not None
        mixed += record["sha256"] != sha256_file(path)
        barrier.wait(60)
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert mixed == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [".artefact.pt.record", "artefact.pt"]


def holder(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has said that it holds something, and holds it until its input ends."""
    program = f"import sys; from pathlib import Path\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_lock_on_a_deleted_file_is_none(tmp_path: Path) -> None:
    """One waits while the holder finishes and deletes the file; what it then has must be new."""
    path = tmp_path / "lock"
    code = (
        "from utils.files.locks import lock\nfile = lock(Path(sys.argv[1]), 'at work')\n"
        "print('held', flush=True); sys.stdin.read()\n"
        "Path(sys.argv[1]).unlink(); file.close()"
    )
    waiting = (
        "from utils.files.locks import waited_lock\n"
        "with waited_lock(Path(sys.argv[1]), 'at work'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    first = holder(code, path)
    second = subprocess.Popen(
        [sys.executable, "-c", f"import sys; from pathlib import Path\n{waiting}", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert second.stderr is not None and "waiting for another" in second.stderr.readline()
    first.communicate()
    assert second.stdout is not None and second.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"another process is judging \\({path} is locked\\)"):
        lock(path, "judging")
    second.communicate()
    lock(path, "judging").close()


@pytest.mark.parametrize("kind", ["journal", "lock"])
def test_a_file_deleted_between_opening_and_locking_is_opened_anew(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment that cannot be waited for: the other process finishes right before the lock."""
    import fcntl

    path = journal_path(tmp_path)
    locks: list[int] = []
    real = fcntl.flock

    def flock(file: object, operation: int) -> None:
        if not locks:
            path.unlink()
        locks.append(operation)
        real(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock)
    if kind == "journal":
        with journal_in(tmp_path) as journal:
            journal.append([0], [[1]])
            assert path.read_bytes().count(b"\n") == 2, "what is written is at the path"
    else:
        with lock(path, "at work") as held:
            assert os.path.samestat(os.fstat(held.fileno()), path.stat())
    assert len(locks) == 2


def test_a_process_killed_inside_leaves_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from utils.files.locks import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    process = holder(code, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    process.kill()
    process.communicate()
    flock, flags = fcntl.flock, []

    def noted(file: int, operation: int) -> None:
        flags.append(operation)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", noted)
    with folder_lock(tmp_path):
        assert flags == [fcntl.LOCK_EX | fcntl.LOCK_NB], "it is not waited for"
    assert not list(tmp_path.iterdir())


def test_waiting_is_said_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with waited_lock(tmp_path / "lock", "fetching"):
        pass
    assert capsys.readouterr().err == ""


def test_a_record_holds_what_json_reads_back(tmp_path: Path) -> None:
    save(tmp_path / "a.json", b"{}", {"weights": "ab"}, vector_origin={"weights": "ab"})
    record = json.loads((tmp_path / ".a.json.record").read_bytes())
    assert record["vector_origin"] == {"weights": "ab"} and "measured" not in record


def test_append_adds_all_or_nothing(tmp_path: Path) -> None:
    with open(tmp_path / "raw", "a+b", buffering=0) as file:
        append(file, b"abc")
        append(file, b"de")
    assert (tmp_path / "raw").read_bytes() == b"abcde"
