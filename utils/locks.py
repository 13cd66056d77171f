"""One process at a time at one unfinished piece of work."""

import contextlib
import fcntl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError


def lock(path: Path, work: str) -> BinaryIO:
    """Take a lock that the system frees when the file is closed or the process ends.

    Args:
        path: the lock's file; its folder is made.
        work: what is being done there, for the message.

    Raises:
        UserError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "wb")  # noqa: SIM115 (held until the caller closes it)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UserError(f"another process is at work on the same {work} ({path} is locked)") from (
            error
        )
    return file


@contextlib.contextmanager
def waited_lock(path: Path, work: str) -> Iterator[None]:
    """Hold a lock; while another process holds it, say so and wait.

    Args:
        path: the lock's file, in a folder that is there.
        work: what is being done there, for the message.

    Raises:
        UserError: the file cannot be made.
    """
    try:
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that is {work}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
