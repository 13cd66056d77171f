"""One process at a time at one unfinished piece of work."""

import fcntl
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
