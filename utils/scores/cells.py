"""Which results there are and which of them are to be shown; nothing here reads a result.

No numpy here: whether anything has changed since figures were drawn must be found at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.data.evaluation import TESTS
from utils.files.contents import combined_digest
from utils.files.names import OVERRIDES, Cell, ResultName, Variant, format_strength
from utils.files.paths import Paths, record_path


def discover_variants(base: Variant, known: Iterable[ResultName]) -> list[Variant]:
    """The variants that there are results of, the plain one first.

    Args:
        base: an override that it sets is kept; one that it leaves open may be anything.
        known: the names of all results of a behaviour.
    """
    found = {n.variant for n in known if n.variant.plain(keep=base.overrides) == base}
    return sorted(found, key=lambda v: [str(getattr(v, p) or "") for p in OVERRIDES])


def cells_of(variant: Variant, known: Iterable[ResultName]) -> set[Cell]:
    """The cells of one variant that have a result."""
    return {n.cell for n in known if n.variant == variant}


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
        whole: all cells that have a result.
        cells: those asked for, with a result or without.
    """

    behavior: str
    variant: Variant
    whole: frozenset[Cell]
    cells: tuple[Cell, ...]

    @property
    def shown(self) -> list[Cell]:
        return [cell for cell in self.cells if cell in self.whole]

    @property
    def missing(self) -> list[Cell]:
        return [cell for cell in self.cells if cell not in self.whole]

    def at(self, cell: Cell) -> ResultName:
        return ResultName(*cell, self.behavior, self.variant)

    @property
    def group(self) -> str:
        """What its results are called in the records of figures."""
        return f"results/{self.behavior}, {self.variant.unit}s: {self.variant.stem()}"

    def item(self, cell: Cell) -> str:
        return f"layer={cell[0]}_{self.variant.unit}={format_strength(cell[1])}"

    def sources(self, paths: Paths) -> dict[str, str]:
        """The results shown, each with the hash of its files: what figures depend on."""
        return {self.item(c): combined_digest(self.files(c, paths)) for c in self.shown}

    def files(self, cell: Cell, paths: Paths) -> list[Path]:
        """The files of a cell that figures depend on; records too, which tell the dose."""
        name = self.at(cell)
        files = [paths.result(name), record_path(paths.result(name))]
        if TESTS[self.variant.type].judged:
            files += [paths.scores(name), record_path(paths.scores(name))]
        return files


def select(
    behavior: str,
    base: Variant,
    paths: Paths,
    layers: Sequence[int] | None,
    strengths: Sequence[float] | None,
) -> list[Selection]:
    """What is to be shown of the variants of one behaviour, the plain one first.

    Without any result, the one that was asked for, whose cells then are all missing.
    """
    known = paths.results_of(behavior)
    found = []
    for variant in discover_variants(base, known) or [base]:
        whole = cells_of(variant, known)
        cells = chosen_cells(whole, layers, strengths)
        found.append(Selection(behavior, variant, frozenset(whole), tuple(cells)))
    return found


def judged_cells(selection: Selection, paths: Paths) -> frozenset[Cell]:
    """The cells that have scores: of a test that is judged those that were, of others all."""
    if not TESTS[selection.variant.type].judged:
        return selection.whole
    return frozenset(c for c in selection.whole if paths.scores(selection.at(c)).exists())
