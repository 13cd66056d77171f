"""Finetuning runs on a tiny model: their data, their options, what they wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import many_rows, write_json

MANY = many_rows(3)


@pytest.fixture
def pairs(datasets: Path) -> Path:
    write_json(datasets / "generate/calm/generate_dataset.json", MANY)
    return datasets


@pytest.fixture
def common(pairs: Path, tiny_folder: Path) -> list[object]:
    options: list[object] = ["--behavior", "calm", "--datasets_dir", pairs, "--model", tiny_folder]
    return [*options, "--lr", 0.05]


def curve_of(folder: Path) -> tuple[list[list[float]], list[list[float]]]:
    """The numbers of the curve's two tables; what was done stands below them."""
    (path,) = folder.rglob("finetune_*.txt")
    blocks = path.read_text().split("\n\n")[:2]
    tables = [[list(map(float, line.split())) for line in b.splitlines()[1:]] for b in blocks]
    assert all(tables), "a table without a row"
    return tables[0], tables[1]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = (folder / "finetuned_models").glob("*.pt")
    weights = torch.load(path, weights_only=True)
    assert weights, "a file without weights"
    return weights
