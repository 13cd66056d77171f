"""Names of models as they stand in file names, from whatever a person types for a model."""

from __future__ import annotations

import re
from typing import NamedTuple

from utils.files.names import BOTH_ORDERS, Variant
from utils.models.choice import choose_model
from utils.weights.named import find_named


def last_part(name: str | None) -> str | None:
    """A model's name as it stands in files, from whatever a script that loads it would take."""
    if name is None:
        return None
    named = find_named(name)
    return named.label if named else name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def limited_label(label: str, limit: int | None, *, both_orders: bool = False) -> str:
    """A model's name in file names; under ``--both_orders`` and ``--limit`` it says so."""
    label += BOTH_ORDERS if both_orders else ""
    return label if limit is None else f"{label}_limit={limit}"


class Label(NamedTuple):
    """What a name that :func:`limited_label` gives was made from."""

    model: str
    both_orders: bool = False
    limit: int | None = None

    @property
    def flags(self) -> str:
        """The flags, behind a space each, that gave the name, the model's own aside."""
        limit = "" if self.limit is None else f" --limit {self.limit}"
        return f"{' --both_orders' if self.both_orders else ''}{limit}"


def split_label(label: str) -> Label:
    """The parts of a name in the names of vectors and activations."""
    match = re.fullmatch(rf"(.+?)({BOTH_ORDERS})?(?:_limit=([1-9][0-9]*))?", label)
    assert match is not None, label
    return Label(match[1], match[2] is not None, int(match[3]) if match[3] else None)


def model_of(variant: Variant) -> str | None:
    """The model of some results."""
    if variant.model_size is None:
        return variant.model
    return choose_model(None, variant.model_size, bool(variant.use_base_model)).label
