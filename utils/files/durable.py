"""Writing a file whole or not at all: beside its place, flushed, renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from utils.files.file_system import flush as flush
from utils.files.file_system import writing

Writer = Callable[[Path], None]


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all (temporary file, fsync, rename)."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_file(path, write)


def write_file(path: Path, write: Writer) -> None:
    """A file that ``write`` makes at the place it is given, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with writing(path), _beside(path) as temporary:
        write(temporary)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place for a file on its way to ``path``; what is left there in the end is deleted.

    Its name is short, so that whatever has a name that the file system takes can be written, and
    says which process of which machine made it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name, host = _short(path.name), _short(platform.node())[:8]
    _remove_abandoned(path.parent, f".{name}.{host}")
    temporary = path.with_name(f".{name}.{host}.{os.getpid()}.tmp")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _short(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _remove_abandoned(folder: Path, beginning: str) -> None:
    """Delete temporary files that a killed process of this machine left of an artefact."""
    for left in folder.glob(f"{beginning}.*.tmp"):
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
