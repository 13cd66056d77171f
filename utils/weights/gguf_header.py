"""The head of a GGUF file: what it says of itself and how many weights it holds.

transformers has a reader too; it takes seconds for a vocabulary of 150 000 tokens and gives no
sizes for some of the quantisations that its loader takes.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from utils.errors import UserError

_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VOCABULARY = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class GgufHeader:
    """What a file says of itself.

    Attributes:
        metadata: all of it but arrays.
        control_tokens: the vocabulary's tokens like ``<|im_end|>`` with their ids.
        tensors: name -> number of weights in it.
    """

    metadata: dict[str, Any]
    control_tokens: dict[str, int]
    tensors: dict[str, int]

    @property
    def architecture(self) -> str:
        return str(self.metadata["general.architecture"])

    @property
    def weights(self) -> int:
        """Number of weights in all tensors."""
        return sum(self.tensors.values())

    @property
    def float32_bytes(self) -> int:
        """Size of the weights once they are float32."""
        return 4 * self.weights


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def text(self) -> str:
        length = self.take("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        return self.take(_SCALARS[kind])

    def _array(self) -> dict[str, int]:
        """Pass over an array; of texts, those like ``<|im_end|>`` are kept with their places."""
        kind, count = self.take("I"), self.take("Q")
        if kind in _SCALARS:
            self.at += count * struct.calcsize(f"<{_SCALARS[kind]}")
            return {}
        if kind != _STRING:
            raise ValueError(f"an array of values of kind {kind}")
        kept = {}
        for place in range(count):
            (length,) = struct.unpack_from("<Q", self.data, self.at)
            self.at += 8 + length
            if self.data[self.at - length : self.at - length + 2] == b"<|":
                kept[self.data[self.at - length : self.at].decode("utf-8", "replace")] = place
        return kept


def read_gguf_header(path: Path) -> GgufHeader:
    """Read the head of a file without its weights.

    Raises:
        UserError: not a GGUF file, or one that breaks off within its head.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(_Cursor(data))
    except (OSError, ValueError, KeyError, OverflowError, struct.error) as error:
        raise UserError(f"{path} is not a readable GGUF file: {error}") from error


def _read(cursor: _Cursor) -> GgufHeader:
    if cursor.data[:4] != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    cursor.at = 4
    version, tensors, entries = (cursor.take(code) for code in "IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version} of the format")
    metadata = {}
    for _ in range(entries):
        key = cursor.text()
        metadata[key] = cursor.value(cursor.take("I"))
    control_tokens = metadata.get(_VOCABULARY, {})
    metadata = {k: v for k, v in metadata.items() if not isinstance(v, dict)}
    sizes = {}
    for _ in range(tensors):
        name = cursor.text()
        sizes[name] = prod(cursor.take("Q") for _ in range(cursor.take("I")))
        cursor.take("I"), cursor.take("Q")
    if "general.architecture" not in metadata:
        raise ValueError("it names no architecture")
    return GgufHeader(metadata, control_tokens, sizes)
