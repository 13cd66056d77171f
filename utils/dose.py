"""Multipliers and doses: how strong a vector is, in units of the residual stream it is added to.

``dose = multiplier * |v| / H``, with the multiplier's sign, where v is the vector that is added and
H the median length of the residual stream at the steered tokens of the layer where it is added.
``generate_vectors.py`` measures H and keeps it in the record of the layer's vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.artifacts import read_measured
from utils.errors import UserError
from utils.paths import DOSE, Paths

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SteeringVector:
    """A vector as it is added at one layer.

    Attributes:
        vector: shape (width,).
        sha256: hash of its file.
        residual_norm: H of the layer where it is added; ``None`` if nobody has measured it.
    """

    vector: "Tensor"
    sha256: str
    residual_norm: float | None

    @property
    def norm(self) -> float:
        return float(self.vector.double().norm())

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


def residual_norm(paths: Paths, behavior: str, layer: int, models: Sequence[str]) -> float | None:
    """H of a layer from the record of its vector, raw or normalised, of the first model with one.

    Args:
        paths: where the vectors lie.
        behavior: whose pairs have measured it.
        layer: where something is to be added.
        models: names in file names: the steered model's, and others that stand for it.
    """
    for model in models:
        for normalized in (False, True):
            path = paths.vector(behavior, layer, model, normalized=normalized)
            measured = read_measured(path).get("residual_norm")
            if measured is not None:
                return float(measured)
    return None
