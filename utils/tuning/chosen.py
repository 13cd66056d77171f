"""A choice that was made before, read from its file. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.contents import read_json, read_verified
from utils.files.names import DOSE, MULTIPLIER

DIRECTIONS = ("both", "pos", "neg")


@dataclass(frozen=True)
class Chosen:
    """A layer and a strength (above 0) in both units.

    Attributes:
        dose: ``None`` where H was not known.
        signs: which signs of it are steered, 0 among them.
        vector: hash of the layer's vector of all pairs.
    """

    layer: int
    multiplier: float
    dose: float | None
    signs: tuple[int, ...]
    vector: str

    def strengths(self, unit: str) -> list[float] | None:
        """What is steered with, 0 among it; ``None`` where there is no dose."""
        found = self.dose if unit == DOSE else self.multiplier
        return None if found is None else [sign * found + 0.0 for sign in self.signs]


def read_choice(path: Path) -> tuple[Chosen | None, str | None]:
    """The choice of one behaviour, ``None``: do not steer; and the hash of its test's file.

    Raises:
        UserError: no such file, or not one that tune.py wrote.
    """
    content = read_json(read_verified(path))
    try:
        test = None if content["test"] is None else str(content["test"]["sha256"])
        return _chosen(content), test
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a choice that ./tune.py wrote ({error!r})") from error


def _chosen(content: Any) -> Chosen | None:
    if content["chosen"] is None:
        return None
    layer = int(content["chosen"]["layer"])
    dose = content["chosen"][DOSE]
    signs = {"both": (-1, 0, 1), "pos": (0, 1), "neg": (-1, 0)}[content["direction"]]
    found = Chosen(
        layer,
        float(content["chosen"][MULTIPLIER]),
        None if dose is None else float(dose),
        signs,
        str(content["vector_sha256"][str(layer)]),
    )
    if not math.isfinite(found.multiplier) or not math.isfinite(found.dose or 0.0):
        raise ValueError("its strength is no number")
    return found
