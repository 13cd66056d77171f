"""docs/your_own_behaviour.md, followed word for word in a clone, on the bundled model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from running import ROOT, bash
from warm_python import warm_python

PAGE = ROOT / "docs/your_own_behaviour.md"
RAW = "datasets/raw/formal-tone/dataset.json"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


class Clone:
    """What git knows of the project, as it stands here, and the output of the page's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        # results and figures of others are not needed, and are most of the project
        for name in names:
            if name and (ROOT / name).is_file() and not name.startswith(("results/", "analysis/")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        self.said = [self._run(block) for block in blocks("sh")]

    def _run(self, commands: str) -> str:
        warm = f"export PATH={warm_python()}:$PATH"
        return bash(f". .venv/bin/activate\n{warm}\n{commands}", self.folder)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    if not (ROOT / ".venv/bin/activate").exists():
        pytest.skip("no .venv beside this project")
    return Clone(tmp_path_factory.mktemp("page"))


def test_every_command_of_the_page_is_run() -> None:
    scripts = re.findall(r"^\./(\w+)\.py", "\n".join(blocks("sh")), re.MULTILINE)
    assert len(scripts) >= 6
    assert {"generate_vectors", "normalize_vectors", "plot_results"} <= set(scripts)


def test_the_page_ends_with_a_figure_and_answers(clone: Clone) -> None:
    folder = clone.folder / "analysis/formal-tone"
    assert list(folder.glob("LAYER_SWEEP*.png"))
    results = list((clone.folder / "results/formal-tone").glob("results_*type=ab*.json"))
    assert len(results) == 30 * 3
    answers = list((clone.folder / "results/formal-tone").glob("*type=open_ended*.json"))
    assert {len(json.loads(path.read_text())) for path in answers} == {10}


def test_nothing_of_the_shipped_behaviours_is_changed(clone: Clone) -> None:
    for folder in ("vectors", "normalized_vectors"):
        shipped = sorted((ROOT / folder / "refusal").glob("*SmolLM2*.pt"))
        assert len(shipped) == 30
        for path in shipped:
            copy = clone.folder / folder / "refusal" / path.name
            assert copy.read_bytes() == path.read_bytes()
    assert any("fixed by the first normalisation" in text for text in clone.said)


def test_the_formats_shown_are_the_formats_read() -> None:
    items, description = (json.loads(block) for block in blocks("json"))
    example = json.loads((ROOT / "docs/examples/formal-tone.json").read_text())
    assert set(items[0]) == set(example[0])
    shipped = json.loads((ROOT / "datasets/generate/refusal/behavior.json").read_text())
    assert set(description) == set(shipped) - {"id"}
    matching = [row["answer_matching_behavior"] for row in example]
    assert matching.count("(A)") == matching.count("(B)") == len(example) / 2
