"""What a result is called: the parts of its name, built exactly and parsed exactly.

Names follow the published repository of the paper, so that its files can be dropped in. Nothing
searches by substring, because ``layer=1`` is a substring of ``layer=15``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

WHOLE = r"(?:0|[1-9][0-9]*)"
MULTIPLIER, DOSE = UNITS = ("multiplier", "dose")
BOTH_ORDERS = "_both_orders"
"""The end of names of what was measured in both orders of the choices."""


def other_unit(unit: str) -> str:
    """The dose for multipliers, the multiplier for doses."""
    return DOSE if unit == MULTIPLIER else MULTIPLIER


def format_strength(strength: float) -> str:
    """A multiplier or dose as it stands in file names: ``1.0``, ``-0.5``, and never ``-0.0``."""
    return str(float(strength) + 0.0)


Cell = tuple[int, float]
"""A layer, and how strongly the vector is added there: a multiplier of it, or a dose."""


@dataclass(frozen=True)
class Variant:
    """What the results of all behaviours, layers and strengths of one run have in common.

    The parts stand in names in this order; those that are ``None`` are left out. For the Llama 2
    family ``use_base_model`` and ``model_size`` are set, for any other model ``model`` is.

    Attributes:
        type: of test.
        both_orders: every question was also asked with its choices exchanged; stands last in names.
        unit: of the strengths, ``"multiplier"`` or ``"dose"``; stands in names as their key.
    """

    type: str
    system_prompt: str | None = None
    override_vector: int | None = None
    override_vector_model: str | None = None
    use_base_model: bool | None = None
    model_size: str | None = None
    model: str | None = None
    override_model_weights_path: str | None = None
    limit: int | None = None
    both_orders: bool = False
    unit: str = MULTIPLIER

    def stem(self, layer: int | None = None) -> str:
        """The parts as ``key=value`` joined by ``_``, behind the layer where one is given."""
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NO_KEYS}
        return _joined({"layer": layer} | parts) + (BOTH_ORDERS if self.both_orders else "")

    @property
    def overrides(self) -> tuple[str, ...]:
        """Names of the parts in which it differs from its model's plain run."""
        return tuple(part for part in OVERRIDES if getattr(self, part) is not None)

    def plain(self, keep: Collection[str] = ()) -> Variant:
        """The same without overrides, but for some that are kept."""
        gone: dict[str, Any] = {part: None for part in OVERRIDES if part not in keep}
        return replace(self, **gone)


@dataclass(frozen=True)
class ResultName:
    """The name of one result: a cell of one behaviour and variant."""

    layer: int
    strength: float
    behavior: str
    variant: Variant

    @property
    def cell(self) -> Cell:
        return self.layer, self.strength

    def filename(self) -> str:
        strength = {self.variant.unit: format_strength(self.strength)}
        cell = _joined({"layer": self.layer} | strength | {"behavior": self.behavior})
        return f"{RESULTS}{cell}_{self.variant.stem()}.json"

    def controls_filename(self) -> str:
        """Of what control vectors do in its place; never taken for a result."""
        return CONTROLS + self.filename().removeprefix(RESULTS)

    @classmethod
    def parse(cls, filename: str) -> ResultName | None:
        """Read a name back; ``None`` if ``filename`` is not one that :meth:`filename` writes."""
        match = _RESULT_NAME.fullmatch(filename)
        if match is None:
            return None
        found: dict[str, Any] = {k: v for k, v in match.groupdict().items() if v is not None}
        layer, strength, behavior = (found.pop(k) for k in ("layer", "strength", "behavior"))
        found |= {key: int(found[key]) for key in _COUNTS if key in found}
        if "use_base_model" in found:
            found["use_base_model"] = found["use_base_model"] == "True"
        found["both_orders"] = "both_orders" in found
        name = cls(int(layer), float(strength), behavior, Variant(**found))
        return name if name.filename() == filename else None


_NO_KEYS = ("both_orders", "unit")
OVERRIDES = (
    "system_prompt",
    "override_vector",
    "override_vector_model",
    "override_model_weights_path",
)
_COUNTS = ("override_vector", "limit")
RESULTS, CONTROLS = "results_", "controls_"


def _joined(parts: Mapping[str, object]) -> str:
    return "_".join(f"{key}={value}" for key, value in parts.items() if value is not None)


def _result_pattern() -> re.Pattern[str]:
    strength = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
    # The name of a model may hold anything, "_limit=8" too; the rest is plain.
    patterns = dict.fromkeys(_COUNTS, WHOLE)
    patterns |= {
        "system_prompt": "pos|neg",
        "use_base_model": "True|False",
        "model_size": "[0-9]+b",
    }
    optional = [
        rf"(?:_{field.name}=(?P<{field.name}>{patterns.get(field.name, '.+?')}))?"
        for field in fields(Variant)
        if field.name not in ("type", *_NO_KEYS)
    ]
    return re.compile(
        rf"{RESULTS}layer=(?P<layer>{WHOLE})_(?P<unit>{'|'.join(UNITS)})=(?P<strength>{strength})"
        rf"_behavior=(?P<behavior>[^=]+?)_type=(?P<type>[^=]+?){''.join(optional)}"
        rf"(?P<both_orders>{BOTH_ORDERS})?\.json"
    )


_RESULT_NAME = _result_pattern()
