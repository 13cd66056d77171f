"""Loading a GGUF file by transformers, and what its readers leave out without a word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.weights.gguf_header import GgufHeader, read_gguf_header

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

_QWEN_ENDS = ("<|im_end|>", "<|endoftext|>")
_DIVISORS = "rope_freqs.weight"
_LLAMA3 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def load_gguf(path: Path, options: Mapping[str, Any]) -> PreTrainedModel:
    """The model of a GGUF file, dequantised; the file holds nothing that was left out.

    Args:
        path: the file.
        options: further arguments of ``from_pretrained``.

    Raises:
        UserError: tensors that the model lacks, or that transformers does not read.
        Exception: whatever transformers raises.
    """
    # torch comes with these, and which model it is must be known before torch is there
    from transformers import AutoModelForCausalLM, GgufConfig

    from utils.weights.loaded import load_pretrained

    own = {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True)}
    model = load_pretrained(AutoModelForCausalLM, path.parent, {**options, **own}, str(path))
    header = read_gguf_header(path)
    _check_all_read(model, header, path)
    _mend_rotation(model, header, path)
    mend_ends(model.generation_config, header)
    return model


def _check_all_read(model: PreTrainedModel, header: GgufHeader, path: Path) -> None:
    """Check that transformers has read every tensor: it passes over those it has no name for."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    from transformers.integrations.gguf.utils import is_gguf_arch_supported

    if is_gguf_arch_supported(header.architecture):
        return  # its newer reader says itself what it has no place for
    own = model.state_dict(keep_vars=True)
    # a tied weight counts once, as it is stored once; llama.cpp writes some heads out all the same
    held = sum({id(tensor): tensor.numel() for tensor in own.values()}.values())
    stored = header.weights - header.tensors.get(_DIVISORS, 0)
    if model.config.tie_word_embeddings:
        stored -= header.tensors.get("output.weight", 0)
    if stored <= held:
        return
    kinds = [kind for kind, name in MODEL_ARCH_NAMES.items() if name == header.architecture]
    names = get_tensor_name_map(kinds[0], model.config.num_hidden_layers) if kinds else None
    stems = {n.rsplit(".", 1)[0] for n in own}
    read = {names.get_name(stem) for stem in stems} if names else set()
    extra = [name for name in header.tensors if name.rsplit(".", 1)[0] not in read]
    raise UserError(
        f"{path}: transformers passes over {stored - held} numbers of this file, without which "
        f"the model would give others: {', '.join(extra[:3])}{' ...' if len(extra) > 3 else ''}"
    )


def mend_tokenizer(tokenizer: PreTrainedTokenizerBase, header: GgufHeader) -> None:
    """Put right what transformers' reading of a GGUF tokenizer leaves out.

    Qwen's tokenizer composes accents (NFC) before it splits; GGUF has no place for that, so text
    with decomposed characters would become other tokens than the model was trained on.
    """
    if header.metadata.get("tokenizer.ggml.pre") == "qwen2":
        from tokenizers import normalizers

        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()


def _mend_rotation(model: PreTrainedModel, header: GgufHeader, path: Path) -> None:
    """Slow the rotations down as the file says; transformers reads that for a few families only.

    Llama 3.1 and later have it as a tensor of divisors, which its rule must give too.
    """
    kind = str(header.metadata.get(f"{header.architecture}.rope.scaling.type", "none"))
    if kind != "none" and kind not in str(getattr(model.config, "rope_parameters", None)):
        raise UserError(
            f"{path}: transformers passes over the scaling of its rotary positions ({kind}), "
            "without which the model would give other numbers: take the model in the "
            "format of transformers"
        )
    if _DIVISORS not in header.tensors:
        return
    import torch
    from gguf import GGUFReader

    (found,) = (t.data for t in GGUFReader(path).tensors if t.name == _DIVISORS)
    old: Any = model.base_model.rotary_emb
    divisors = torch.tensor(found).to(old.inv_freq)
    model.config.rope_parameters |= _LLAMA3 | {"factor": float(divisors.max())}
    new = type(old)(config=model.config).to(old.inv_freq.device)
    if not torch.allclose(new.inv_freq * divisors, old.inv_freq, rtol=1e-4, atol=0):
        raise UserError(
            f"{path}: {_DIVISORS} is not what Llama 3's rule gives, and transformers knows no "
            "other: take the model in the format of transformers"
        )
    model.base_model.rotary_emb = new


def mend_ends(generation_config: GenerationConfig, header: GgufHeader) -> None:
    """Name both of Qwen's end tokens, as its generation settings do; GGUF has room for one.

    An answer ends with ``<|im_end|>`` or with ``<|endoftext|>``.
    """
    if header.metadata.get("tokenizer.ggml.pre") == "qwen2":
        ends = [header.control_tokens[t] for t in _QWEN_ENDS if t in header.control_tokens]
        generation_config.eos_token_id = ends or generation_config.eos_token_id
