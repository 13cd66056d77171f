"""Which results there are and which of them are to be shown; nothing here reads a result.

No numpy here: whether anything has changed since figures were drawn must be found at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from utils.files.contents import combined_digest
from utils.files.paths import Paths, ResultName, format_strength, record_path

Cell = tuple[int, float]
CELL_PARTS = ("layer", "strength")
VARIANT_PARTS = (
    "system_prompt",
    "override_vector",
    "override_vector_model",
    "override_model_weights_path",
)


def kept_parts(base: ResultName) -> tuple[str, ...]:
    """The parts of a variant that ``base`` sets; the others it leaves open."""
    return tuple(part for part in VARIANT_PARTS if getattr(base, part) is not None)


def discover_variants(base: ResultName, known: Iterable[ResultName]) -> list[ResultName]:
    """The variants that there are results of, the plain one first.

    Args:
        base: a part of a variant that it sets is kept; one that it leaves open may be anything.
        known: the names of all results of its behaviour.
    """
    kept = kept_parts(base)
    without = (*CELL_PARTS, *(part for part in VARIANT_PARTS if part not in kept))
    stem = base.stem(without=without)
    found = {
        replace(n, layer=0, strength=0.0)
        for n in known
        if n.unit == base.unit and n.stem(without=without) == stem
    }
    return sorted(found, key=lambda n: [str(getattr(n, p) or "") for p in VARIANT_PARTS])


def cells_of(name: ResultName, known: Iterable[ResultName]) -> set[Cell]:
    """The cells of one variant that have a result."""
    stem = name.stem(without=CELL_PARTS)
    return {
        (n.layer, n.strength)
        for n in known
        if n.unit == name.unit and n.stem(without=CELL_PARTS) == stem
    }


def chosen_cells(
    found: set[Cell], layers: Sequence[int] | None, strengths: Sequence[float] | None
) -> list[Cell]:
    """The cells to show: those for which there is a result, and all that were asked for.

    Strength 0, where it was measured beside one of these, always is among them: it is what changes
    are against.
    """
    if layers is None and strengths is None:
        return sorted(found)
    chosen_layers = list(layers) if layers is not None else sorted({n for n, _ in found})
    at_layers = {s for n, s in found if n in chosen_layers}
    chosen = list(strengths) if strengths is not None else sorted(at_layers)
    asked = [(layer, strength) for layer in chosen_layers for strength in chosen]
    measured = {n for n, _ in found.intersection(asked)}
    baseline = [(n, 0.0) for n in chosen_layers if n in measured and (n, 0.0) in found]
    return list(dict.fromkeys([*asked, *baseline]))


@dataclass(frozen=True)
class Selection:
    """What of one behaviour and variant is to be shown.

    Attributes:
        name: what its results have in common (layer and strength are to be replaced).
        whole: all cells that have a result.
        cells: those asked for, with a result or without.
    """

    name: ResultName
    whole: frozenset[Cell]
    cells: tuple[Cell, ...]

    @property
    def shown(self) -> list[Cell]:
        return [cell for cell in self.cells if cell in self.whole]

    @property
    def missing(self) -> list[Cell]:
        return [cell for cell in self.cells if cell not in self.whole]

    def at(self, cell: Cell) -> ResultName:
        return replace(self.name, layer=cell[0], strength=cell[1])

    @property
    def group(self) -> str:
        """What its results are called in the records of figures."""
        stem = self.name.stem(without=(*CELL_PARTS, "behavior"))
        return f"results/{self.name.behavior}, {self.name.unit}s: {stem}"

    def item(self, cell: Cell) -> str:
        return f"layer={cell[0]}_{self.name.unit}={format_strength(cell[1])}"

    def sources(self, paths: Paths) -> dict[str, str]:
        """The results shown, each with the hash of its files: what figures depend on."""
        return {self.item(c): combined_digest(self.files(c, paths)) for c in self.shown}

    def files(self, cell: Cell, paths: Paths) -> list[Path]:
        """The files of a cell that figures depend on; records too, which tell the dose."""
        name = self.at(cell)
        files = [paths.result(name), record_path(paths.result(name))]
        if name.type == "open_ended":
            files += [paths.scores(name), record_path(paths.scores(name))]
        return files


def select(
    base: ResultName,
    paths: Paths,
    layers: Sequence[int] | None,
    strengths: Sequence[float] | None,
) -> list[Selection]:
    """What is to be shown of the variants of one behaviour, the plain one first.

    Without any result, the one that was asked for, whose cells then are all missing.
    """
    known = paths.results_of(base.behavior)
    found = []
    for name in discover_variants(base, known) or [base]:
        whole = cells_of(name, known)
        found.append(
            Selection(name, frozenset(whole), tuple(chosen_cells(whole, layers, strengths)))
        )
    return found


def judged_cells(selection: Selection, paths: Paths) -> frozenset[Cell]:
    """The cells of open-ended answers that have scores; of other tests, all."""
    if selection.name.type != "open_ended":
        return selection.whole
    return frozenset(c for c in selection.whole if paths.scores(selection.at(c)).exists())
