"""README and docs against the repository: the tree, the links, the lengths, the reasons."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from running import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "datasets/README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def tracked() -> set[str]:
    found = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip("not a clone")
    return set(found.stdout.splitlines())


def tree() -> tuple[list[str], list[str]]:
    """The names in the README's tree: top level, and in ``utils/``; a folder ends in a slash."""
    section = README.read_text().split("## The repository")[1]
    top: list[str] = []
    utils: list[str] = []
    for line in section.split("```")[1].strip("\n").splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if line.startswith("   "):
            continue  # what the names of the line before mean
        (utils if line.startswith("  ") else top).extend(names)
    return top, utils


def names_below(files: set[str], folder: str) -> list[str]:
    """Files and folders right below a folder, a folder with a slash."""
    inside = [f.removeprefix(folder) for f in files if f.startswith(folder)]
    return sorted({f.split("/")[0] + "/" * ("/" in f) for f in inside} - {"__init__.py"})


def test_the_tree_is_the_repository() -> None:
    files = tracked()
    top, utils = tree()
    assert len(utils) > 20
    assert sorted(top) == names_below(files, "")
    assert sorted(utils) == names_below(files, "utils/")


def test_the_readme_is_read_on_one_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 110
    for command in ("make demo", "make test", "make lint"):
        assert command in text


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(ROOT / link).resolve() for link in LINK.findall(README.read_text())}
    assert {p.resolve() for p in PAGES if p.parent.name == "docs"} <= reached


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_point_at_something(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_tests_and_scripts_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / name).is_file(), f"{page}: {name}"
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"`(test_\w+)`", text)) <= files
    for script in re.findall(r"\./(\w+\.py)", text):
        assert (ROOT / script).is_file(), f"{page}: {script}"


def test_every_requirement_has_a_reason() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    required = {re.split("==", line)[0] for line in lines if line and not line.startswith("#")}
    cells = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    named = {name for cell in cells[1:] for name in cell.split(", ")}
    assert named == required
