"""What a record says of how an artefact came about: the command and the versions."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import sys
from pathlib import Path
from typing import Any

RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


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
