"""The vectors that an analysis is about: which there are, which were asked for, their values."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import UserError
from utils.files.contents import combined_digest
from utils.files.paths import Paths
from utils.files.subsets import ranges
from utils.text.listing import numbered, shortened
from utils.vectors.origin import check_alike, recorded_origin, vector_origin
from utils.vectors.similarity import Array, mean_known, paired_cosines
from utils.vectors.stored import read_vector

MADE_BY = "./generate_vectors.py --layers ..."


class Key(NamedTuple):
    """Which vector: the model's name as it stands in the files, the behaviour's id, the layer."""

    model: str
    behavior: str
    layer: int


Series = tuple[str, str]
"""The vectors of one model and behaviour over layers: (model, behaviour)."""


@dataclass
class VectorSet:
    """Vectors of some models, behaviours and layers; any of them may be missing.

    Attributes:
        models, behaviors: in the order in which they are shown.
        raw: float64 vectors of shape (width,); one width for each model.
        normalized: the same after normalising, where there is such a file.
        notes: what is missing or odd, a sentence each, for the user.
    """

    models: list[str]
    behaviors: list[str]
    raw: dict[Key, Array] = field(default_factory=dict)
    normalized: dict[Key, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def layers(self, model: str, behavior: str) -> list[int]:
        """Layers that have a raw vector, in ascending order."""
        return sorted(k.layer for k in self.raw if (k.model, k.behavior) == (model, behavior))

    def directed_layers(self, model: str, behavior: str) -> list[int]:
        """The same without those whose vector is zero and has no direction."""
        layers = self.layers(model, behavior)
        return [n for n in layers if self.raw[Key(model, behavior, n)].any()]

    def behaviors_of(self, model: str) -> list[str]:
        return [b for b in self.behaviors if self.layers(model, b)]

    def models_of(self, behavior: str) -> list[str]:
        return [m for m in self.models if self.layers(m, behavior)]

    def stack(self, model: str, behavior: str, layers: Sequence[int]) -> Array:
        """Raw vectors at these layers, shape (layers, width)."""
        return np.stack([self.raw[Key(model, behavior, n)] for n in layers])

    def cosines(self, first: Series, second: Series) -> tuple[list[int], Array]:
        """Cosine of two series, layer by layer.

        Returns:
            The layers that both have, ascending, and the cosines at them, shape (layers,); no
            layer where the two models differ in width.
        """
        shared = sorted(set(self.layers(*first)) & set(self.layers(*second)))
        if not shared:
            return [], np.zeros(0)
        stacks = [self.stack(*series, shared) for series in (first, second)]
        if stacks[0].shape != stacks[1].shape:
            return [], np.zeros(0)
        return shared, paired_cosines(*stacks)

    def mean_cosines(self, series: Sequence[Series], layer: int | None) -> Array:
        """Cosines of every series with every series, at one layer or their mean over layers.

        Args:
            series: n of them.
            layer: which; ``None``: the mean over all layers that the two have.

        Returns:
            Shape (n, n), symmetric, ones on the diagonal; NaN for two that cannot be compared.
        """
        result = np.full((len(series), len(series)), np.nan)
        for i, first in enumerate(series):
            for j, second in enumerate(series[: i + 1]):
                layers, cosines = self.cosines(first, second)
                at = [c for n, c in zip(layers, cosines, strict=True) if layer in (None, n)]
                result[i, j] = result[j, i] = mean_known(np.array(at, dtype=np.float64))
        return result


def comparable_models(vectors: VectorSet, behavior: str) -> list[tuple[str, str]]:
    """Pairs of models whose vectors of a behaviour can be compared."""
    pairs = combinations(vectors.models_of(behavior), 2)
    return [(a, b) for a, b in pairs if vectors.cosines((a, behavior), (b, behavior))[0]]


def every_key(paths: Paths) -> list[Key]:
    """All raw vectors that there are."""
    return [
        Key(model, behavior, layer)
        for behavior in paths.behaviors_with_vectors()
        for layer, model in paths.vectors_of(behavior)
    ]


def hashes_of(keys: Sequence[Key], paths: Paths) -> dict[Key, str]:
    """A short hash of each vector's files, raw and normalised."""
    return {
        key: combined_digest(
            paths.vector(key.behavior, key.layer, key.model, normalized=normalized)
            for normalized in (False, True)
        )
        for key in keys
    }


def _choose(wanted: Sequence[str] | None, known: list[str], what: str, fix: str) -> list[str]:
    unknown = [w for w in dict.fromkeys(wanted or []) if w not in known]
    if unknown:
        raise UserError(
            f"no vectors for {what} {shortened(unknown)}; there are: {shortened(known)}\n{fix}"
        )
    return list(dict.fromkeys(wanted or known))


def select(
    paths: Paths,
    *,
    behaviors: Sequence[str] | None,
    layers: Sequence[int] | None,
    models: Sequence[str] | None,
    flags: str = "",
) -> tuple[VectorSet, list[Key]]:
    """The vectors asked for that exist, not read yet, and notes on those that do not.

    Args:
        paths: where to look: the raw vectors' folder.
        behaviors, layers, models: ``None`` for all.
        flags: folder flags for the commands that messages show.

    Returns:
        A set without values, and the keys of the files to read, sorted.

    Raises:
        UserError: no vectors at all, or none of a behaviour, model or layer asked for.
    """
    found = every_key(paths)
    if not found:
        raise UserError(
            f"no vectors in {paths.artifacts / 'vectors'}\nMake them with: {MADE_BY}{flags}"
        )
    fix = f"Make them with: {MADE_BY}{flags}"
    shown = _choose(models, sorted({k.model for k in found}), "model", fix)
    found = [k for k in found if k.model in shown]
    ids = _choose(behaviors, sorted({k.behavior for k in found}), "behaviour", fix)
    found = [k for k in found if k.behavior in ids]
    known = {k.layer for k in found}
    unknown = sorted(set(layers or []) - known)
    if unknown:
        wanted = numbered(unknown)
        raise UserError(
            f"no vectors at layers {ranges(unknown)}; there are layers {ranges(list(known))}\n"
            f"Make them with: ./generate_vectors.py --layers {wanted} ...{flags}"
        )
    chosen = VectorSet(shown, ids)
    keys = sorted(k for k in found if layers is None or k.layer in layers)
    chosen.notes += _missing(chosen, keys, layers, flags)
    return chosen, keys


def _missing(
    chosen: VectorSet, keys: list[Key], layers: Sequence[int] | None, flags: str
) -> Iterator[str]:
    """What a model lacks: layers asked for, or that it has for other behaviours."""
    for model in chosen.models:
        wanted = set(layers or []) or {k.layer for k in keys if k.model == model}
        lacking: dict[tuple[int, ...], list[str]] = {}
        for behavior in chosen.behaviors:
            layers_lacking = wanted - {k.layer for k in keys if k[:2] == (model, behavior)}
            lacking.setdefault(tuple(sorted(layers_lacking)), []).append(behavior)
        for missing, behaviors in lacking.items():
            if missing:
                yield (
                    f"{model} has no vector of {', '.join(behaviors)} at layers {ranges(missing)}; "
                    f"make it with: ./generate_vectors.py --behaviors {' '.join(behaviors)} "
                    f"--layers {numbered(missing)} ...{flags}"
                )


def read(chosen: VectorSet, keys: Sequence[Key], paths: Paths, flags: str = "") -> None:
    """Read the raw vectors and those of the normalised ones that exist into a set.

    Args:
        chosen: the set to fill; notes on zero vectors, and on normalised vectors that are missing
            or not those of the raw ones, are added to it.
        keys: which.
        paths: where they lie.
        flags: folder flags for the commands that messages show.

    Raises:
        UserError: a file is damaged, not finite, of another width than the model's others, or made
            with another model than they, by name the same.
    """
    _check_origins(keys, paths)
    widths: dict[str, tuple[int, Path]] = {}
    for key in keys:
        path = paths.vector(key.behavior, key.layer, key.model, normalized=False)
        chosen.raw[key] = _load(path, widths.setdefault(key.model, (0, path)))
        widths[key.model] = (len(chosen.raw[key]), widths[key.model][1])
        path = paths.vector(key.behavior, key.layer, key.model, normalized=True)
        if path.exists():
            chosen.normalized[key] = _load(path, widths[key.model])
    chosen.notes += [
        f"the vector of {key.behavior} at layer {key.layer} of {key.model} is zero: "
        "its cosines are undefined and left empty"
        for key, vector in chosen.raw.items()
        if not vector.any()
    ]
    chosen.notes += _about_normalized(chosen, flags)
    models: dict[int, list[str]] = {}
    for model, (width, _) in widths.items():
        models.setdefault(width, []).append(model)
    if len(models) > 1:
        groups = "; ".join(f"{', '.join(m)} (width {w})" for w, m in sorted(models.items()))
        chosen.notes.append(f"models of different widths are not compared: {groups}")


def _check_origins(keys: Sequence[Key], paths: Paths) -> None:
    """What bears one model's name must come from one model."""
    for model in dict.fromkeys(key.model for key in keys):
        origins = {}
        for _, behavior, layer in (key for key in keys if key.model == model):
            raw = paths.vector(behavior, layer, model, normalized=False)
            origins[raw] = recorded_origin(raw)
            path = paths.vector(behavior, layer, model, normalized=True)
            if path.exists():
                origins[path] = vector_origin(paths, behavior, layer, model, normalized=True)
        check_alike(origins, "compared")


def _load(path: Path, first: tuple[int, Path]) -> Array:
    """One file's vector in float64; ``first``: the model's width (0: not known) and its file."""
    vector = np.asarray(read_vector(path, made_by=MADE_BY).tensor.numpy(), dtype=np.float64)
    width, other = first
    if width not in (0, len(vector)):
        raise UserError(
            f"{path} has width {len(vector)}, but {other} has width {width}: files under one "
            "model's name must come from one model; delete the wrong one and make it again"
        )
    return vector


def _about_normalized(chosen: VectorSet, flags: str) -> Iterator[str]:
    """Normalised vectors that are missing, or point elsewhere than the raw ones beside them."""
    absent = [k for k in chosen.raw if k not in chosen.normalized]
    if absent:
        of = ", ".join(
            f"{sum(k.model == m for k in absent)} of {m}"
            for m in chosen.models
            if any(k.model == m for k in absent)
        )
        yield f"vectors without a normalised one: {of}; make them with: {_normalize(absent)}{flags}"
    stale = [
        key
        for key, vector in chosen.normalized.items()
        # float32 files of one direction agree to 1e-7
        if chosen.raw[key].any()
        and not paired_cosines(chosen.raw[key][None], vector[None])[0] > 0.9999
    ]
    if stale:
        some = f"{stale[0].behavior}, layer {stale[0].layer}, {stale[0].model}"
        yield (
            f"normalised vectors that were made from others than those in vectors/: {len(stale)} "
            f"({some}{' ...' if len(stale) > 1 else ''}); make them again with: "
            f"{_normalize(stale)} --overwrite{flags}"
        )


def _normalize(keys: Sequence[Key]) -> str:
    models = {k.model for k in keys}
    one = f" --model {shlex.quote(models.pop())}" if len(models) == 1 else ""
    return f"./normalize_vectors.py{one}"
