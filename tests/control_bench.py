"""Two behaviours of a tiny model with vectors and activations, and the scripts on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from conftest import QUESTIONS, pair, write_json
from running import call

LAYERS, DRAWS = (1, 2), 19


def text_pair(question: str, matching: str) -> dict[str, str]:
    """A question whose two choices say different things at different letters."""
    yes, no = ("A", "B") if matching == "A" else ("B", "A")
    texts = {yes: f"Yes, {question[:9].lower()} it is.", no: "No, by no means at all."}
    row = pair(question, matching)
    choices = f"Choices:\n (A) {texts['A']}\n (B) {texts['B']}"
    return row | {"question": f"{question}\n\n{choices}"}


class ControlBench:
    """One data folder, one artefact folder.

    Args:
        model: a tiny model's folder.
        folder: gets ``datasets`` and ``artifacts``.
    """

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.datasets, self.artifacts = folder / "datasets", folder / "artifacts"
        self.flags = ("--artifacts_dir", self.artifacts, "--datasets_dir", self.datasets)

    def fill(self) -> ControlBench:
        """With data, vectors, activations. Question 4 of calm has no other order."""
        for name, letters in (("bold", "ABBA"), ("calm", "AB")):
            rows = [text_pair(q, letters[i % len(letters)]) for i, q in enumerate(QUESTIONS)]
            generate = self.datasets / "generate" / name
            write_json(generate / "generate_dataset.json", rows)
            write_json(generate / "behavior.json", {"name": name.title()})
            if name == "calm":
                rows[3]["question"] = rows[3]["question"].replace("No, by", "(A) is wrong. No, by")
            write_json(self.datasets / "test" / name / "test_dataset_ab.json", rows[:6])
        model = (*self.flags, "--model", self.model)
        call("generate_vectors", "--layers", *LAYERS, "--save_activations", *model)
        call("normalize_vectors", *self.flags)
        return self

    def copy(self, folder: Path) -> ControlBench:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return ControlBench(self.model, folder)

    def prompt(self, *more: object, multipliers: tuple[float, ...] = (-2, 2)) -> int:
        grid = ("--layers", *LAYERS, "--multipliers", *multipliers, "--model", self.model)
        return call("prompting_with_steering", *grid, *self.flags, "--behaviors", "calm", *more)

    def plot(self, *more: object) -> int:
        return call("plot_results", *self.flags, "--model", self.model, *more)

    def place(self, layer: int, multiplier: float, behavior: str = "calm") -> Path:
        name = f"controls_layer={layer}_multiplier={multiplier}_behavior={behavior}_type=ab"
        return self.artifacts / "results" / behavior / f"{name}_model=tiny-llama.json"

    def read(self, layer: int, multiplier: float) -> dict[str, Any]:
        content = json.loads(self.place(layer, multiplier).read_text())
        assert isinstance(content, dict)
        return content
