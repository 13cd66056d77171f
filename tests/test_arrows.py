"""The check of imports: silent on this project, and not on a wrong import."""

from __future__ import annotations

import pytest
from arrows import FLOOR, MOST_NAMES, modules, wrong
from running import ROOT

SOURCES = modules(ROOT)


def with_line(module: str, line: str) -> dict[str, str]:
    return SOURCES | {module: f"{SOURCES[module]}\n{line}\n"}


def test_every_arrow_of_this_project_points_down() -> None:
    assert wrong(SOURCES) == []
    assert {m.split(".")[1] for m in SOURCES if m.startswith("utils.")} <= {
        part.split(".")[1] for part in FLOOR if part.startswith("utils.")
    }, "every package has its layer"


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        ("utils.files.paths", "from utils.scores import tables", "does not lie below"),
        ("utils.blocks.hooks", "import llama_wrapper", "does not lie below"),
        ("utils.data.items", "def f(): from utils.models.choice import x", "does not lie below"),
        ("utils.lens.logit_lens", "from utils.finetuning import loop", "does not lie below"),
        ("llama_wrapper", "from utils.steering.grid import LetterGrid", "does not lie below"),
        ("utils.scores.cells", "from utils.cli import script", "does not lie below"),
        ("utils.files.locks", "from utils.files.artifacts import save", "a circle"),
    ],
)
def test_a_wrong_import_is_named(module: str, line: str, fault: str) -> None:
    assert [f for f in wrong(with_line(module, line)) if fault in f and module in f]


def test_a_script_that_needs_too_many_parts_is_named() -> None:
    parts = sorted(FLOOR)[: MOST_NAMES + 1]
    lines = "\n".join(f"import {part}" for part in parts)
    assert wrong({"a_script": lines} | dict.fromkeys(parts, "")) == [
        f"a_script imports from {MOST_NAMES + 1} parts, at most {MOST_NAMES} may"
    ]


def test_packages_are_small_and_files_short() -> None:
    folders: dict[str, int] = {}
    for module, source in SOURCES.items():
        if module.startswith("utils.") and source:
            folder = module.rpartition(".")[0]
            folders[folder] = folders.get(folder, 0) + 1
            assert source.count("\n") <= 300, module
    assert max(folders.values()) <= 12, folders
