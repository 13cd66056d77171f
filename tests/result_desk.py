"""Results without a model, and the scripts that draw them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from running import artifacts, call

from utils.files.names import ResultName, Variant
from utils.files.paths import Paths

MODEL = "tiny-llama"
LAYERS, MULTIPLIERS = (0, 1, 2), (-1.0, 0.0, 1.0)


CELLS = {(1, 0.5, 0.1): 0.03, (1, 1.0, 0.2): 0.05, (2, 1.0, None): 0.4}


def choice(**changes: Any) -> dict[str, Any]:
    """As tune.py writes it, with what tables need."""
    cells = [
        {"layer": n, "multiplier": m, "dose": dose, "kl": kl} for (n, m, dose), kl in CELLS.items()
    ]
    effect = {"mean": 0.4593, "low": 0.21, "high": 0.7, "n": 50}
    # the same dose of the vector of all pairs is another multiplier
    test = {"layer": 1, "multiplier": 0.9, "dose": 0.2, "kl": 0.06, "effect": effect}
    found = {
        "unit": "dose",
        "direction": "both",
        "vector_sha256": {"1": "abc", "2": "def"},
        "splits": {"test": [*range(1, 51)]},
        "cells": cells,
        "chosen": cells[1],
        "test": test,
    }
    return found | changes


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
