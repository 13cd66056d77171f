"""Reading a file once: what is parsed is what was hashed and held against its record.

A file that is read, and read again to be hashed, may be two files: another process may have
replaced it in between. So its bytes are read once, and both are made from them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from utils.errors import UserError
from utils.files.json_files import NOT_JSON, parse_json
from utils.files.paths import record_path

if TYPE_CHECKING:
    import torch


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def combined_digest(paths: Iterable[Path]) -> str:
    """One short hash of several files, of which some may be missing (16 hexadecimal digits)."""
    total = hashlib.sha256()
    for path in paths:
        total.update(sha256_file(path).encode() if path.exists() else b"-")
    return total.hexdigest()[:16]


class Contents(NamedTuple):
    """The bytes of a file, where it lies, and their SHA-256."""

    path: Path
    data: bytes
    sha256: str


def read_contents(path: Path) -> Contents:
    """A file as it is now.

    Raises:
        UserError: missing, or it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"missing file {path}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return Contents(path, data, sha256_bytes(data))


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of an artefact; ``None`` if it has none (it came from elsewhere).

    Raises:
        UserError: the record is there but cannot be read as one.
    """
    record = record_path(path)
    try:
        content = json.loads(record.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, *NOT_JSON) as error:
        raise UserError(f"{record} is not a readable record ({error}); delete it") from error
    whole = isinstance(content, dict) and {"sha256", "inputs"} <= content.keys()
    if not (whole and isinstance(content["sha256"], str) and isinstance(content["inputs"], dict)):
        raise UserError(f"{record} is not a readable record (fields missing); delete it")
    if not isinstance(content.get("measured", {}), dict):
        raise UserError(f"{record} is not a readable record (measured: no fields); delete it")
    return content


def read_measured(path: Path) -> dict[str, Any]:
    """What was measured while an artefact was made; empty if it has no record of it.

    Raises:
        UserError: the record is there but cannot be read as one.
    """
    record = read_record(path)
    return {} if record is None else dict(record.get("measured", {}))


def read_verified(path: Path) -> Contents:
    """A file that is the one its record describes, if it has a record.

    Raises:
        UserError: missing, it cannot be read, or its bytes are not those recorded.
    """
    contents = read_contents(path)
    _hold_against_record(path, contents.sha256)
    return contents


def verify(path: Path) -> None:
    """Check a recorded artefact's bytes, where they are too many to be kept.

    Raises:
        UserError: the bytes are not those recorded.
    """
    if read_record(path) is not None:
        _hold_against_record(path, sha256_file(path))


def _hold_against_record(path: Path, sha256: str) -> None:
    record = read_record(path)
    if record is not None and record["sha256"] != sha256:
        raise UserError(
            f"{path} is not the file that its record describes (truncated or edited); "
            "delete it and make it again"
        )


def load_torch(source: Path | Contents) -> Any:
    """What ``torch.save`` wrote, plain tensors and numbers only (``weights_only``).

    Raises:
        UserError: missing, truncated, garbage, or a pickled object.
    """
    import torch

    contents = source if isinstance(source, Contents) else read_contents(source)
    try:
        return torch.load(io.BytesIO(contents.data), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{contents.path} is damaged or no plain tensor file: {reason}") from error


def parse_vector(contents: Contents, *, width: int | None = None) -> torch.Tensor:
    """The 1-D vector in the bytes of a file, float32.

    Raises:
        UserError: truncated, a pickled object, not 1-D, not finite, or of another width.
    """
    import torch

    path, tensor = contents.path, load_torch(contents)
    plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
    if not plain or tensor.is_meta or tensor.ndim != 1 or not tensor.is_floating_point():
        raise UserError(f"{path} does not hold one 1-D floating-point tensor")
    tensor = tensor.float()
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"{path} holds NaN or infinite values")
    check_width(path, tensor.shape[0], width)
    return tensor


def check_width(path: Path, found: int, width: int | None) -> None:
    """Check that a vector is as wide as a model's residual stream, where that is known.

    Raises:
        UserError: it is not.
    """
    if width is not None and found != width:
        raise UserError(
            f"{path} has width {found}, the model's residual stream has {width}: "
            "it belongs to another model"
        )


def read_json(source: Path | Contents) -> Any:
    """Read a JSON file (UTF-8, with or without a byte order mark).

    Raises:
        UserError: missing, unreadable or not JSON, with the place of the fault.
    """
    contents = source if isinstance(source, Contents) else read_contents(source)
    return parse_json(contents.data, contents.path)
