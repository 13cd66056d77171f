"""Where every file lives and what it is called. No other module builds a file name.

Names follow the published repository of the paper, so that its files can be dropped in.
They are built exactly and parsed exactly; nothing searches by substring, because
``layer=1`` is a substring of ``layer=15``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]

_WHOLE = r"(?:0|[1-9][0-9]*)"
_VECTOR_NAME = re.compile(rf"vec_layer_({_WHOLE})_(.+)\.pt")
_ACTIVATIONS_NAME = re.compile(rf"activations_(?:pos|neg)_({_WHOLE})_(.+)\.pt")


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
        return f"{_RESULTS}{cell}_{self.variant.stem()}.json"

    def controls_filename(self) -> str:
        """Of what control vectors do in its place; never taken for a result."""
        return _CONTROLS + self.filename().removeprefix(_RESULTS)

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
_RESULTS, _CONTROLS = "results_", "controls_"


def _joined(parts: Mapping[str, object]) -> str:
    return "_".join(f"{key}={value}" for key, value in parts.items() if value is not None)


def _result_pattern() -> re.Pattern[str]:
    strength = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
    # The name of a model may hold anything, "_limit=8" too; the rest is plain.
    patterns = dict.fromkeys(_COUNTS, _WHOLE)
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
        rf"{_RESULTS}layer=(?P<layer>{_WHOLE})_(?P<unit>{'|'.join(UNITS)})=(?P<strength>{strength})"
        rf"_behavior=(?P<behavior>[^=]+?)_type=(?P<type>[^=]+?){''.join(optional)}"
        rf"(?P<both_orders>{BOTH_ORDERS})?\.json"
    )


_RESULT_NAME = _result_pattern()


@dataclass(frozen=True)
class Paths:
    """All folders under one root, and the data folder, which may lie elsewhere."""

    artifacts: Path
    datasets: Path

    def description(self, behavior: str) -> Path:
        return self.datasets / "generate" / behavior / "behavior.json"

    def raw_data(self, behavior: str) -> Path:
        return self.datasets / "raw" / behavior / "dataset.json"

    def source_folder(self, behavior: str) -> Path:
        """Where the published files of a behaviour are kept as they came."""
        return self.datasets / "raw" / behavior / "source"

    def choice_test(self, test: str, file: str) -> Path:
        """TruthfulQA and MMLU, or this project's stand-ins for them."""
        return self.datasets / "test" / test / f"{file}.json"

    def generate_data(self, behavior: str) -> Path:
        return self.datasets / "generate" / behavior / "generate_dataset.json"

    def test_data(self, behavior: str, kind: str) -> Path:
        return self.datasets / "test" / behavior / f"test_dataset_{kind}.json"

    def neutral_prompts(self) -> Path:
        """Questions that have nothing to do with any behaviour, on which damage is measured."""
        return self.datasets / "neutral" / "neutral_prompts.json"

    def vectors_folder(self, *, normalized: bool) -> Path:
        return self.artifacts / ("normalized_vectors" if normalized else "vectors")

    def vector(self, behavior: str, layer: int, model: str, *, normalized: bool) -> Path:
        folder = self.vectors_folder(normalized=normalized)
        return folder / behavior / f"vec_layer_{layer}_{model}.pt"

    def vector_progress(self, behavior: str, model: str, rank: int = 0) -> Path:
        """Unfinished sums of a vector run (hidden; gone when the run has finished)."""
        part = f"_rank={rank}" if rank else ""
        return self.artifacts / "vectors" / behavior / f".progress_{model}{part}"

    def all_vector_progress(self, behavior: str, model: str) -> list[Path]:
        """The same of every rank of a run, the main rank's first."""
        return _all_ranks(self.vector_progress(behavior, model))

    def activations(self, behavior: str, sign: str, layer: int, model: str) -> Path:
        name = f"activations_{sign}_{layer}_{model}.pt"
        return self.artifacts / "activations" / behavior / name

    def finetuned(
        self, behavior: str, direction: str, layer: int | None, rank: int | None, limit: int | None
    ) -> Path:
        """Finetuned weights: a file, or for an adapter of some rank a folder."""
        stem = f"{behavior}_{direction}_finetune_{'all' if layer is None else layer}"
        # "limit" belongs to the results' own names, which end in the name of the weights
        stem += "" if limit is None else f"_pairs={limit}"
        name = f"{stem}.pt" if rank is None else f"{stem}_lora={rank}"
        return self.artifacts / "finetuned_models" / name

    def finetuning_state(self, weights: Path) -> Path:
        """The folder of an unfinished finetuning (hidden; gone when it has finished)."""
        return weights.with_name(f".training_{weights.name.removesuffix('.pt')}")

    def result(self, name: ResultName) -> Path:
        return self.artifacts / "results" / name.behavior / name.filename()

    def controls(self, name: ResultName) -> Path:
        """What control vectors do in the place of a result's vector, beside that result."""
        return self.artifacts / "results" / name.behavior / name.controls_filename()

    def scores(self, name: ResultName) -> Path:
        """The judge's scores of one open-ended result; the same name in a folder of its own."""
        return self.artifacts / "results" / "open_ended_scores" / name.behavior / name.filename()

    def journal(self, behavior: str, fingerprint: str, rank: int = 0) -> Path:
        """Finished questions of an unfinished sweep (hidden; gone when it has finished)."""
        part = f"_rank={rank}" if rank else ""
        return self.artifacts / "results" / behavior / f".journal_{fingerprint[:16]}{part}"

    def all_journals(self, behavior: str, fingerprint: str) -> list[Path]:
        """The same of every rank of a sweep, the main rank's first."""
        return _all_ranks(self.journal(behavior, fingerprint))

    def figure(self, stem: str, behavior: str | None = None, suffix: str = ".png") -> Path:
        folder = self.artifacts / "analysis"
        return (folder / behavior if behavior else folder) / f"{stem}{suffix}"

    def tuning(self, behavior: str, model: str) -> Path:
        """The layer and strength chosen for a behaviour; its tables and figure beside it."""
        return self.figure(f"tune_{model}", behavior, ".json")

    def figures(self, behavior: str | None = None) -> list[Path]:
        """The files of one behaviour's figures, or of those of several; none that is hidden."""
        folder = self.artifacts / "analysis" / (behavior or "")
        return sorted(p for p in folder.glob("[!.]*.*") if p.is_file())

    def drawn(self, kind: str, request: str) -> Path:
        """What is remembered of a request for figures (hidden, ignored by git)."""
        name = hashlib.sha256(request.encode()).hexdigest()[:16]
        return self.artifacts / "analysis" / f".drawn_{kind}_{name}.record"

    def results_of(self, behavior: str) -> list[ResultName]:
        """The names of all result files of one behaviour."""
        return self._names(behavior, _RESULTS)

    def controls_of(self, behavior: str) -> list[ResultName]:
        """The results in whose places controls of one behaviour were measured."""
        return self._names(behavior, _CONTROLS)

    def _names(self, behavior: str, prefix: str) -> list[ResultName]:
        folder = self.artifacts / "results" / behavior
        ends = (p.name.removeprefix(prefix) for p in sorted(folder.glob(f"{prefix}*.json")))
        names = (ResultName.parse(_RESULTS + end) for end in ends)
        return [n for n in names if n is not None and n.behavior == behavior]

    def vectors_of(self, behavior: str, *, normalized: bool = False) -> list[tuple[int, str]]:
        """``(layer, model)`` of every vector of one behaviour."""
        folder = self.vectors_folder(normalized=normalized) / behavior
        matches = (_VECTOR_NAME.fullmatch(p.name) for p in sorted(folder.glob("vec_layer_*.pt")))
        return sorted((int(m[1]), m[2]) for m in matches if m)

    def saved_activations(self) -> dict[str, list[tuple[int, str]]]:
        """``(layer, model)`` of each behaviour's saved activations, of either answer or both."""
        found = {}
        for folder in sorted((self.artifacts / "activations").glob("*/")):
            names = (_ACTIVATIONS_NAME.fullmatch(p.name) for p in folder.glob("activations_*.pt"))
            cells = {(int(m[1]), m[2]) for m in names if m}
            if cells:
                found[folder.name] = sorted(cells)
        return found

    def behaviors_with_vectors(self, *, normalized: bool = False) -> list[str]:
        folder = self.vectors_folder(normalized=normalized)
        names = [p.name for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
        return sorted(b for b in names if self.vectors_of(b, normalized=normalized))


def _all_ranks(main: Path) -> list[Path]:
    """A file of the main rank and those of the others, as far as anything of them is left."""
    own = rf"({re.escape(main.name)}(?:_rank=({_WHOLE}))?)(?:_lock|_activations)?"
    matches = (re.fullmatch(own, path.name) for path in main.parent.glob(".*"))
    found = {(int(m[2] or 0), m[1]) for m in matches if m}
    return [main.with_name(name) for _, name in sorted(found)]


def record_path(artifact: Path) -> Path:
    """The record of what made an artefact lies beside it under a hidden name."""
    return artifact.with_name(f".{artifact.name}.record")
