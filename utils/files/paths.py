"""Where every file lives and what it is called. No other module builds a file name.

Names follow the published repository of the paper, so that its files can be dropped in.
They are built exactly and parsed exactly; nothing searches by substring, because
``layer=1`` is a substring of ``layer=15``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from utils.files.names import CONTROLS, RESULTS, WHOLE, ResultName

REPOSITORY = Path(__file__).resolve().parents[2]

_VECTOR_NAME = re.compile(rf"vec_layer_({WHOLE})_(.+)\.pt")
_ACTIVATIONS_NAME = re.compile(rf"activations_(?:pos|neg)_({WHOLE})_(.+)\.pt")


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

    def page(self, model: str, part: str = "") -> Path:
        """One page of all that was measured of a model, or of some behaviours."""
        return self.figure(f"report_{model}{part}", suffix=".html")

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
        return self._names(behavior, RESULTS)

    def controls_of(self, behavior: str) -> list[ResultName]:
        """The results in whose places controls of one behaviour were measured."""
        return self._names(behavior, CONTROLS)

    def _names(self, behavior: str, prefix: str) -> list[ResultName]:
        folder = self.artifacts / "results" / behavior
        ends = (p.name.removeprefix(prefix) for p in sorted(folder.glob(f"{prefix}*.json")))
        names = (ResultName.parse(RESULTS + end) for end in ends)
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
    own = rf"({re.escape(main.name)}(?:_rank=({WHOLE}))?)(?:_lock|_activations)?"
    matches = (re.fullmatch(own, path.name) for path in main.parent.glob(".*"))
    found = {(int(m[2] or 0), m[1]) for m in matches if m}
    return [main.with_name(name) for _, name in sorted(found)]


def record_path(artifact: Path) -> Path:
    """The record of what made an artefact lies beside it under a hidden name."""
    return artifact.with_name(f".{artifact.name}.record")
