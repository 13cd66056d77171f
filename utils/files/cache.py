"""The cache of models: where it is, hashes of large files, and one process at a time in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from tqdm import tqdm

from utils.errors import UserError
from utils.files.durable import write_bytes
from utils.files.json_files import NOT_JSON

_CHUNK = 1 << 22
_LONG = 1 << 30


def cache_folder() -> Path:
    """``$CAA_CACHE_DIR``, or ``caa-toolkit`` under the user's cache folder."""
    return Path(os.environ.get("CAA_CACHE_DIR") or user_cache_path("caa-toolkit", appauthor=False))


def made_cache_folder() -> Path:
    """The cache folder, which is there afterwards.

    Raises:
        UserError: it cannot be made.
    """
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache} cannot be made: {error.strerror} (CAA_CACHE_DIR names "
            "another)"
        ) from error
    return cache


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def in_units(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def file_hash(path: Path) -> str:
    """SHA-256 of a file, computed once for as long as the file stays what it is.

    Raises:
        UserError: it cannot be read.
    """
    known = remembered_hash(path)
    if known is not None:
        return known
    try:
        identity = _identity(path)
        found = hash_of(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    # where there is no room for it, it is computed again at the next start
    with contextlib.suppress(UserError):
        record = json.dumps(identity | {"sha256": found}, indent=2)
        write_bytes(_note(path), f"{record}\n".encode())
    return found


def remembered_hash(path: Path) -> str | None:
    """SHA-256 of a file if it was computed before and the file is the same one still.

    The same means: path, size, time of the last change and inode. The time at which the system
    saw a change counts too, since tools that copy or restore can set the other.
    """
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        found = note.pop("sha256")
        return str(found) if note == _identity(path) else None
    except (OSError, *NOT_JSON, KeyError, TypeError, AttributeError):
        return None


def hash_of(path: Path) -> str:
    """SHA-256 of a file, computed anew; a bar is drawn where that takes seconds."""
    digest, size = hashlib.sha256(), path.stat().st_size
    bar = tqdm(
        total=size, unit="B", unit_scale=True, desc=f"reading {path.name}", disable=size < _LONG
    )
    with path.open("rb") as file, bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _note(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return cache_folder() / "hashes" / f"{name[:24]}.json"


def _identity(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {
        "path": str(path.resolve()),
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
    }
