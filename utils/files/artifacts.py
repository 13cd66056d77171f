"""Durable writing: an artefact exists only when it is whole, and says what made it.

Every artefact is written beside its place, flushed and renamed. Beside it lies a record
with the hash of its bytes and the inputs it was made from; the record is written *first*,
so that a kill between the two leaves an unfinished artefact, never one of unknown origin. One
lock is held for both, so that of two processes that write the same file one is last with both.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.contents import read_measured, read_record, sha256_bytes, sha256_file
from utils.files.durable import write_bytes, write_file
from utils.files.file_system import check_name
from utils.files.json_files import json_bytes
from utils.files.locks import folder_lock
from utils.files.paths import record_path
from utils.text.listing import cut

RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
_ABSENT = object()
_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{32,}(?![0-9a-f])")


class State(Enum):
    """What stands at an artefact's place, compared with what is about to be made."""

    ABSENT = "absent"
    FINISHED = "finished"
    CHANGED = "changed"
    FOREIGN = "foreign"
    DAMAGED = "damaged"


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Hash of a JSON-able mapping, independent of the order of its keys."""
    return sha256_bytes(json.dumps(inputs, sort_keys=True).encode())


def torch_bytes(value: Any) -> bytes:
    """A tensor (or a dictionary of plain values) as ``torch.save`` writes it.

    The same value always gives the same bytes. A view must be cloned before, or its whole
    storage is written.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def save(
    path: Path,
    data: bytes,
    inputs: Mapping[str, Any],
    measured: Mapping[str, Any] | None = None,
    vector_origin: Mapping[str, str] | None = None,
    beside: Mapping[Path, bytes] | None = None,
) -> None:
    """Write an artefact and, before it, the record of what made it.

    Args:
        path: the artefact's place.
        data: its bytes.
        inputs: what the bytes depend on; a later run with other inputs is refused.
        measured: what was found on the way and belongs to the artefact, but not to its bytes.
        vector_origin: the model that its vector was made with (:mod:`utils.vectors.origin`).
        beside: further files of the same artefact, in the same folder (a figure's numbers).
    """
    hashes = {place.name: sha256_bytes(more) for place, more in (beside or {}).items()} or None
    more = {"measured": measured, "vector_origin": vector_origin, "beside": hashes}
    with folder_lock(path.parent):
        write_bytes(record_path(path), _record(path, sha256_bytes(data), inputs, more))
        for place, content in (beside or {}).items():
            write_bytes(place, content)
        write_bytes(path, data)


def save_large(path: Path, value: Any, inputs: Mapping[str, Any]) -> None:
    """:func:`save` for what ``torch.save`` writes and memory should not hold twice."""
    import torch

    held = contextlib.ExitStack()

    def write(temporary: Path) -> None:
        try:
            # given a path, torch would write its name, and with it our process number, inside
            with temporary.open("wb") as file:
                torch.save(value, file)
        except RuntimeError as error:  # what torch makes of a full disk
            temporary.unlink(missing_ok=True)
            raise UserError(f"cannot write {path}: {str(error).splitlines()[0]}") from error
        digest = sha256_file(temporary)
        held.enter_context(folder_lock(path.parent))
        write_bytes(record_path(path), _record(path, digest, inputs))

    with held:
        write_file(path, write)


def _record(
    path: Path, digest: str, inputs: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> bytes:
    record: dict[str, Any] = {"artifact": path.name, "sha256": digest, "inputs": inputs}
    record |= {name: value for name, value in (more or {}).items() if value is not None}
    return json_bytes(record | {"command": command_line(), "versions": versions()})


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line in words for each input that differs between two records."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if _same_input(key, before, now):
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            inner = before.keys() | now.keys()
            lines += [
                _difference(f"{key}: {name}", before.get(name, _ABSENT), now.get(name, _ABSENT))
                for name in sorted(inner)
                if before.get(name, _ABSENT) != now.get(name, _ABSENT)
            ]
        else:
            lines.append(_difference(f"{key}:", before, now))
    return lines


def _difference(what: str, before: Any, now: Any) -> str:
    if before is _ABSENT:
        return f"{what} is new ({_short(now)})"
    if now is _ABSENT:
        return f"{what} is no longer there ({_short(before)})"
    return f"{what} {_short(before)} -> {_short(now)}"


def _short(value: Any) -> str:
    """A value as a message has room for it: hashes by their first digits."""
    return _HASH.sub(lambda match: match[0][:8], cut(str(value), 200))


def _same_input(key: str, old: Any, new: Any) -> bool:
    if key == "weights" and isinstance(new, str):
        return same_weights(old, new)
    return old is not _ABSENT and bool(old == new)


def state(path: Path, inputs: Mapping[str, Any]) -> tuple[State, list[str]]:
    """Compare what stands at ``path`` with ``inputs``; the list says what differs."""
    if not path.exists():
        return State.ABSENT, []
    record = read_record(path)
    if record is None:
        return State.FOREIGN, []
    if record["sha256"] != sha256_file(path):
        return State.DAMAGED, []
    changed = differences(record["inputs"], inputs)
    return (State.CHANGED, changed) if changed else (State.FINISHED, [])


def check_place(path: Path) -> None:
    """Check that an artefact, whose record's name is longer, can be written.

    Raises:
        UserError: its name is too long, something is in the way, or its folder is read-only.
    """
    check_name(record_path(path))
    if path.is_dir():
        raise UserError(f"{path} is in the way: it is a folder where a file must be")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{folder} is in the way: it is a file where a folder must be")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written to")


def must_make(
    path: Path, inputs: Mapping[str, Any], *, overwrite: bool, measures: Collection[str] = ()
) -> bool:
    """Whether to make an artefact: yes if absent or to be overwritten, no if it is finished.

    A file without a record came from elsewhere: it is kept, and said so. One whose record lacks
    any of ``measures`` was made by an earlier version, and is made again.

    Raises:
        UserError: it was made from other inputs, its bytes are not those recorded, its name is
            too long, or its folder cannot be written to.
    """
    check_place(path)
    found, changed = state(path, inputs)
    if found is State.ABSENT:
        return True
    if found is State.FINISHED:
        # also under --overwrite: the same inputs make the same bytes, and a run with
        # --overwrite that was killed goes on where it stood
        return not set(measures) <= read_measured(path).keys()
    if overwrite:
        return True
    if found is State.FOREIGN:
        print(f"kept (no record: it came from elsewhere; --overwrite replaces it): {path}")
        return False
    if found is State.DAMAGED:
        raise UserError(
            f"{path} is not the file that its record {record_path(path).name} describes "
            "(truncated or edited); delete it, or make it again with --overwrite"
        )
    raise UserError(
        f"{path} was made from other inputs:\n  " + "\n  ".join(changed) + "\n"
        "Use --overwrite to replace it, or --artifacts_dir to write elsewhere."
    )


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def same_weights(recorded: Any, now: str) -> bool:
    """Whether a record means these weights.

    An earlier record has only the first of the two hashes that a dot separates; it is held against
    that one, as before.
    """
    return bool(recorded == now or recorded == re.sub(r"\.[0-9a-f]+", "", now))
