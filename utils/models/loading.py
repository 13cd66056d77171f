"""Loading the chosen model's weights and tokenizer with transformers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from utils.blocks.library_output import library_output
from utils.errors import UserError, reason_of
from utils.models.choice import ModelChoice, hub_token
from utils.models.config import read_numbers
from utils.models.device import pick_device, pick_dtype
from utils.prompts.end_tokens import EndTokens
from utils.ranks import rank_count
from utils.weights.fetched import gguf_file
from utils.weights.folder import check_model_folder
from utils.weights.gguf_conversion import converted_folder, named_folder
from utils.weights.gguf_header import read_gguf_header
from utils.weights.gguf_loading import load_gguf, mend_ends, mend_tokenizer
from utils.weights.loaded import Auto, load_pretrained, put_weights


@library_output(bars=False)
def load_tokenizer(choice: ModelChoice) -> PreTrainedTokenizerBase:
    """The tokenizer alone: prompts and positions are checked before any weights are loaded.

    Raises:
        UserError: it cannot be had.
    """
    direct = _direct_gguf(choice)
    source, options = _source(choice)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:  # the tokenizers package raises nothing more special
        raise UserError(
            f"cannot load the tokenizer of {choice.source}: {reason_of(error)} (with transformers "
            f"{transformers.__version__} and tokenizers {tokenizers.__version__}; files of newer "
            "ones need those)"
        ) from error
    if direct is not None:
        mend_tokenizer(tokenizer, read_gguf_header(direct))
    config = Path(source) / "config.json"
    if config.is_file():
        rows = read_numbers(config, choice.source).vocabulary
        check_embedded(tokenizer, rows, choice.source, base=choice.base)
    return tokenizer


def check_embedded(
    tokenizer: PreTrainedTokenizerBase, rows: int | None, where: str, *, base: bool = False
) -> None:
    """Check that the model has an embedding for every token of its prompts.

    A token that was added to the tokenizer alone is let be where no prompt holds it: many models
    have such a one for padding.

    Args:
        tokenizer: with its chat template.
        rows: how many tokens the model embeds, ``None`` if unknown.
        where: whose they are, for messages.
        base: prompts without the chat template.

    Raises:
        UserError: names the tokens.
    """
    beyond = {t: i for t, i in tokenizer.get_vocab().items() if rows is not None and i >= rows}
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    template = "" if base else str(tokenizer.chat_template)
    used = [t for t in beyond if t not in added or t == tokenizer.bos_token or t in template]
    if used:
        shown = ", ".join(f"{t!r} ({beyond[t]})" for t in sorted(used, key=beyond.__getitem__)[:3])
        raise UserError(
            f"{where}: the tokenizer has {len(used)} tokens for which the model has no embedding "
            f"(it has {rows}): {shown}; take the tokenizer that belongs to these weights, or "
            "enlarge the embedding (resize_token_embeddings)"
        )


@library_output(bars=False)
def load_end_tokens(choice: ModelChoice, tokenizer: PreTrainedTokenizerBase) -> EndTokens:
    """Where the model's answers will end, without its weights.

    Raises:
        UserError: neither its generation settings nor its config can be read.
    """
    direct = _direct_gguf(choice)
    source, options = _source(choice)
    try:
        config = GenerationConfig.from_pretrained(source, token=options.get("token"))
    except OSError:
        # as the library does: a model without the file has what its config says
        try:
            model_config = AutoConfig.from_pretrained(source, **options)
        except Exception as error:  # each family checks its numbers in its own way
            raise UserError(f"cannot load {choice.source}: {reason_of(error)}") from error
        config = GenerationConfig.from_model_config(model_config)
    if direct is not None:
        mend_ends(config, read_gguf_header(direct))
    return EndTokens.of(tokenizer, config, base=choice.base)


@library_output(bars=False)
def load_model(
    choice: ModelChoice,
    *,
    device: str = "auto",
    dtype: str = "auto",
    load_in: str | None = None,
    device_map: str | None = None,
) -> PreTrainedModel:
    """The model in evaluation mode, on its device.

    Args:
        choice: which model.
        device: where it runs.
        dtype: of its weights and activations.
        load_in: ``4bit`` or ``8bit``: quantise the weights of its linear layers by bitsandbytes.
        device_map: spread its blocks over all devices as accelerate decides (``auto``).

    Raises:
        UserError: not found, no access, no network, files that are broken or do not hold all
            weights, an architecture that transformers or this toolkit does not know, or options
            that do not go together.
    """
    place = pick_device(device)
    if place.type == "cuda":
        # On Hopper and later torch prefers cuDNN's attention, which builds a plan for every new
        # number of tokens: of 12.5 s for 100 new tokens of 350 rows (7B, H200) that was 8.7 s.
        # torch reads this at a process's first attention; a value that the user has set stays.
        os.environ.setdefault("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1")
    source, options = _source(choice)
    options["dtype"] = pick_dtype(dtype, place)
    options |= _placement(choice, place, options["dtype"], load_in, device_map)
    direct = _direct_gguf(choice)
    try:
        if direct is not None:
            model = load_gguf(direct, options)
        else:
            model = load_pretrained(_auto_class(source, options), source, options, choice.source)
    except UserError:
        raise
    except Exception as error:  # each quantisation and each format of files has its own
        how = f" with --load_in {load_in} on {place}" if load_in else ""
        raise UserError(f"cannot load {choice.source}{how}: {reason_of(error)}") from error
    if choice.weights is not None:
        model = _with_weights(model, choice.weights, device_map)
    if "device_map" not in options:
        model.to(place)  # type: ignore[arg-type]  # the library's wrapper loses its signature
    return model.eval()


def _auto_class(source: str, options: Mapping[str, Any]) -> Auto:
    """The class that loads it: a model of text and images is one around its language model."""
    kind = AutoConfig.from_pretrained(source, token=options.get("token")).model_type
    plain = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return AutoModelForCausalLM if plain else AutoModelForImageTextToText


def _placement(
    choice: ModelChoice,
    place: torch.device,
    dtype: torch.dtype,
    load_in: str | None,
    device_map: str | None,
) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for quantised weights and for several devices."""
    options: dict[str, Any] = {}
    if load_in is not None:
        _check_load_in(choice, load_in)
        options["quantization_config"] = _quantization(load_in, dtype)
        options["device_map"] = {"": place}
    if device_map is not None:
        if rank_count() > 1:
            raise UserError("--device_map spreads one model over all devices: start one process")
        options["device_map"] = device_map
    return options


def _with_weights(model: PreTrainedModel, weights: Path, device_map: str | None) -> PreTrainedModel:
    """A model with finetuned weights in it, or an adapter's added to its own."""
    if any(p.is_meta for p in model.parameters()):
        raise UserError(
            f"--device_map {device_map} keeps a part of this model outside its devices, where no "
            "finetuned weights can be loaded into it"
        )
    if weights.is_dir():
        from utils.weights.adapters import merge_adapter

        return merge_adapter(model, weights)
    put_weights(model, weights)
    return model


def _check_load_in(choice: ModelChoice, load_in: str) -> None:
    if choice.is_gguf or _direct_gguf(choice) is not None:
        raise UserError(f"--load_in {load_in}: a .gguf file has a quantisation of its own")
    if choice.weights is not None:
        raise UserError(
            f"--load_in {load_in}: finetuned weights cannot be put into quantised ones; drop one"
        )


def _quantization(load_in: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers is to quantise; NF4 for 4 bits, LLM.int8() for 8.

    Raises:
        UserError: bitsandbytes is missing, or not made for this platform.
    """
    try:
        import bitsandbytes  # noqa: F401

        # it warns at every multiplication that it rounds, which is what was asked for
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"--load_in {load_in} needs bitsandbytes, which does not work here: {reason_of(error)}"
        ) from error
    if load_in == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )


def _source(choice: ModelChoice) -> tuple[str, dict[str, Any]]:
    direct = _direct_gguf(choice)
    if direct is not None:
        return str(direct.parent), {"gguf_file": direct.name}
    if choice.named is not None:
        return str(named_folder(choice.named)), {}
    if choice.is_gguf:
        return str(converted_folder(Path(choice.source))), {}
    if Path(choice.source).is_dir():
        check_model_folder(Path(choice.source))
        return choice.source, {}
    return choice.source, {"token": hub_token()}


def _direct_gguf(choice: ModelChoice) -> Path | None:
    """The GGUF file that is loaded as it is, where no converted copy is to be kept."""
    if choice.keep_converted:
        return None
    if choice.named is not None:
        return gguf_file(choice.named)
    return Path(choice.source) if choice.is_gguf else None
