"""Activations of a made-up model: by themselves, and saved with the data that they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import artifacts, call, numbers_of

from utils.activations.saved import Answers
from utils.errors import UserError
from utils.files.paths import Paths

AB, BA = ("A", "B"), ("B", "A")


def make_answers(
    seed: int, pairs: int, *, signal: float = 0.0, letter: float = 5.0, share_a: float = 0.5
) -> Answers:
    """Noise, a common offset, what each question adds, what the letter adds, and a signal."""
    generator = np.random.default_rng(seed)
    width = 20
    letters = [AB if i < round(pairs * share_a) else BA for i in range(pairs)]
    letters = [letters[i] for i in generator.permutation(pairs)]
    side = np.array([1.0 if pair == AB else -1.0 for pair in letters])[:, None]
    common = 10 * generator.normal(size=width) + 2 * generator.normal(size=(pairs, width))
    by_letter = side * letter * generator.normal(size=width) / 2
    vector = np.zeros(width)
    vector[3] = signal / 2
    noise = generator.normal(size=(2, pairs, width))
    return Answers(
        common + by_letter + vector + noise[0], common - by_letter - vector + noise[1], letters
    )


class Saved:
    """Activations of a made-up model in an artefact folder, and the data they belong to."""

    def __init__(self, datasets: Path, folder: Path) -> None:
        self.datasets, self.folder = datasets, folder
        self.flags = ("--artifacts_dir", folder, "--datasets_dir", datasets)
        self.paths = Paths(folder, datasets)

    def put(self, behavior: str, layer: int, model: str = "m", pairs: int = 8) -> Answers:
        """Write one layer: values that say which behaviour, layer and model they are of."""
        seed = sum(map(ord, f"{behavior} {layer} {model}"))
        values = make_answers(seed, pairs)
        for sign, matrix in (("pos", values.matching), ("neg", values.other)):
            path = self.paths.activations(behavior, sign, layer, model)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(torch.tensor(matrix, dtype=torch.float32), path)
        return values

    def change(self, sign: str, change: Any, layer: int = 1, behavior: str = "calm") -> Path:
        path = self.paths.activations(behavior, sign, layer, "m")
        torch.save(change(torch.load(path, weights_only=True)), path)
        return path

    def plot(self, *more: object) -> int:
        return call("plot_activations", *self.flags, *more)

    def refused(self, *more: object) -> str:
        before = artifacts(self.folder)
        with pytest.raises(UserError) as error:
            self.plot(*more)
        assert artifacts(self.folder) == before, "nothing is drawn"
        return str(error.value)

    def text(self, stem: str, behavior: str = "calm", model: str = "m") -> list[dict[str, str]]:
        path = self.folder / "analysis" / behavior / f"{stem}_model={model}.txt"
        assert path.with_suffix(".png").stat().st_size > 5000
        return numbers_of(path)


@pytest.fixture
def saved(datasets: Path, tmp_path: Path) -> Saved:
    return Saved(datasets, tmp_path / "out")


@pytest.fixture
def generated(tiny_folder: Path, saved: Saved) -> Saved:
    call("generate_vectors", "--layers", 0, 1, 2, "--save_activations", *saved.flags, "--model",
         tiny_folder)  # fmt: skip
    return saved
