"""The vectors of one model that is there, found under its name and held against it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from utils.files.paths import REPOSITORY, Paths
from utils.models.choice import ModelChoice
from utils.text.listing import did_you_mean
from utils.vectors.dose import SteeringVector, residual_norm
from utils.vectors.origin import Origin, check_steered


@dataclass(frozen=True)
class OwnVectors:
    """Where a model's vectors lie, and what they must be made with.

    Attributes:
        choice: the model.
        width: of its residual stream, if known.
        origin: the model's weights, dtype and template.
        artifacts: the folder that holds ``vectors/`` and ``normalized_vectors/``.
    """

    choice: ModelChoice
    width: int | None
    origin: Origin
    artifacts: Path

    def read(
        self, behavior: str, layer: int, *, normalized: bool = True, of: str | None = None
    ) -> SteeringVector:
        """A vector of one layer, to be added there.

        Args:
            behavior: whose.
            layer: made at it and added at it.
            normalized: as the scripts add it, or as it was generated.
            of: another model's name in file names, whose vector is meant.

        Raises:
            UserError: missing (names the command that makes it), damaged, of another width, or of
                other weights, another dtype or template than this model's.
        """
        paths = Paths(self.artifacts, REPOSITORY / "datasets")
        label = of or self.choice.label
        vector = SteeringVector.read(
            paths,
            behavior,
            layer,
            label,
            normalized=normalized,
            width=self.width,
            made_by=self._how_to_make(paths, behavior, layer, normalized=normalized),
        )
        if of is None and vector.path is not None:
            check_steered(vector.path, vector.origin, self.origin)
        names = (self.choice.label, label)
        h = residual_norm(paths, behavior, layer, names, self.origin.weights)
        return replace(vector, residual_norm=h)

    def _how_to_make(self, paths: Paths, behavior: str, layer: int, *, normalized: bool) -> str:
        folder, base = "", " --use_base_model" if self.choice.base else ""
        if paths.artifacts.resolve() != REPOSITORY:
            folder = f" --artifacts_dir {shlex.quote(str(paths.artifacts))}"
        command = (
            f"./generate_vectors.py --behaviors {shlex.quote(behavior)} --layers {layer} --model "
            f"{shlex.quote(self.choice.source)}{base}{folder}"
        )
        known = paths.behaviors_with_vectors(normalized=normalized)
        meant = "" if behavior in known else did_you_mean([behavior], known)
        return command + (f" && ./normalize_vectors.py{folder}" if normalized else "") + meant
