"""What plot_results.py shows of each behaviour: scores, and the results that they are from."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from behaviors import Behavior
from utils.data.evaluation import TESTS
from utils.files.names import Cell
from utils.files.paths import Paths
from utils.files.subsets import ranges
from utils.scores.cells import Selection, judged_cells
from utils.scores.tables import ScoreTable, load_scores
from utils.stats import Estimate


@dataclass(frozen=True)
class Measured:
    """One behaviour and variant: what was selected, its scores, and the hash of every result.

    Attributes:
        whole: the cells that could be shown: all that have a result (of open-ended answers, all
            that have been judged).
    """

    selection: Selection
    table: ScoreTable
    hashes: Mapping[Cell, str]
    whole: frozenset[Cell]

    def shown(self, layer: int | None, *, unjudged: bool) -> set[Cell]:
        """Cells with scores, at one layer or at all; with ``unjudged`` also answers without."""
        cells = set(self.table.scores) | (set(self.table.unjudged) if unjudged else set())
        return {cell for cell in cells if layer in (None, cell[0])}

    def hidden(self, layer: int | None, *, unjudged: bool) -> set[Cell]:
        """Cells that could be shown as well."""
        whole = self.selection.whole if unjudged else self.whole
        return {c for c in whole if layer in (None, c[0])} - self.shown(layer, unjudged=unjudged)

    def sources(self, layer: int | None, *, unjudged: bool) -> dict[str, str]:
        cells = sorted(self.shown(layer, unjudged=unjudged))
        return {self.selection.item(cell): self.hashes[cell] for cell in cells}


@dataclass(frozen=True)
class Subject:
    """One behaviour and its variants, the plain one first."""

    behavior: Behavior
    variants: Sequence[Measured]

    @property
    def tables(self) -> list[ScoreTable]:
        return [variant.table for variant in self.variants]

    @property
    def plain(self) -> Subject:
        """Without the other variants."""
        return replace(self, variants=self.variants[:1])

    @property
    def top(self) -> tuple[int, Estimate] | None:
        return strongest(self.tables[0])


def strongest(table: ScoreTable) -> tuple[int, Estimate] | None:
    """The layer at which the score differs most between the lowest and highest strength."""
    if not table.scores:
        return None
    low, high = table.swept_strengths[0], table.swept_strengths[-1]
    found = [(n, table.change((n, high), (n, low))) for n in table.layers]
    changes = [(n, change) for n, change in found if change is not None]
    if low == high or not changes:
        return None
    return max(changes, key=lambda pair: abs(pair[1].mean))


def subject(
    args: argparse.Namespace,
    behavior: Behavior,
    selections: Sequence[Selection],
    hashes: Mapping[str, Mapping[str, str]],
    paths: Paths,
) -> Subject | None:
    """One behaviour's scores, the plain variant first; ``None`` where there is nothing.

    Raises:
        UserError: see :func:`utils.scores.tables.load_scores`.
    """
    variants = []
    for each in selections:
        table = load_scores(
            each.behavior,
            each.variant,
            each.shown,
            TESTS[each.variant.type],
            paths,
            without_beyond_ab=args.without_beyond_ab,
        )
        if table.answers:
            known = {cell: hashes[each.group][each.item(cell)] for cell in each.shown}
            variants.append(Measured(each, table, known, judged_cells(each, paths)))
    return Subject(behavior, variants) if variants else None


def sources(
    subjects: Iterable[Subject], layer: int | None, *, unjudged: bool = False
) -> dict[str, dict[str, str]]:
    """What figures of these behaviours depend on, at one layer or at all."""
    found = {
        v.selection.group: v.sources(layer, unjudged=unjudged) for s in subjects for v in s.variants
    }
    return {group: items for group, items in found.items() if items}


def some_cells(
    subjects: Iterable[Subject], unit: str, layer: int | None, *, unjudged: bool
) -> dict[str, str]:
    """The layers and strengths shown, each as text if those are not all that there are."""
    layers: set[int] = set()
    strengths: set[float] = set()
    hidden_layers = hidden_strengths = False
    for variant in (v for s in subjects for v in s.variants):
        shown = variant.shown(layer, unjudged=unjudged)
        own = {n for n, _ in shown}
        hidden = variant.hidden(layer, unjudged=unjudged)
        hidden_layers |= any(n not in own for n, _ in hidden)
        hidden_strengths |= any(n in own for n, _ in hidden)
        layers |= own
        strengths |= {s for _, s in shown}
    named = {"layers": ranges(layers)} if hidden_layers else {}
    if hidden_strengths:
        named[unit] = ",".join(f"{strength:g}" for strength in sorted(strengths))
    return named
