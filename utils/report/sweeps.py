"""What was measured of one model: every behaviour and variant, found unread and then read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from behaviors import Behavior
from utils.data.evaluation import TESTS
from utils.data.kinds_of_test import Test
from utils.figures.album import Sources
from utils.figures.control_figures import ControlPlan, find_controls
from utils.files.contents import combined_digest, sha256_file
from utils.files.names import DOSE, Cell, ResultName, Variant, format_strength
from utils.files.paths import Paths, record_path
from utils.scores.cells import Selection
from utils.scores.control_effects import Effect
from utils.scores.subjects import strongest
from utils.scores.tables import ScoreTable, load_scores, variant_label
from utils.scores.tuned import Tuned, read_tuned
from utils.stats import Estimate


@dataclass(frozen=True)
class Found:
    """One behaviour and variant of which there are results, unread.

    Attributes:
        controls: the places of files of controls, by cell.
    """

    behavior: Behavior
    selection: Selection
    controls: Mapping[Cell, Path]

    @property
    def variant(self) -> Variant:
        return self.selection.variant

    @property
    def test(self) -> Test:
        return TESTS[self.variant.type]

    def sources(self, paths: Paths) -> dict[str, dict[str, str]]:
        """All its files as the records of figures name them."""
        found = {self.selection.group: self.selection.sources(paths)}
        if self.controls:
            group = self.selection.group.replace("results/", "controls/", 1)
            found[group] = {
                f"layer={n}_{self.variant.unit}={format_strength(s)}": combined_digest(
                    [path, record_path(path)]
                )
                for (n, s), path in sorted(self.controls.items())
            }
        return found

    def places(self, paths: Paths) -> list[Path]:
        """Results, judge's scores and controls."""
        names = [self.selection.at(cell) for cell in sorted(self.selection.whole)]
        found = [paths.result(name) for name in names]
        found += [p for p in map(paths.scores, names) if self.test.judged and p.exists()]
        return [*found, *(path for _, path in sorted(self.controls.items()))]

    def read(self, label: str, paths: Paths) -> Sweep:
        """The scores and effects of all its files, and what tune.py found of the model ``label``.

        Raises:
            UserError: see :func:`utils.scores.tables.load_scores`,
                :func:`utils.figures.control_figures.find_controls` and
                :func:`utils.scores.tuned.read_tuned`.
        """
        table = load_scores(self.behavior.id, self.variant, self.selection.shown, self.test, paths)
        controls = find_controls(self.behavior, self.variant, paths, None, None)
        tuned = read_tuned([self.behavior.id], self.variant, label, paths)
        return Sweep(self, table, controls, tuned.get(self.behavior.id))


@dataclass(frozen=True, eq=False)
class Sweep:
    """One behaviour and variant, read.

    Attributes:
        found: what it was read from.
        table: its scores.
        controls: effects beside those of controls, where those were measured.
        tuned: what tune.py found, where results of that kind are what it chooses for.
    """

    found: Found
    table: ScoreTable
    controls: ControlPlan | None
    tuned: Tuned | None

    @property
    def behavior(self) -> Behavior:
        return self.found.behavior

    @property
    def variant(self) -> Variant:
        return self.found.variant

    @property
    def test(self) -> Test:
        return self.found.test

    @property
    def key(self) -> str:
        """Its name within the page and its address."""
        parts = [self.behavior.id, self.variant.type, self.variant.unit]
        parts += [f"{p}={getattr(self.variant, p)}" for p in self.variant.overrides]
        parts += [] if self.variant.limit is None else [f"first-{self.variant.limit}"]
        return "~".join([*parts, *(["both-orders"] if self.variant.both_orders else [])])

    @cached_property
    def top(self) -> tuple[int, Estimate] | None:
        """The layer that the tables show, and the change there."""
        return strongest(self.table)

    @property
    def layer(self) -> int:
        """The layer that is shown first."""
        if self.top is not None:
            return self.top[0]
        return min(n for n, _ in self.table.answers or self.effects_by_cell)

    @property
    def ends(self) -> tuple[Cell, Cell] | None:
        """The cells between which the change of the tables lies."""
        if self.top is None:
            return None
        swept = self.table.swept_strengths
        return (self.top[0], swept[0]), (self.top[0], swept[-1])

    @cached_property
    def effects(self) -> list[Effect]:
        return [] if self.controls is None else self.controls.effects

    @property
    def effects_by_cell(self) -> Mapping[Cell, object]:
        return {} if self.controls is None else self.controls.cells

    @property
    def layers(self) -> list[int]:
        return sorted({n for n, _ in (*self.table.scores, *self.effects_by_cell)})

    @property
    def strengths(self) -> list[float]:
        return sorted({s for _, s in (*self.table.scores, *self.effects_by_cell)})


def group_title(variant: Variant) -> str:
    """What the sweeps of all behaviours under one variant are called."""
    parts = [TESTS[variant.type].title]
    parts += ["in both orders"] if variant.both_orders else []
    parts += [f"the first {variant.limit}"] if variant.limit is not None else []
    parts += [variant_label(variant)] if variant.overrides else []
    return ", ".join([*parts, f"by {variant.unit}"])


def by_group(sweeps: Iterable[Sweep]) -> list[list[Sweep]]:
    """The sweeps of all behaviours under one variant together, in the order of the page."""
    found: dict[Variant, list[Sweep]] = {}
    for sweep in sweeps:
        found.setdefault(sweep.variant, []).append(sweep)
    return list(found.values())


def _of_model(name: ResultName, parts: Mapping[str, Any]) -> bool:
    keys = ("model", "model_size", "use_base_model")
    return all(getattr(name.variant, key) == parts.get(key) for key in keys)


def _order(variant: Variant, behaviors: int) -> tuple[object, ...]:
    """A/B questions first, the plain run before others, what is whole before tries.

    Then what was run of most behaviours, so that the first table holds as many as it can.
    """
    kinds = list(TESTS)
    return (
        kinds.index(variant.type),
        len(variant.overrides),
        variant.limit or 0,
        -behaviors,
        not variant.both_orders,
        variant.unit != DOSE,
        variant.stem(),
    )


def find(behaviors: Iterable[Behavior], parts: Mapping[str, Any], paths: Paths) -> list[Found]:
    """All that there is of a model, variant by variant in the order of the page.

    Args:
        behaviors: which.
        parts: the model's parts of a result's name.
        paths: where.
    """
    found = []
    for behavior in behaviors:
        names = [n for n in paths.results_of(behavior.id) if _of_model(n, parts)]
        names = [n for n in names if n.variant.type in TESTS]
        tried = [n for n in paths.controls_of(behavior.id) if _of_model(n, parts)]
        for variant in dict.fromkeys(n.variant for n in names):
            cells = frozenset(n.cell for n in names if n.variant == variant)
            selection = Selection(behavior.id, variant, cells, tuple(sorted(cells)))
            controls = {n.cell: paths.controls(n) for n in tried if n.variant == variant}
            found.append(Found(behavior, selection, controls))
    count = Counter(f.variant for f in found)
    return sorted(found, key=lambda f: _order(f.variant, count[f.variant]))


def sources(
    found: Sequence[Found], choices: Mapping[str, Path], paths: Paths
) -> dict[str, dict[str, str]]:
    """Everything that a page shows, each file with its hash.

    Args:
        found: the results.
        choices: behaviour -> the file of tune.py's choice.
        paths: where.
    """
    whole: Sources = {"choices": {b: sha256_file(path) for b, path in choices.items()}}
    merged = {group: dict(items) for group, items in whole.items() if items}
    for each in found:
        merged |= each.sources(paths)
    return merged
