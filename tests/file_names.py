"""Two names of results, variations of them, and a folder to put files into."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from utils.files.names import ResultName, Variant
from utils.files.paths import Paths

LLAMA = ResultName(13, 1.0, "sycophancy", Variant("ab", use_base_model=False, model_size="7b"))
OTHER = ResultName(13, 1.0, "sycophancy", Variant("ab", model="SmolLM2-135M-Instruct-Q4_1"))


def varied(name: ResultName, **parts: Any) -> ResultName:
    """The same name with other parts, of its cell and of its variant."""
    own = {key: parts.pop(key) for key in ("layer", "strength") if key in parts}
    return replace(name, variant=replace(name.variant, **parts), **own)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path / "datasets")


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path
