"""Which way imports point: the layers of this project, bottom to top, and a check of every import.

``python tests/arrows.py`` (part of ``make lint``) names every import that points up, or sideways
to another package of the same layer, or nowhere, every circle of modules, and every script that
needs more than ten packages. Imports inside functions and for type checking count like all others.
import-linter would do for ``utils``, but has no place for single modules such as the wrapper.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

LAYERS = (
    ("utils.errors",),
    ("utils.ranks", "utils.stats", "utils.permutation"),
    ("utils.text",),
    ("utils.files",),
    ("behaviors",),
    ("utils.prompts",),
    ("utils.data",),
    ("utils.data_checks", "utils.blocks"),
    ("utils.weights",),
    ("utils.models",),
    ("utils.vectors",),
    ("llama_wrapper",),
    ("utils.steering",),
    ("utils.extraction", "utils.sweeps", "utils.batching"),
    ("utils.scores", "utils.activations", "utils.judging"),
    ("utils.drawing",),
    ("utils.figures",),
    ("utils.finetuning", "utils.lens", "utils.tuning"),
    ("utils.report", "utils.serving", "utils.harness"),
    ("utils.cli",),
    ("utils.plans",),
)
MOST_NAMES = 10
FLOOR = {part: floor for floor, parts in enumerate(LAYERS) for part in parts}


def part_of(module: str) -> str | None:
    """The part of the house in which a module lies; ``None`` for others' modules."""
    return next((p for p in FLOOR if module == p or module.startswith(f"{p}.")), None)


def imports(source: str) -> Iterator[str]:
    """Every module that a text names in an import, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # what is imported from a package may be a module of it
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong(sources: dict[str, str]) -> list[str]:
    """What is wrong with the imports of some modules.

    Args:
        sources: dotted name of a module -> its text. Modules outside all layers are scripts.
    """
    found = []
    arrows: dict[str, set[str]] = {}
    for module, source in sources.items():
        named = [m for m in imports(source) if part_of(m) is not None]
        found += [
            f"{module} imports {m}, which there is not" for m in named if not _known(m, sources)
        ]
        arrows[module] = {m for name in named if (m := _known(name, sources)) and m != module}
        here = part_of(module)
        if here is None:
            parts = {part_of(name) for name in named}
            if len(parts) > MOST_NAMES:
                found.append(f"{module} imports from {len(parts)} parts, at most {MOST_NAMES} may")
            continue
        for name in named:
            there = part_of(name)
            assert there is not None
            if there != here and FLOOR[there] >= FLOOR[here]:
                found.append(f"{module} imports {name}, which does not lie below it")
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        found.append("a circle: " + " -> ".join(reversed(error.args[1])))
    return found


def _known(name: str, sources: dict[str, str]) -> str | None:
    return next((m for m in (name, name.rpartition(".")[0]) if m in sources), None)


def modules(root: Path) -> dict[str, str]:
    """The text of every module of the project that is no test and no benchmark."""
    files = [*root.glob("*.py"), *(root / "utils").rglob("*.py")]
    names = {".".join(f.relative_to(root).with_suffix("").parts): f for f in files}
    return {n.removesuffix(".__init__"): f.read_text(encoding="utf-8") for n, f in names.items()}


if __name__ == "__main__":
    faults = wrong(modules(Path(__file__).resolve().parent.parent))
    print("\n".join(faults))
    sys.exit(bool(faults))
