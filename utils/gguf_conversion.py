"""GGUF files as models of transformers: loaded directly, or converted once and kept.

Parsing and dequantising takes transformers a minute and more at every start. The converted folder
holds the same weights, dequantised exactly to float32, and loads in seconds.
"""

import shutil
from pathlib import Path
from typing import Any

from utils.durable import flush
from utils.errors import UserError
from utils.gguf_header import GgufHeader, read_gguf_header
from utils.locks import waited_lock
from utils.model_cache import (
    cache_folder,
    file_hash,
    in_units,
    made_cache_folder,
    remembered_hash,
    say,
)
from utils.model_files import gguf_file
from utils.named_models import NamedModel

_COMPLETE = "complete"
_QWEN_ENDS = ("<|im_end|>", "<|endoftext|>")


def named_folder(model: NamedModel) -> Path:
    """A folder with a named model in transformers' format, made on the first call.

    Raises:
        UserError: see :func:`utils.model_files.gguf_file` and :func:`converted_folder`.
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
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    options = direct_options(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, **options
        )
        mend_tokenizer(tokenizer, header)
        mend_ends(model.generation_config, header)
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    except (ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load {path}: {str(error)[:400]}") from error
    finally:
        if not shown:
            logging.disable_progress_bar()
    (target / _COMPLETE).touch()


def direct_options(path: Path) -> dict[str, Any]:
    """What makes transformers load the weights of a GGUF file and dequantise them."""
    from transformers import GgufConfig

    return {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True)}


def mend_tokenizer(tokenizer: Any, header: GgufHeader) -> None:
    """Put right what transformers' reading of a GGUF tokenizer leaves out.

    Qwen's tokenizer composes accents (NFC) before it splits; GGUF has no place for that, so text
    with decomposed characters would become other tokens than the model was trained on.
    """
    if header.metadata.get("tokenizer.ggml.pre") == "qwen2":
        from tokenizers import normalizers

        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()


def mend_ends(generation_config: Any, header: GgufHeader) -> None:
    """Put right what transformers' reading of GGUF metadata leaves out.

    GGUF names one end token. Qwen's generation settings name two: an answer ends with
    ``<|im_end|>`` or with ``<|endoftext|>``.
    """
    if header.metadata.get("tokenizer.ggml.pre") == "qwen2":
        ends = [header.control_tokens[t] for t in _QWEN_ENDS if t in header.control_tokens]
        generation_config.eos_token_id = ends or generation_config.eos_token_id
