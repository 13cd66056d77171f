"""A bench to run the scripts on: one tiny model, one data folder, one artefact folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from conftest import write_json
from running import call, every_file

import utils.models.choice
import utils.models.loading
from llama_wrapper import LlamaWrapper
from utils.errors import UserError

GENERATE, NORMALIZE = "generate_vectors", "normalize_vectors"
PROMPT, PLOT = "prompting_with_steering", "plot_results"
RUNNING = [GENERATE, PROMPT]
FLAGS = {GENERATE: ["--layers", 1], PROMPT: ["--layers", 1, "--multipliers", 0]}
LAYERS = (0, 1, 2, 3)


@dataclass
class Bench:
    """A tiny model, a data folder and an artefact folder, the two below one root."""

    root: Path
    model: Path
    name: str = "artifacts"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def artifacts(self) -> Path:
        return self.root / self.name

    @property
    def shared(self) -> tuple[object, ...]:
        return ("--artifacts_dir", self.artifacts, "--datasets_dir", self.datasets)

    @property
    def all(self) -> tuple[object, ...]:
        return (*self.shared, "--model", self.model)

    def generate(self, *more: object) -> int:
        return call(GENERATE, "--layers", *LAYERS, *self.all, *more)

    def normalize(self, *more: object) -> int:
        return call(NORMALIZE, *self.shared, *more)

    def prompt(self, *more: object) -> int:
        grid = ("--layers", *LAYERS, "--multipliers", -1, 0, 1)
        return call(PROMPT, *grid, *self.all, *more)

    def plot(self, *more: object) -> int:
        return call(PLOT, *self.all, *more)

    def flags(self, script: str, *more: object, model: bool = True) -> list[object]:
        """A correct command; ``more`` comes last and so wins."""
        flags = [*FLAGS.get(script, []), *self.shared]
        if model:
            flags += ["--model", self.model.name if script == NORMALIZE else self.model]
        return [*flags, *more]

    def refused(self, script: str, *more: object, model: bool = True) -> str:
        """Run a script that must refuse its input, and write nothing; its message."""
        before = every_file(self.root)
        with pytest.raises(UserError) as caught:
            call(script, *self.flags(script, *more, model=model))
        assert every_file(self.root) == before
        message = str(caught.value)
        assert message.strip() and "Traceback" not in message
        return message

    def refused_by_parser(self, script: str, *more: object) -> None:
        before = every_file(self.root)
        with pytest.raises(SystemExit) as caught:
            call(script, *self.flags(script, *more))
        assert caught.value.code == 2
        assert every_file(self.root) == before

    def vector(self, kind: str, behavior: str, layer: int, label: str = "tiny-llama") -> Path:
        return self.artifacts / kind / behavior / f"vec_layer_{layer}_{label}.pt"

    def put_vector(self, kind: str, behavior: str, layer: int, vector: torch.Tensor) -> Path:
        path = self.vector(kind, behavior, layer)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(vector, path)
        return path

    def result(self, behavior: str, layer: int, multiplier: float, more: str = "") -> Path:
        name = f"results_layer={layer}_multiplier={multiplier}_behavior={behavior}_type=ab"
        return self.artifacts / "results" / behavior / f"{name}{more}_model=tiny-llama.json"

    def put_result(self, behavior: str, multiplier: float, rows: list[dict[str, Any]]) -> Path:
        return write_json(self.result(behavior, 1, multiplier), rows)


@pytest.fixture
def bench(tiny_folder: Path, datasets: Path) -> Bench:
    return Bench(datasets.parent, tiny_folder)


def forbid_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the model was loaded, which is not needed here or comes too early")

    monkeypatch.setattr(LlamaWrapper, "load", refuse)
    monkeypatch.setattr(utils.models.loading, "load_model", refuse)


@pytest.fixture(autouse=True)
def the_model_never_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """For files of tests whose input must be refused before: they import this fixture."""
    forbid_loading(monkeypatch)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for the bundled model."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CAA_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which no Hugging Face token can be found; the folder for ``.env``."""
    home = tmp_path / "hub"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    # huggingface_hub looks into the environment once, when it is imported
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.setattr(utils.models.choice, "REPOSITORY", folder)
    monkeypatch.chdir(folder)
    return folder


def says(message: str, *wanted: object) -> None:
    for part in map(str, wanted):
        assert part in message, f"{part!r} is not in the message:\n{message}"
