"""Which weights: what tells one set of weights from another in a record.

A record's ``weights`` is the checksum of a named model or a GGUF file, the commit of a hub model,
or for a folder two hashes with a dot between: one over the names, sizes, beginnings and ends of
its files, which is all that earlier records have, and one over all bytes. Finetuned weights or an
adapter come behind a ``+`` in the same two hashes. A file is read whole once for as long as it
stays what it is (:func:`utils.files.cache.file_hash`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from utils.errors import UserError
from utils.files.artifacts import same_weights
from utils.files.cache import file_hash, hash_of
from utils.files.contents import read_record
from utils.models.choice import ModelChoice, hub_snapshot
from utils.weights.gguf_conversion import find_folder, known_folder

_SUFFIXES = (".safetensors", ".bin", ".json")
# what else a tokenizer is made from, where it has no .json
_VOCABULARY_SUFFIXES, _VOCABULARY = (".model", ".tiktoken"), ("merges.txt", "vocab.txt")
# what no tokenizer is made from, and where transformers looks for templates beside the default one
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
_MORE_TEMPLATES = "additional_chat_templates"
_SAMPLE = 1 << 20


def weights_fingerprint(choice: ModelChoice) -> str:
    """What tells one set of weights from another in a record.

    Raises:
        UserError: a file cannot be read, or finetuned weights are not those that their record
            describes, or were trained from another model.
    """
    own = base_fingerprint(choice)
    if choice.weights is None:
        return own
    folder = choice.weights if choice.weights.is_dir() else None
    files = sorted(folder.glob("adapter_*")) if folder else [choice.weights]
    _check_finetuned(choice.weights, files, own)
    return f"{own}+{_hash_of_files(files)}"


def base_fingerprint(choice: ModelChoice) -> str:
    """The same without finetuned weights."""
    if choice.named is not None:
        return choice.named.fingerprint[:16]
    if choice.is_gguf:
        return file_hash(Path(choice.source))[:16]
    folder = Path(choice.source)
    if not folder.is_dir():
        return hub_snapshot(choice).name[:16]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    weights = [path for path in files if path.suffix in _SUFFIXES]
    vocabulary = [
        path for path in files if path.suffix in _VOCABULARY_SUFFIXES or path.name in _VOCABULARY
    ]
    return _hash_of_files(weights, vocabulary)


def tokenizer_fingerprint(choice: ModelChoice) -> str | None:
    """Hash of all that a model's tokenizer, chat template and generation settings come from.

    Returns:
        ``None`` where their files are not at hand yet.

    Raises:
        UserError: a file cannot be read.
    """
    if choice.named is not None or choice.is_gguf:
        if not choice.keep_converted:
            return base_fingerprint(choice)
        folder = (
            known_folder(Path(choice.source))
            if choice.named is None
            else find_folder(choice.named.fingerprint)
        )
    else:
        folder = Path(choice.source)
        folder = folder if folder.is_dir() else hub_snapshot(choice)
    return None if folder is None else _hash_of_all_but_weights(folder)


def _hash_of_all_but_weights(folder: Path) -> str:
    found = hashlib.sha256()
    places = (folder, folder / _MORE_TEMPLATES)
    try:
        files = sorted(path for place in places if place.is_dir() for path in place.iterdir())
        for path in files:
            if path.is_file() and path.suffix not in _WEIGHTS:
                found.update(f"{path.relative_to(folder)} {_whole_hash(path)}\n".encode())
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    return found.hexdigest()[:16]


def _check_finetuned(weights: Path, files: list[Path], base: str) -> None:
    """Hold finetuned weights against the record that finetune_llama.py wrote of them, if any.

    Raises:
        UserError: other bytes than recorded, or trained from another model than ``base``.
    """
    for path in files:
        record = read_record(path)
        if record is None:
            continue
        if record["sha256"] != file_hash(path):
            raise UserError(
                f"--override_model_weights_path: {path} is not the file that its record describes "
                "(truncated or edited); make it again with ./finetune_llama.py"
            )
        trained = record["inputs"].get("weights", base)
        if not same_weights(trained, base):
            raise UserError(
                f"--override_model_weights_path: {weights} was trained from other weights than "
                f"this model's ({trained} instead of {base}, as its record says): name the model "
                f"it was trained from ({record['inputs'].get('model', 'not recorded')})"
            )


def _hash_of_files(weights: list[Path], vocabulary: list[Path] | None = None) -> str:
    """Two hashes with a dot between: of samples of ``weights``, and of all bytes of all files."""
    samples, whole = hashlib.sha256(), hashlib.sha256()
    try:
        for path in weights:
            samples.update(_samples(path))
        for path in [*weights, *(vocabulary or [])]:
            whole.update(f"{path.name} {_whole_hash(path)}\n".encode())
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    return f"{samples.hexdigest()[:16]}.{whole.hexdigest()[:16]}"


def _whole_hash(path: Path) -> str:
    # what is read in an instant is read again, and leaves no note in the cache
    return hash_of(path) if path.stat().st_size <= _SAMPLE else file_hash(path)


def _samples(path: Path) -> bytes:
    """Name, size, beginning and end of a file, as records of before 2026-11-27 have them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        beginning = file.read(_SAMPLE)
        file.seek(max(0, size - _SAMPLE))
        return f"{path.name} {size} ".encode() + beginning + file.read(_SAMPLE)
