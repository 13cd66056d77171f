"""What can be told of a model's files before anything is loaded from them.

What the libraries say of a broken file does not name it, and comes after minutes of loading.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from utils.errors import UserError, reason_of

_POINTER = b"version https://git-lfs"
_POINTER_SIZE = 1024  # a pointer of git lfs is three lines
_SINGLE = ("model.safetensors", "pytorch_model.bin")
ADAPTER_CONFIG = "adapter_config.json"


def check_model_folder(folder: Path) -> None:
    """Check the files that transformers would read of a local folder.

    Raises:
        UserError: names the first that is no whole file, or the shards that are not there; or
            the folder holds an adapter too, which transformers would put on top unasked.
    """
    if (folder / ADAPTER_CONFIG).is_file() and (folder / "config.json").is_file():
        raise UserError(
            f"{folder} holds a model and an adapter in one: move the adapter_* files into a folder "
            "of their own, and give that by --override_model_weights_path"
        )
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        _refuse_pointer(path)
    for path in _weight_files(folder):
        check_weight_file(path)


def check_weight_file(path: Path) -> None:
    """Check that a file of weights is whole, as far as its own table of contents tells.

    Raises:
        UserError: it is not, or cannot be read.
    """
    try:
        _refuse_pointer(path)
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="np"):
                return
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
        if path.stat().st_size == 0 or (archive and not zipfile.is_zipfile(path)):
            raise ValueError("its end is missing")
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} is no whole file of weights ({reason_of(error)}): get it again"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    """The files in the order in which transformers looks for them."""
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [index.parent / name for name in names]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index} is no readable list of shards: {reason_of(error)}") from error
    lost = [path.name for path in shards if not path.is_file()]
    if lost:
        raise UserError(
            f"{index} names {len(shards)} files, of which {len(lost)} are not there: "
            f"{', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
        )
    return shards


def _refuse_pointer(path: Path) -> None:
    try:
        if path.stat().st_size > _POINTER_SIZE:
            return
        with path.open("rb") as file:
            found = file.read(len(_POINTER)) == _POINTER
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if found:
        raise UserError(
            f"{path} is a pointer of git lfs, not the file itself: run `git lfs pull` in "
            f"{path.parent}, or get the file again"
        )
