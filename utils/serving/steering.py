"""What a request asks to be added, by a field or by the model's id, and what the reply says of it.

An id is ``<model>@<behavior>:L<layer>:d<dose>`` or ``...:x<multiplier>``, and may end in a scope.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor

from utils.batching.rows import Probe
from utils.errors import UserError
from utils.files.names import DOSE, MULTIPLIER
from utils.serving.fields import Fields
from utils.serving.refusals import Refusal, unknown_model
from utils.serving.requests import Common
from utils.text.listing import did_you_mean, shortened
from utils.vectors.dose import SteeringVector

AFTER_INSTRUCTION, ALL, CONTINUATION = SCOPES = ("after_instruction", "all", "continuation")
MOST_PARTS = 16
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_ENDING = re.compile(
    rf"(?P<behavior>[^:]+):L(?P<layer>\d{{1,6}}):(?P<unit>[dx])(?P<strength>{_NUMBER})"
    rf"(?::(?P<scope>{'|'.join(SCOPES)}))?",
    re.IGNORECASE,
)


class FirstToken(TypedDict):
    index: int
    text: str


class SteeringReport(TypedDict):
    """What a reply says of one vector; ``dose`` is ``None`` where nobody has measured it."""

    behavior: str | None
    vector: str | None
    sha256: str
    layer: int
    multiplier: float
    dose: float | None
    scope: str
    first_steered_token: FirstToken


@dataclass(frozen=True)
class Source:
    """A vector that may be added at a layer.

    Attributes:
        behavior: whose; ``None`` for one that was given to the server by a name.
        name: that name.
        layer: where it is added.
        vector: its numbers.
    """

    behavior: str | None
    name: str | None
    layer: int
    vector: SteeringVector


@dataclass(frozen=True)
class Part:
    """A vector and how strongly it is added."""

    source: Source
    multiplier: float

    @property
    def delta(self) -> Tensor:
        return self.multiplier * self.source.vector.vector

    def report(self, scope: str, first: FirstToken) -> SteeringReport:
        source = self.source
        return {
            "behavior": source.behavior,
            "vector": source.name,
            "sha256": source.vector.sha256,
            "layer": source.layer,
            "multiplier": self.multiplier,
            "dose": source.vector.dose(self.multiplier),
            "scope": scope,
            "first_steered_token": first,
        }


@dataclass(frozen=True)
class Steering:
    """All that one request adds.

    Attributes:
        parts: the vectors; none: unsteered.
        scope: from which token on; ``None`` where the request does not say.
        probe: what every token is held against.
    """

    parts: tuple[Part, ...] = ()
    scope: str | None = None
    probe: Probe | None = None

    def deltas(self) -> dict[int, Tensor]:
        """layer -> what is added there, shape (width,)."""
        found: dict[int, Tensor] = {}
        for part in self.parts:
            layer = part.source.layer
            found[layer] = found[layer] + part.delta if layer in found else part.delta
        return found


@dataclass(frozen=True)
class Catalogue:
    """The vectors that a server may add.

    Attributes:
        label: the plain model's id.
        layers: how many the model has.
        behaviors: behaviour -> layer -> vector.
        named: vectors given by a name, to be added at any layer.
    """

    label: str
    layers: int
    behaviors: Mapping[str, Mapping[int, SteeringVector]]
    named: Mapping[str, SteeringVector]

    def of(self, common: Common) -> Steering:
        """What a request asks for.

        Raises:
            Refusal: 404 for a model, behaviour, vector or layer that there is not; 400 for what
                contradicts itself.
        """
        by_id = self._of_id(common.model)
        if by_id is not None and common.steering is not None:
            raise Refusal(
                400,
                "steering is asked for twice, by the model's id and by the field: give one",
                param="steering",
            )
        asked = by_id if common.steering is None else self._of_field(common.steering)
        steering = asked or Steering()
        probe = self._probe(common.token_scores, steering)
        return Steering(steering.parts, steering.scope, probe)

    def model_id(self, behavior: str, layer: int, unit: str, strength: float) -> str:
        """The id that asks for one cell."""
        letter = "d" if unit == DOSE else "x"
        return f"{self.label}@{behavior}:L{layer}:{letter}{strength:g}"

    def _of_id(self, model: str | None) -> Steering | None:
        if model is None or model == self.label:
            return None
        if not model.startswith(f"{self.label}@"):
            near = did_you_mean([model.partition("@")[0]], [self.label])
            raise unknown_model(
                f"no model {model!r} here{near}; there is {self.label}, and "
                f"{self.label}@<behavior>:L<layer>:d<dose> or :x<multiplier>"
            )
        match = _ENDING.fullmatch(model.removeprefix(f"{self.label}@"))
        if match is None:
            raise unknown_model(
                f"{model!r}: behind {self.label}@ goes <behavior>:L<layer>:d<dose> or "
                ":x<multiplier>, as in refusal:L14:d0.2, and after it perhaps "
                f"one of {', '.join(':' + scope for scope in SCOPES)}"
            )
        source = self._source("model", match["behavior"], None, int(match["layer"]))
        unit = DOSE if match["unit"].lower() == "d" else MULTIPLIER
        part = _part("model", source, unit, float(match["strength"]))
        return Steering((part,), match["scope"] and match["scope"].lower())

    def _of_field(self, given: object) -> Steering:
        members = given if isinstance(given, list) else [given]
        if len(members) > MOST_PARTS:
            raise Refusal(400, f"steering: at most {MOST_PARTS} vectors", param="steering")
        parts: list[Part] = []
        scopes: set[str | None] = set()
        for number, member in enumerate(members):
            where = f"steering[{number}]" if isinstance(given, list) else "steering"
            if not isinstance(member, dict):
                raise Refusal(
                    400,
                    f"{where} must be an object with behavior, layer, and multiplier or dose",
                    param=where,
                )
            known = ("behavior", "vector", "layer", MULTIPLIER, DOSE, "scope")
            fields = Fields(member, known, where=where)
            source = self._named_in(fields)
            units = [unit for unit in (MULTIPLIER, DOSE) if unit in fields]
            strength = fields.number(units[0]) if len(units) == 1 else None
            if strength is None:
                raise fields.refusal(MULTIPLIER, f"{where}: give one of multiplier and dose")
            parts.append(_part(where, source, units[0], strength))
            scopes.add(fields.choice("scope", SCOPES))
        if len(scopes) > 1:
            raise Refusal(
                400, "steering: all vectors of a request have one scope", param="steering"
            )
        return Steering(tuple(parts), next(iter(scopes), None))

    def _named_in(self, fields: Fields) -> Source:
        behavior, name = fields.text("behavior"), fields.text("vector")
        if (behavior is None) == (name is None):
            raise fields.refusal("behavior", f"{fields.where}: give one of behavior and vector")
        layer = fields.whole("layer", 0, 10**6)
        if layer is None:
            raise fields.refusal("layer", f"{fields.where} needs a layer")
        return self._source(fields.where, behavior, name, layer)

    def _source(self, where: str, behavior: str | None, name: str | None, layer: int) -> Source:
        if layer >= self.layers:
            raise unknown_model(
                f"layer {layer}: this model has layers 0 to {self.layers - 1}", f"{where}.layer"
            )
        if name is not None:
            if name not in self.named:
                given = ", ".join(sorted(self.named)) or "none (the server's --vectors gives them)"
                raise unknown_model(f"no vector {name!r} here; there are: {given}", where)
            return Source(None, name, layer, self.named[name])
        own = self.behaviors.get(behavior or "")
        if behavior is None or own is None:
            known = ", ".join(sorted(self.behaviors)) or "none"
            near = did_you_mean([str(behavior)], self.behaviors)
            raise unknown_model(
                f"no vectors of behaviour {behavior!r} here{near}; there are: {known}", where
            )
        if layer not in own:
            raise unknown_model(
                f"{behavior} has no vector at layer {layer}; there are {shortened(sorted(own))}",
                f"{where}.layer",
            )
        return Source(behavior, None, layer, own[layer])

    def _probe(self, given: object, steering: Steering) -> Probe | None:
        if given is None or given is False:
            return None
        where = "token_scores"
        if isinstance(given, dict):
            source = self._named_in(Fields(given, ("behavior", "vector", "layer"), where=where))
        elif given is not True:
            raise Refusal(
                400, "token_scores must be true, or an object with behavior and layer", param=where
            )
        elif not steering.parts:
            raise Refusal(
                400,
                "token_scores: true means the vector that is added, and none is: name a behavior "
                "and a layer",
                param=where,
            )
        else:
            source = steering.parts[0].source
        vector = source.vector.vector
        return Probe(source.layer, vector / vector.norm().clamp(min=1e-30))


def _part(where: str, source: Source, unit: str, strength: float) -> Part:
    try:
        multiplier = source.vector.multiplier(strength, unit)
    except UserError as error:
        raise Refusal(
            400,
            f"{source.behavior or source.name} at layer {source.layer} has no dose: nobody has "
            "measured the residual stream there, or the vector is zero; give a multiplier",
            param=f"{where}.dose",
        ) from error
    part = Part(source, multiplier + 0.0)
    if not math.isfinite(multiplier) or not bool(part.delta.isfinite().all()):
        raise Refusal(400, f"{unit} {strength:g} is too large for a number", param=where)
    return part
