"""Names of models as they stand in file names, from whatever a person types for a model."""

from __future__ import annotations

from utils.files.paths import Variant
from utils.models.choice import choose_model
from utils.weights.named import find_named


def last_part(name: str | None) -> str | None:
    """A model's name as it stands in files, from whatever a script that loads it would take."""
    if name is None:
        return None
    named = find_named(name)
    return named.label if named else name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def limited_label(label: str, limit: int | None) -> str:
    """A model's name in file names; under ``--limit`` it says so."""
    return label if limit is None else f"{label}_limit={limit}"


def model_of(variant: Variant) -> str | None:
    """The model of some results."""
    if variant.model_size is None:
        return variant.model
    return choose_model(None, variant.model_size, bool(variant.use_base_model)).label
