"""What a server tells of itself: its model, what it can be steered with, and what it was told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from utils.files.contents import sha256_bytes
from utils.files.names import DOSE, MULTIPLIER
from utils.serving.requests import MOST_CHOICES, MOST_STOPS, MOST_TOP, Common, Sampling
from utils.serving.steering import SCOPES, Catalogue
from utils.tuning.chosen import Chosen
from utils.vectors.dose import SteeringVector

Body = dict[str, object]


@dataclass(frozen=True)
class Info:
    """Attributes:
    catalogue: the vectors.
    names: behaviour -> its name for people.
    tuned: behaviour -> what tune.py has chosen; ``None``: not to steer.
    origin: of the model: weights, dtype, template.
    context: most tokens of a prompt and its answer; ``None`` where unknown.
    defaults: what holds where a request does not say.
    limits: what a request may not pass.
    """

    catalogue: Catalogue
    names: Mapping[str, str]
    tuned: Mapping[str, Chosen | None]
    origin: Mapping[str, str | None]
    context: int | None
    defaults: Mapping[str, object]
    limits: Mapping[str, object]
    started: int = field(default_factory=lambda: int(time.time()))

    @property
    def label(self) -> str:
        return self.catalogue.label

    @property
    def fingerprint(self) -> str:
        """Changes with the model's weights, its dtype or its template."""
        return f"fp_{sha256_bytes(repr(sorted(self.origin.items())).encode())[:16]}"

    def models(self) -> Body:
        """The plain model and the tuned cells; any well-formed id is taken."""
        return {"object": "list", "data": [self._row(name) for name in [self.label, *self.cells()]]}

    def model(self, name: str) -> Body:
        """One of them, or another id that is well formed.

        Raises:
            Refusal: 404.
        """
        self.catalogue.of(_only(name))
        return self._row(name)

    def cells(self) -> list[str]:
        """The ids of the tuned cells, the unsteered ones aside."""
        found = []
        for behavior, one in self.tuned.items():
            if one is None or one.layer not in self.catalogue.behaviors.get(behavior, {}):
                continue
            unit = MULTIPLIER if one.dose is None else DOSE
            strengths = [s for s in one.strengths(unit) or [] if s]
            found += [self.catalogue.model_id(behavior, one.layer, unit, s) for s in strengths]
        return found

    def whole(self) -> Body:
        """All of it, for a page."""
        behaviors = [
            {
                "id": behavior,
                "name": self.names.get(behavior, behavior),
                "layers": [_layer(layer, vector) for layer, vector in sorted(vectors.items())],
                "tuned": _tuned(self.tuned[behavior]) if behavior in self.tuned else None,
                "do_not_steer": behavior in self.tuned and self.tuned[behavior] is None,
            }
            for behavior, vectors in self.catalogue.behaviors.items()
        ]
        return {
            "model": self.label,
            "system_fingerprint": self.fingerprint,
            "origin": dict(self.origin),
            "layers": self.catalogue.layers,
            "context": self.context,
            "behaviors": behaviors,
            "vectors": [
                {"name": name, "sha256": vector.sha256, "norm": vector.norm}
                for name, vector in self.catalogue.named.items()
            ],
            "tuned_models": self.cells(),
            "scopes": list(SCOPES),
            "defaults": dict(self.defaults),
            "limits": {"n": MOST_CHOICES, "top_logprobs": MOST_TOP, "stop": MOST_STOPS}
            | dict(self.limits),
        }

    def _row(self, name: str) -> Body:
        return {"id": name, "object": "model", "created": self.started, "owned_by": "caa"}


def _layer(layer: int, vector: SteeringVector) -> Body:
    return {
        "layer": layer,
        "sha256": vector.sha256,
        "norm": vector.norm,
        "residual_norm": vector.residual_norm,
        "dose_per_multiplier": vector.dose(1.0),
    }


def _tuned(one: Chosen | None) -> Body | None:
    if one is None:
        return None
    return {
        "layer": one.layer,
        MULTIPLIER: one.multiplier,
        DOSE: one.dose,
        "signs": list(one.signs),
    }


def _only(model: str) -> Common:
    return Common(model, None, None, Sampling(None, 0, 1, None, (), 1, None), False, False)
