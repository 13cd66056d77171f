"""Whether weights were loaded whole: a library's partial success is an error here.

transformers and torch put in what fits, leave the rest random or as it was, and at most warn.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from utils.blocks.block_io import find_blocks
from utils.errors import UserError, reason_of
from utils.files.cache import say
from utils.weights.folder import check_weight_file

Auto = type[AutoModelForCausalLM] | type[AutoModelForImageTextToText]
# Tables that a model computes itself; older versions of transformers kept them among the weights.
_COMPUTED = re.compile(
    r"(^|\.)(rotary_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)|masked_bias"
    r"|position_ids|(attn|attention|self_attn|self_attention)\.bias)$"
)
# Parts beside a language model, which it does not run for text.
_BESIDE = re.compile(
    r"^(model\.)?(v_head|value_head|score|mtp|vision_tower|vision_model|visual|audio_tower"
    r"|vision_embed_tokens|multi_modal_projector|embed_vision|embed_audio)\."
)
_WRITERS = {
    "module.": "DistributedDataParallel or DeepSpeed",
    "_orig_mod.": "torch.compile",
    "base_model.model.": "peft",
    "language_model.": "a model of text and images",
}
_SHOWN = 3


def load_pretrained(
    auto: Auto, source: str | Path, options: Mapping[str, Any], where: str
) -> PreTrainedModel:
    """A model of transformers with all of its weights from its files.

    Weights that all lie under one more prefix are read without it, and that is said.

    Args:
        auto: the class whose ``from_pretrained`` loads it.
        source: its first argument.
        options: its other arguments.
        where: whose weights they are, for messages.

    Raises:
        UserError: a weight of the model that is not in the files or has another shape there, or
            one in the files that belongs into the model and has no place in it.
        Exception: whatever else the library raises.
    """
    try:
        model, found = _load(auto, source, options)
    except RuntimeError as error:
        if "conversion of the weights" not in str(error):
            raise
        # the library names them in a table for the terminal alone
        raise UserError(
            f"{where}: of the weights that the model keeps together in one tensor (experts, for "
            "instance) some are not in its files or have another shape there"
        ) from error
    prefixes = _prefixes(found["missing_keys"], found["unexpected_keys"], model.base_model_prefix)
    if len(prefixes) == 1:
        (prefix,) = prefixes
        again = {**options, "key_mapping": {f"^{re.escape(prefix)}": ""}}
        del model
        model, found = _load(auto, source, again)
        say(f"{where}: {_under(prefix)} are read without that")
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UserError(
            f"{where} holds a model and an adapter in one: give the model without it, and the "
            "adapter's folder by --override_model_weights_path"
        )
    wrong = [
        f"{key} has the shape {tuple(there)} there, {tuple(here)} by the model's config"
        for key, there, here in sorted(found["mismatched_keys"], key=str)
    ]
    if wrong:
        raise UserError(f"{where}: the weights belong to another model: {_first(wrong, '; ')}")
    if found["missing_keys"]:
        raise UserError(_lost(where, found["missing_keys"], found["unexpected_keys"], prefixes))
    extra = _that_matter(found["unexpected_keys"], model)
    if extra:
        raise UserError(
            f"{where}: {len(extra)} weights in the files have no place in the model that its "
            f"config describes, which would give other numbers: {_first(sorted(extra))}"
            f"{_advice(extra)}"
        )
    return model


def put_weights(model: PreTrainedModel, path: Path) -> None:
    """Put finetuned weights into a loaded model: all of them, or those of whole blocks.

    Raises:
        UserError: no file of weights, weights of another model, or a part of a block.
    """
    check_weight_file(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state = {k: v for k, v in stored.items() if not _COMPUTED.search(k)}
        if not state or not all(isinstance(v, Tensor) for v in state.values()):
            raise ValueError("expected a dictionary of tensors by name")
    except Exception as error:
        raise UserError(f"{path} holds no weights of this model: {reason_of(error)}") from error
    own: dict[str, Tensor] = model.state_dict()
    prefixes = _prefixes(own.keys() - state.keys(), state.keys() - own.keys(), None)
    if len(prefixes) == 1:
        consume_prefix_in_state_dict_if_present(state, *prefixes)
        say(f"{path}: {_under(*prefixes)} are read without that")
    extra = _that_matter(state.keys() - own.keys(), model)
    wrong = [k for k in state.keys() & own.keys() if state[k].shape != own[k].shape]
    if extra or wrong:
        raise UserError(
            f"{path} holds weights of another model: {_first(sorted([*extra, *wrong]))}"
            f"{_advice(extra)}"
        )
    lost = _lost_of_blocks(model, state)
    if lost:
        raise UserError(
            f"{path} holds a part of this model's weights, and neither all of them nor those of "
            f"whole blocks: {_first(lost)} are missing"
        )
    model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _load(
    auto: Auto, source: str | Path, options: Mapping[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    # mismatched ones are refused by their shapes; the library would refuse them without
    checks = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    found = auto.from_pretrained(source, **options, **checks)
    return cast(tuple[PreTrainedModel, dict[str, Any]], found)


def _prefixes(missing: Iterable[str], unexpected: Iterable[str], base: str | None) -> set[str]:
    """What stands before the names of missing weights in the files.

    Args:
        missing: names that the model has.
        unexpected: names that the files have.
        base: the first part of a name which transformers adds itself where it is left out.
    """
    wanted = set(missing)
    wanted |= {name.removeprefix(f"{base}.") for name in wanted if base}
    found = set()
    for name in unexpected:
        parts = name.split(".")
        rests = (i for i in range(1, len(parts)) if ".".join(parts[i:]) in wanted)
        if (first := next(rests, None)) is not None:
            found.add(".".join(parts[:first]) + ".")
    return found


def _under(prefix: str) -> str:
    writer = next((w for p, w in _WRITERS.items() if prefix.startswith(p)), None)
    return f"weights under {prefix!r}" + (f" (as {writer} writes them)" if writer else "")


def _lost(
    where: str, missing: Collection[str], unexpected: Collection[str], prefixes: Collection[str]
) -> str:
    text = (
        f"{where}: {len(missing)} weights of the model are not in its files and would be random: "
        f"{_first(sorted(missing))}"
    )
    if len(prefixes) > 1:
        text += f"\nThe files have weights under several prefixes: {_first(sorted(prefixes))}"
    elif unexpected:
        text += f"\nThe files have instead: {_first(sorted(unexpected))}"
    return text + _advice(unexpected)


def _that_matter(unexpected: Iterable[str], model: PreTrainedModel) -> list[str]:
    """Those of the files' other weights whose loss changes what the model computes."""
    ignored = [_COMPUTED, _BESIDE]
    ignored += map(re.compile, model._keys_to_ignore_on_load_unexpected or ())
    return [k for k in unexpected if not any(pattern.search(k) for pattern in ignored)]


def _advice(keys: Iterable[str]) -> str:
    if any(".lora_" in key or ".base_layer." in key for key in keys):
        return (
            "\nThese are weights of an adapter: merge it (merge_and_unload), or give the plain "
            "model and the adapter's folder by --override_model_weights_path"
        )
    return ""


def _lost_of_blocks(model: PreTrainedModel, state: Mapping[str, Tensor]) -> list[str]:
    """Parameters that a file leaves out although it has others of their block."""
    config = model.config.get_text_config()
    layers = find_blocks(model.get_decoder(), config.num_hidden_layers, config.model_type)
    ids = {id(block) for block in layers}
    blocks = [f"{name}." for name, module in model.named_modules() if id(module) in ids]

    def block_of(key: str) -> str:
        return next((name for name in blocks if key.startswith(name)), "")

    parameters = dict(model.named_parameters(remove_duplicate=False))
    # what lies outside the blocks comes in whole files only
    touched = {block_of(key) for key in state if key in parameters}
    # a tied weight has several names, of which a file may keep one
    present = {id(parameters[key]) for key in state if key in parameters}
    return [
        key
        for key, parameter in parameters.items()
        if id(parameter) not in present and ("" in touched or block_of(key) in touched)
    ]


def _first(names: Collection[str], between: str = ", ") -> str:
    shown = list(names)[:_SHOWN]
    return between.join(shown) + (" ..." if len(names) > len(shown) else "")
