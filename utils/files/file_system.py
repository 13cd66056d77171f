"""What a file system can do: checked before work, and what some leave out told from failures."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from utils.errors import UserError

# Lustre without -o flock, NFS without a lock server, CIFS, FUSE and 9p each have their own.
UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.ENOTTY}
)


def sync(descriptor: int) -> None:
    """Bring a file or a folder to disk, where its file system can be asked to.

    Raises:
        OSError: it was asked to, and failed.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def flush(path: Path) -> None:
    """:func:`sync` by path."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses inside the block is said of ``path``.

    Raises:
        UserError: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error, path)}") from error


def _reason(error: OSError, path: Path) -> str:
    if error.errno != errno.ENAMETOOLONG:
        return str(error.strerror or error)
    return f"{error.strerror} ({len(os.fsencode(path.name))} bytes)"


def append(file: FileIO, data: bytes) -> None:
    """Add all of ``data`` to a file without a buffer, or nothing.

    A buffer would try again to write what a full disk refused, when the file is closed.

    Raises:
        OSError: no room, or the like; the file is as long as before.
    """
    before = file.seek(0, os.SEEK_END)
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(before)
        raise


def check_name(path: Path) -> Path:
    """Check that a file can have its name, before anything is made that is to go into it.

    Returns:
        ``path``.

    Raises:
        UserError: it is longer than the file system takes; says which and by how much.
    """
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    longest = os.pathconf(folder, "PC_NAME_MAX")
    excess = len(os.fsencode(path.name)) - longest
    if excess > 0:
        raise UserError(
            f"the file name {path.name} is {excess} bytes too long: the file system of {folder} "
            f"takes {longest} bytes\nShorten the name of the model, the behaviour or the weights "
            "that it is made of (a model folder can be given by a link with a short name)"
        )
    return path


def check_root(folder: Path, purpose: str) -> Path:
    """Check that a root folder can be listed and written to before any work is done.

    Raises:
        UserError: the folder exists but is no folder, or cannot be made, read or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        next(folder.iterdir(), None)
        probe = folder / f".write_test_{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{purpose} {folder} cannot be used: {error.strerror}") from error
    return folder
