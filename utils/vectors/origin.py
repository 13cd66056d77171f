"""Which model a vector belongs to: weights, dtype and template, carried from record to record.

Folder names do not tell models apart: ``x/final`` and ``y/final`` have one label. The records of
raw vectors and saved activations name what they were made with among their inputs; those of
normalised vectors and results repeat it as ``vector_origin``. What a record does not say is not
compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from utils.errors import UserError
from utils.files.artifacts import same_weights
from utils.files.contents import read_record
from utils.files.paths import Paths


@dataclass(frozen=True)
class Origin:
    """What something was made with; ``None`` where it is not known.

    Attributes:
        weights: as :func:`utils.models.identity.weights_fingerprint` has them.
        dtype: as :func:`utils.models.device.resolved_dtype` names it.
        template: hash of the prompt format.
    """

    weights: str | None = None
    dtype: str | None = None
    template: str | None = None

    @classmethod
    def of(cls, said: object) -> Origin:
        """From the inputs of a record, or from what :meth:`recorded` wrote."""
        fields = said if isinstance(said, Mapping) else {}
        texts = {name: fields.get(name) for name in ("weights", "dtype", "template")}
        return cls(**{name: text for name, text in texts.items() if isinstance(text, str)})

    def recorded(self) -> dict[str, str] | None:
        """The fields that are known, for a record; ``None`` if none is."""
        return {name: text for name, text in asdict(self).items() if text is not None} or None

    def differences(self, other: Origin) -> list[str]:
        """A line for each field that both know and that differs."""
        pairs = {name: (text, getattr(other, name)) for name, text in asdict(self).items()}
        return [
            f"{name}: {own} -> {others}"
            for name, (own, others) in pairs.items()
            if own is not None and others is not None and not _agree(name, own, others)
        ]

    def is_of(self, weights: str) -> bool:
        """Whether these are its weights, or it is the model that these were finetuned from.

        So it is where its own weights are not known.
        """
        models = (weights, weights.split("+")[0])
        return self.weights is None or any(_agree("weights", self.weights, m) for m in models)


UNKNOWN = Origin()


def _agree(name: str, own: str, other: str) -> bool:
    if name != "weights":
        return own == other
    return same_weights(own, other) or same_weights(other, own)


def recorded_origin(path: Path) -> Origin:
    """What the record of a raw vector, of saved activations or of a result says."""
    record = read_record(path)
    return UNKNOWN if record is None else Origin.of(record["inputs"])


def vector_origin(
    paths: Paths, behavior: str, layer: int, model: str, *, normalized: bool
) -> Origin:
    """What a vector was made with, as far as records tell.

    The record of a normalised vector of an earlier version names the raw vectors by their hashes
    only: the raw vector's own record tells, if it is of that one still.
    """
    raw = paths.vector(behavior, layer, model, normalized=False)
    if not normalized:
        return recorded_origin(raw)
    record = read_record(paths.vector(behavior, layer, model, normalized=True))
    if record is None:
        return UNKNOWN
    if "vector_origin" in record:
        return Origin.of(record["vector_origin"])
    source, sources = read_record(raw), record["inputs"].get("vectors")
    if source is None or not isinstance(sources, dict) or sources.get(behavior) != source["sha256"]:
        return UNKNOWN
    return Origin.of(source["inputs"])


def check_steered(path: Path, found: Origin, now: Origin) -> None:
    """Refuse a vector of another model, dtype or template than the run's.

    A finetuned model takes its own vectors and those of the model that it was trained from.

    Raises:
        UserError: says what differs and how to use the vector all the same.
    """
    if now.weights is not None and found.is_of(now.weights):
        now = replace(now, weights=None)
    differing = found.differences(now)
    if differing:
        label = path.name.removesuffix(".pt").split("_", 3)[3]
        raise UserError(
            f"{path} was made with another model than this run's, as its record says:\n  "
            + "\n  ".join(differing)
            + "\nMake it again with ./generate_vectors.py ... --overwrite and "
            "./normalize_vectors.py --overwrite, or keep the two apart by --artifacts_dir; "
            f"--override_vector_model {label} adds it all the same"
        )


def check_alike(origins: Mapping[Path, Origin], purpose: str) -> None:
    """Refuse files under one model's name that were made with different models.

    Args:
        origins: of each file.
        purpose: what the files were to be used for together, for the message.

    Raises:
        UserError: names two of them and what differs.
    """
    first: dict[str, tuple[Path, Origin]] = {}
    for path, origin in origins.items():
        for name, text in (origin.recorded() or {}).items():
            other, known = first.setdefault(name, (path, Origin(**{name: text})))
            differing = known.differences(Origin(**{name: text}))
            if differing:
                raise UserError(
                    f"{other} and {path} bear one model's name, but were made with different "
                    f"ones, as their records say:\n  {differing[0]}\n"
                    f"They cannot be {purpose} together: make one of them again with "
                    "--overwrite, or keep the two models apart by --artifacts_dir"
                )
