"""Vectors of made-up models in an artefact folder, and what analyze_vectors.py makes of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import call

import utils.drawing.plotting

BASE, CHAT, SMALL = "Llama-2-7b-hf", "Llama-2-7b-chat-hf", "small_limit=8"
BEHAVIORS = ("bold", "calm", "meek")
LAYERS = (0, 1, 2, 10, 11)
WIDTH = 16
Table = list[list[str]]


class VectorFolder:
    """An artefact folder with vectors, and what the script wrote and said about them."""

    def __init__(self, root: Path) -> None:
        self.root, self.datasets = root / "made", root / "datasets"
        self.datasets.mkdir(parents=True)
        self.output = ""

    def path(self, key: tuple[str, str, int], kind: str = "vectors") -> Path:
        model, behavior, layer = key
        return self.root / kind / behavior / f"vec_layer_{layer}_{model}.pt"

    def put(self, key: tuple[str, str, int], value: Any, kind: str = "vectors") -> Path:
        path = self.path(key, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(value, path)
        return path

    def get(self, model: str, behavior: str, layer: int, kind: str = "vectors") -> torch.Tensor:
        return torch.load(self.path((model, behavior, layer), kind), weights_only=True).double()

    def analyze(self, *more: object) -> int:
        folders = ("--artifacts_dir", self.root, "--datasets_dir", self.datasets)
        return call("analyze_vectors", *folders, *more)

    def table(self, name: str) -> Table:
        text = (self.root / "analysis" / f"{name}.txt").read_text()
        return [line.split("\t") for line in text.splitlines()]

    def matrix(self, name: str) -> tuple[list[str], np.ndarray]:
        """Labels and values of a matrix, whose header and first column must agree."""
        header, *rows = self.table(name)
        assert [row[0] for row in rows] == header[1:]
        values = [[float(v) if v else np.nan for v in row[1:]] for row in rows]
        return header[1:], np.array(values)

    def figures(self) -> set[str]:
        folder = self.root / "analysis"
        found = {str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.png")}
        texts = {str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.txt")}
        assert found == texts, "every figure has its numbers beside it"
        return found


def fill(folder: VectorFolder) -> VectorFolder:
    """Three behaviours of two models over five layers, of which one behaviour lacks one."""
    generator = torch.Generator().manual_seed(0)
    for behavior, layer in itertools.product(BEHAVIORS, LAYERS):
        shared = torch.randn(WIDTH, generator=generator)
        for model in (BASE, CHAT):
            noise = torch.randn(WIDTH, generator=generator)
            folder.put((model, behavior, layer), 10.0**layer * (shared + 0.5 * noise))
    folder.path((CHAT, "bold", 2)).unlink()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> VectorFolder:
    return VectorFolder(tmp_path)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn but not turned into pixels, which is what takes the time."""
    monkeypatch.setattr(utils.drawing.plotting, "png", lambda figure: b"picture")


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))
