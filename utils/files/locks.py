"""One process at a time at one unfinished piece of work.

A lock is a file that is locked, not one that is there: the system frees it when the process ends.
A file may be deleted between being opened and being locked, by the process that has just finished
the work. Then the lock is on nothing, and the next process would make a file of its own and lock
that; so a lock counts only if its file is still the one at its path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

from utils.errors import UserError
from utils.files.file_system import UNSUPPORTED, writing

_HELD = (errno.EAGAIN, errno.EACCES)
_warned: set[int] = set()


def lock(path: Path, work: str) -> FileIO:
    """Take a lock that the system frees when the file is closed or the process ends.

    Args:
        path: the lock's file; its folder is made.
        work: what is being done there, for the message: "at work on the same sweep".

    Returns:
        The file, for reading and appending, without a buffer.

    Raises:
        UserError: another process holds it, or the file cannot be made or locked.
    """

    def refuse(_file: FileIO) -> None:
        raise UserError(f"another process is {work} ({path} is locked)")

    return _take(path, refuse)


@contextlib.contextmanager
def waited_lock(path: Path, work: str) -> Iterator[None]:
    """Hold a lock; while another process holds it, say so and wait.

    Args:
        path: the lock's file.
        work: what is being done there, for the message.

    Raises:
        UserError: the file cannot be made or locked.
    """

    def wait(file: FileIO) -> None:
        print(f"waiting for another process that is {work}", file=sys.stderr, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)

    with _take(path, wait):
        yield


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for as long as a file and its record take; the lock is gone afterwards.

    Raises:
        UserError: the file cannot be made or locked.
    """
    path = folder / ".lock"
    with _take(path, lambda file: fcntl.flock(file, fcntl.LOCK_EX)):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(path: Path, held: Callable[[FileIO], None]) -> FileIO:
    """A locked file; ``held`` is called with it where another process has the lock."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = open(path, "a+b", buffering=0)  # noqa: SIM115 (the caller closes it)
            try:
                if not _locked_at_once(file, path):
                    held(file)
                if _is_at(file, path):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()


def _locked_at_once(file: FileIO, path: Path) -> bool:
    """Whether the lock was free; so it is where there are no locks, after a warning."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in UNSUPPORTED:
            raise
        _warn(path, error)
    return True


def _warn(path: Path, error: OSError) -> None:
    """Once for each file system."""
    device = path.parent.stat().st_dev
    if device not in _warned:
        _warned.add(device)
        print(
            f"warning: the file system of {path.parent} has no file locks ({error.strerror}): "
            "start no second process that writes to the same folder, nothing would keep the two "
            "apart",
            file=sys.stderr,
            flush=True,
        )


def _is_at(file: FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
