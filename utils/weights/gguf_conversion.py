"""GGUF files as models of transformers, converted once and kept.

Parsing and dequantising takes transformers a minute and more at every start. The converted folder
holds the same weights, dequantised exactly to float32, and loads in seconds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from utils.errors import UserError, reason_of
from utils.files.cache import (
    cache_folder,
    file_hash,
    in_units,
    made_cache_folder,
    remembered_hash,
    say,
)
from utils.files.durable import flush
from utils.files.locks import waited_lock
from utils.weights.fetched import gguf_file
from utils.weights.gguf_header import GgufHeader, read_gguf_header
from utils.weights.gguf_loading import load_gguf, mend_tokenizer
from utils.weights.named import NamedModel

# The number grows when the same file would become another folder (2: rotary scaling of Llama 3.1).
_COMPLETE = "complete_2"


def named_folder(model: NamedModel) -> Path:
    """A folder with a named model in transformers' format, made on the first call.

    Raises:
        UserError: see :func:`utils.weights.fetched.gguf_file` and :func:`converted_folder`.
    """
    return find_folder(model.fingerprint) or _convert(
        gguf_file(model), model.label, model.fingerprint
    )


def converted_folder(path: Path) -> Path:
    """A folder with the model of a GGUF file in transformers' format, made on the first call.

    Raises:
        UserError: the file cannot be read or loaded, or the disk has no room for the copy.
    """
    made_cache_folder()
    fingerprint = file_hash(path)
    return find_folder(fingerprint) or _convert(path, path.stem, fingerprint)


def known_folder(path: Path) -> Path | None:
    """The converted folder of a GGUF file, where it can be told without reading the file."""
    fingerprint = remembered_hash(path)
    return None if fingerprint is None else find_folder(fingerprint)


def find_folder(fingerprint: str) -> Path | None:
    """The whole folder that was made of the weights with this fingerprint, if there is one."""
    found = sorted(cache_folder().glob(f"[!.]*-{fingerprint[:12]}/{_COMPLETE}"))
    return found[0].parent if found else None


def _convert(path: Path, label: str, fingerprint: str) -> Path:
    cache = made_cache_folder()
    folder = cache / f"{label}-{fingerprint[:12]}"
    with waited_lock(cache / f".{fingerprint[:12]}.lock", f"converting {label}"):
        found = find_folder(fingerprint)
        if found is not None:
            return found
        header = read_gguf_header(path)
        scratch = cache / f".converting-{fingerprint[:12]}"
        for left in (scratch, folder):
            shutil.rmtree(left, ignore_errors=True)
        size = header.float32_bytes
        _check_room(cache, size)
        say(
            f"converting {path.name} once into {folder} ({in_units(size)}; --no_model_cache does "
            "without and takes as long at every start)"
        )
        try:
            _write(path, header, scratch)
            for file in scratch.iterdir():
                # transformers lets nobody else read the weights; a cache may be a shared one
                shutil.copymode(scratch / _COMPLETE, file)
                flush(file)
            scratch.rename(folder)
        except OSError as error:
            raise UserError(f"cannot convert {path} into {folder}: {error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        flush(cache)
    return folder


def _check_room(cache: Path, size: int) -> None:
    free = shutil.disk_usage(cache).free
    if free < size:
        raise UserError(
            f"{cache} has {in_units(free)} left and the converted model takes {in_units(size)}: "
            "give --no_model_cache, or another folder in CAA_CACHE_DIR"
        )


def _write(path: Path, header: GgufHeader, target: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    from utils.blocks.library_output import library_output

    try:
        with library_output(bars=True):
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            mend_tokenizer(tokenizer, header)
            model = load_gguf(path, {"dtype": torch.float32})
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)
    except (UserError, OSError):
        raise
    except Exception as error:  # the readers of tensors raise whatever comes
        raise UserError(f"cannot load {path}: {reason_of(error)}") from error
    (target / _COMPLETE).touch()
