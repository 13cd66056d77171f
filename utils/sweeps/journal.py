"""An append-only journal of finished work, so that a killed run goes on where it stood.

One JSON line a unit of work, each with a checksum. The first line is a header. A line that
was cut off by a kill is dropped and computed again; any other damage is an error, because a
journal is data that will end up in a result.
"""

from __future__ import annotations

import json
import zlib
from io import FileIO
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.file_system import append, sync, writing
from utils.files.json_files import NOT_JSON
from utils.files.locks import lock


def damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged {what}; delete it to start the sweep again")


def _encode(value: Any) -> bytes:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _decode(line: bytes) -> Any:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if f"{zlib.crc32(text):08x}".encode() != checksum:
        raise ValueError("checksum")
    return json.loads(text)


def _values(data: bytes, path: Path) -> tuple[list[Any], int]:
    """The whole lines of a journal, and how many bytes they are."""
    lines = data.splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(_decode(line))
        except NOT_JSON as error:
            raise damaged(path, f"at line {number}") from error
    return values, sum(map(len, lines))


def read_journal(path: Path) -> tuple[Any, list[Any]]:
    """Header and entries of a journal that nobody writes to; ``None`` and none if it is empty.

    Raises:
        UserError: it is damaged, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    values, _ = _values(data, path)
    return (values[0], values[1:]) if values else (None, [])


class Journal:
    """A locked journal file, used as a context manager.

    Attributes:
        header: the header of the file, the old one if it existed before.
        entries: the units already finished, in the order of writing.

    Raises:
        UserError: on entry, if another process holds the file or it is damaged.
    """

    def __init__(self, path: Path, header: Any) -> None:
        self.path = path
        self.header = header
        self.entries: list[Any] = []
        self._file: FileIO | None = None

    def __enter__(self) -> Journal:
        self._file = lock(self.path, "at work on the same sweep")
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def _load(self) -> None:
        assert self._file is not None
        with writing(self.path):
            self._file.seek(0)
            values, length = _values(self._file.readall(), self.path)
            self._file.truncate(length)
        if values:
            self.header, self.entries = values[0], values[1:]
        else:
            self._write(self.header)

    def restart(self, header: Any) -> None:
        """Begin anew under another header."""
        assert self._file is not None
        self._file.truncate(0)
        self.header, self.entries = header, []
        self._write(header)

    def _write(self, value: Any) -> None:
        assert self._file is not None
        with writing(self.path):
            append(self._file, _encode(value))
            sync(self._file.fileno())

    def append(self, entry: Any) -> None:
        """Add one finished unit; it is on disk when this returns.

        Raises:
            UserError: it cannot be written; those before it are kept.
        """
        self._write(entry)
        self.entries.append(entry)

    def remove(self) -> None:
        """Delete the file: everything in it now stands in finished artefacts."""
        self.path.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
