"""requirements.txt names every package that is imported anywhere, at the version that is tested."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version

from running import ROOT

# Run or loaded by their names: by make, by pytest, by accelerate.
NOT_IMPORTED = {"ruff", "mypy", "pytest-xdist", "openmpi"}
# Imported where it is installed; who wants it installs it (docs/harness.md).
OPTIONAL = {"lm_eval"}
_LINE = re.compile(r"([\w.-]+)==([^;\s]+)( *;.*)?")


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(found), "every line is an exact version"
    here = [match for match in found if match and (sys.platform == "linux" or not match[3])]
    return {normal(match[1]): match[2] for match in here}


def sources() -> Iterator[str]:
    """The text of every module, test and benchmark, and the cells of the notebook."""
    files = [*ROOT.glob("*.py")]
    files += [f for name in ("utils", "benchmarks", "tests") for f in (ROOT / name).rglob("*.py")]
    yield from (file.read_text(encoding="utf-8") for file in files)
    for notebook in ROOT.glob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imported(source: str) -> set[str]:
    """Top-level names of all imports of a text, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


def packages() -> set[str]:
    """The packages, by their names on PyPI, that the project imports."""
    own = {path.stem for path in [*ROOT.glob("*.py"), *(ROOT / "tests").rglob("*.py")]}
    own |= {path.name for path in ROOT.iterdir() if path.is_dir()}
    names = set[str]().union(*map(imported, sources())) - own - OPTIONAL - sys.stdlib_module_names
    provided = packages_distributions()
    return {normal(provided[name][0]) for name in names}


def test_imports_are_found_wherever_they_stand() -> None:
    text = "import a.b\nfrom c import d\nfrom . import e\ndef f() -> None:\n    import g as h"
    assert imported(text) == {"a", "c", "g"}


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    declared = set(pinned())
    assert packages() - declared == set(), "imported, and not in requirements.txt"
    assert declared - packages() == NOT_IMPORTED, "in requirements.txt, and not imported"


def test_the_versions_declared_are_those_installed() -> None:
    assert {name: version(name).partition("+")[0] for name in pinned()} == pinned()
