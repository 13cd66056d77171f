"""The numbers that a model's ``config.json`` states, under whatever names its family gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from utils.blocks.architectures import PLAIN, check_architecture
from utils.errors import UserError, reason_of
from utils.files.json_files import NOT_JSON

_LAYERS, _WIDTH, _VOCABULARY = "num_hidden_layers", "hidden_size", "vocab_size"
_CONTEXT = ("max_position_embeddings", "max_seq_len", "n_positions", "n_ctx")


class ConfigNumbers(NamedTuple):
    """Of the language model: blocks, width, longest input, rows of its embedding, or ``None``."""

    layers: int | None
    width: int | None
    context: int | None
    vocabulary: int | None


def read_numbers(path: Path, where: str) -> ConfigNumbers:
    """What a ``config.json`` says, without loading weights.

    Args:
        path: the file.
        where: whose it is, for messages.

    Raises:
        UserError: not readable, or of an architecture that cannot be steered.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = str(config.get("model_type", ""))
        # a model of text and images keeps the language model's numbers apart
        text = config.get("text_config", config)
        flagged = bool(config.get("is_encoder_decoder") or text.get("is_encoder_decoder"))
    except (OSError, AttributeError, *NOT_JSON) as error:
        raise UserError(f"{path} is not a readable model config: {reason_of(error)}") from error
    if flagged:
        raise UserError(
            f"{where}: architecture {kind!r} is no decoder-only language model "
            "and cannot be steered"
        )
    if not kind:
        return _numbers(text.get)
    check_architecture(kind, where)
    found = _numbers(text.get)
    if kind in PLAIN and found.layers is not None and found.width is not None:
        return found
    return _numbers_of_class(config, kind, path)


def _numbers_of_class(config: dict[str, Any], kind: str, path: Path) -> ConfigNumbers:
    """By the family's own class, which knows its names and what it takes for granted."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        text = CONFIG_MAPPING[kind].from_dict(config).get_text_config(decoder=True)
    except Exception as error:  # each family checks its numbers in its own way
        raise UserError(f"{path} is no config of a {kind} model: {reason_of(error)}") from error
    return _numbers(lambda name: getattr(text, name, None))


def _numbers(get: Any) -> ConfigNumbers:
    def first(*names: str) -> int | None:
        return next((v for v in map(get, names) if isinstance(v, int)), None)

    return ConfigNumbers(first(_LAYERS), first(_WIDTH), first(*_CONTEXT), first(_VOCABULARY))
