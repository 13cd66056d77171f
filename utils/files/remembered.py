"""What was found out once and would be found again: small notes in the cache folder.

A note is for work whose result depends on nothing but its key, and whose repetition takes seconds
at every start. The key must hold all that the result depends on; the code of this project and
the versions of the packages are added here. A note that is damaged, or of another key, is no note;
where none can be written the work is done again at the next start.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.files.cache import cache_folder
from utils.files.json_files import NOT_JSON
from utils.files.paths import REPOSITORY

# The number grows when notes are written in another way.
_VERSION = 1
_PACKAGES = ("torch", "transformers", "tokenizers", "jinja2", "numpy")


def recall(kind: str, key: Mapping[str, Any]) -> Any | None:
    """What was kept under a key; ``None`` if nothing was, or it is not whole."""
    whole = _whole_key(kind, key)
    try:
        note = json.loads(_place(kind, whole).read_bytes())
        if note["key"] == whole and note["sha256"] == _digest([whole, note["value"]]):
            return note["value"]
    except (OSError, *NOT_JSON, KeyError, TypeError):
        pass
    return None


def keep(kind: str, key: Mapping[str, Any], value: Any) -> None:
    """Keep a JSON-able value under a key that :func:`recall` will be given."""
    whole = _whole_key(kind, key)
    path = _place(kind, whole)
    note = {"key": whole, "value": value, "sha256": _digest([whole, value])}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # not flushed: a note that a crash of the machine damages is passed over
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(note), encoding="utf-8")
        temporary.replace(path)


def _whole_key(kind: str, key: Mapping[str, Any]) -> Any:
    found = {"note": _VERSION, "kind": kind, "code": code_version(), "versions": _versions()}
    # as JSON gives it back: lists for tuples
    return json.loads(json.dumps(found | {"of": dict(key)}))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _place(kind: str, whole: Any) -> Path:
    return cache_folder() / "notes" / kind / f"{_digest(whole)[:24]}.json"


@functools.cache
def code_version() -> str:
    """Hash of the modules that compute: a note never outlives the code that it was made by."""
    digest = hashlib.sha256()
    for path in [REPOSITORY / "llama_wrapper.py", *sorted((REPOSITORY / "utils").rglob("*.py"))]:
        digest.update(path.relative_to(REPOSITORY).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
