"""Results without a model, and the scripts that draw them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from running import artifacts, call

from utils.files.names import ResultName, Variant
from utils.files.paths import Paths

MODEL = "tiny-llama"
LAYERS, MULTIPLIERS = (0, 1, 2), (-1.0, 0.0, 1.0)


class Desk:
    """One artefact folder; its probabilities follow from layer and strength."""

    def __init__(self, root: Path, datasets: Path) -> None:
        self.paths = Paths(root, datasets)
        self.flags = ("--artifacts_dir", root, "--datasets_dir", datasets)

    def put(self, behavior: str, layer: int, strength: float, shift: float = 0.0) -> Path:
        rows = []
        for number in range(6):
            p = 0.5 + 0.02 * strength * (layer + 1) + 0.01 * number + shift
            answers = {"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}
            rows.append({"question": f"{number}?", **answers, "a_prob": p, "b_prob": 0.9 - p})
        path = self.paths.result(ResultName(layer, strength, behavior, Variant("ab", model=MODEL)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
        return path

    def fill(self, behaviors: Sequence[str] = ("bold", "calm")) -> Desk:
        for behavior in behaviors:
            for layer in LAYERS:
                for multiplier in MULTIPLIERS:
                    self.put(behavior, layer, multiplier)
        return self

    def plot(self, *more: object) -> int:
        return call("plot_results", *self.flags, "--model", MODEL, *more)

    def figures(self) -> dict[str, bytes]:
        return artifacts(self.paths.artifacts / "analysis")
