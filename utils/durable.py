"""Writing a file whole or not at all: beside its place, flushed, renamed."""

import contextlib
import glob
import os
from collections.abc import Callable
from pathlib import Path

from utils.errors import UserError


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all (temporary file, fsync, rename)."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_file(path, write)


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """A file that ``write`` makes at the place it is given, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        write(temporary)
        flush(temporary)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    flush(path.parent)


def flush(path: Path) -> None:
    """Bring a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Delete temporary files that a killed process left beside an artefact."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = left.name.split(".")[-2]
        if writer.isdigit() and int(writer) != os.getpid() and not _is_alive(int(writer)):
            left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
