"""Reading ``.env``: the one place for it, whatever a text editor made of the file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.errors import UserError


def read_env(folder: Path) -> dict[str, str]:
    """The variables that ``.env`` in a folder sets; empty ones and a missing file are none.

    Raises:
        UserError: it cannot be read, or is no UTF-8 text (with or without a byte order mark).
    """
    from dotenv import dotenv_values

    path = folder / ".env"
    if path.is_dir():  # some keep a virtual environment under this name
        return {}
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        kind = " but UTF-16 or the like" if b"\0" in data else ""
        raise UserError(f"{path} is no UTF-8 text{kind}; save it as UTF-8, a line NAME=value each")
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value}


def read_env_files(folders: Iterable[Path]) -> Iterator[dict[str, str]]:
    """:func:`read_env` of each folder, the same file once."""
    return (read_env(folder) for folder in dict.fromkeys(f.resolve() for f in folders))
