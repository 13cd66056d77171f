"""Multipliers and doses: how strong a vector is, in units of the residual stream it is added to.

``dose = multiplier * |v| / H``, with the multiplier's sign, where v is the vector that is added and
H the median length of the residual stream at the steered tokens of the layer where it is added.
``generate_vectors.py`` measures H and keeps it in the record of the layer's vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.files.contents import read_record
from utils.files.names import DOSE
from utils.files.paths import Paths, record_path
from utils.vectors.origin import UNKNOWN, Origin, vector_origin
from utils.vectors.stored import StoredVector, read_vector

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SteeringVector:
    """A vector as it is added at one layer.

    Attributes:
        stored: its numbers, as they lie in its file.
        residual_norm: H of the layer where it is added; ``None`` if nobody has measured it.
        path: its file; ``None`` if it was not read from one.
        origin: the model that it was made with, as far as records tell.
    """

    stored: StoredVector
    residual_norm: float | None
    path: Path | None = None
    origin: Origin = UNKNOWN

    @classmethod
    def read(
        cls,
        paths: Paths,
        behavior: str,
        layer: int,
        model: str,
        *,
        made_by: str,
        width: int | None,
        normalized: bool = True,
    ) -> SteeringVector:
        """The vector of a layer from its file, whose H is still to be looked up.

        Args:
            paths: where the vectors lie.
            behavior, layer, model: whose.
            made_by, width: see :func:`utils.vectors.stored.read_vector`.
            normalized: the normalised vector, or the raw one.

        Raises:
            UserError: missing, damaged or of another width.
        """
        path = paths.vector(behavior, layer, model, normalized=normalized)
        stored = read_vector(path, made_by=made_by, width=width)
        origin = vector_origin(paths, behavior, layer, model, normalized=normalized)
        return cls(stored, None, path, origin)

    @property
    def vector(self) -> Tensor:
        """Shape (width,), float32."""
        return self.stored.tensor

    @property
    def sha256(self) -> str:
        return self.stored.sha256

    @property
    def norm(self) -> float:
        return self.stored.norm

    def multiplier(self, strength: float, unit: str) -> float:
        """What the vector is multiplied by for a strength in some unit.

        Raises:
            UserError: a dose of a vector without length, or where H is not known.
        """
        if unit != DOSE or not strength:
            return strength
        if not self.residual_norm or not self.norm:
            raise UserError("no dose without the residual stream's length and a vector not zero")
        return strength * self.residual_norm / self.norm

    def dose(self, multiplier: float) -> float | None:
        """The dose of a multiplier; ``None`` where H is not known."""
        return multiplier * self.norm / self.residual_norm if self.residual_norm else None


def residual_norm(
    paths: Paths, behavior: str, layer: int, models: Sequence[str], weights: str | None = None
) -> float | None:
    """H of a layer from the record of its vector, raw or normalised, of the first model with one.

    Args:
        paths: where the vectors lie.
        behavior: whose pairs have measured it.
        layer: where something is to be added.
        models: names in file names: the steered model's, and others that stand for it.
        weights: the steered model's, if they are to be checked: under its own name nothing counts
            that was measured on others.

    Raises:
        UserError: a record is not readable, or its length is none.
    """
    for model in models:
        for normalized in (False, True):
            path = paths.vector(behavior, layer, model, normalized=normalized)
            record = read_record(path)
            measured = None if record is None else record.get("measured", {}).get("residual_norm")
            if measured is None:
                continue
            own = vector_origin(paths, behavior, layer, model, normalized=normalized)
            if weights is not None and model == models[0] and not own.is_of(weights):
                continue
            if not _is_length(measured):
                raise UserError(f"{record_path(path)}: residual_norm is no length: {measured!r}")
            return float(measured)
    return None


def _is_length(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= float(str(value)) < math.inf
