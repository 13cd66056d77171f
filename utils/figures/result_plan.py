"""Which figures plot_results.py draws: what each shows, what it is called, and who draws it.

Nothing is drawn here, and matplotlib is not needed to know that nothing has to be.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from behaviors import Behavior
from utils.data.evaluation import TESTS
from utils.data.kinds_of_test import Test
from utils.figures.album import Job
from utils.files.durable import write_bytes
from utils.files.names import MULTIPLIER, Variant
from utils.files.paths import Paths
from utils.files.subsets import part
from utils.scores.cells import Selection, discover_variants
from utils.scores.subjects import Subject, some_cells, sources, subject
from utils.scores.summary import as_csv, as_markdown, summary_rows

if TYPE_CHECKING:
    from utils.figures.result_figures import Figures


@dataclass
class Pen:
    """What draws: the figures, and behaviours by the names that can be drawn."""

    figures: Figures
    names: Mapping[str, str]

    def named(self, behavior: Behavior) -> Behavior:
        return replace(behavior, name=self.names[behavior.id])


@dataclass(frozen=True)
class Plan:
    """The figures of one unit of strengths.

    Attributes:
        test: what was measured.
        base: what the results of all figures have in common.
        subjects: the behaviours that have scores.
        answered: those that have scores, or answers to be judged.
        every: ids of all behaviours that have such results.
        layers: those asked for; ``None`` for all, and figures at the one where steering does most.
        without_beyond_ab: questions whose matching letter is neither A nor B are left out.
        some_variants: there are other variants than those that ``base`` keeps to.
    """

    test: Test
    base: Variant
    subjects: Sequence[Subject]
    answered: Sequence[Subject]
    every: Sequence[str]
    layers: Sequence[int] | None
    without_beyond_ab: bool
    some_variants: bool

    def jobs(self) -> list[Job[Pen]]:
        jobs = [job for subject in self.subjects for job in self._jobs_of(subject)]
        swept = [s.plain for s in self.subjects if len(s.tables[0].layers) > 1]
        if swept:
            shown = [(s.behavior, s.tables[0]) for s in swept]
            jobs.append(
                self._job(
                    "LAYER_SWEEPS",
                    swept,
                    lambda pen: pen.figures.sweeps([(pen.named(b), t) for b, t in shown]),
                    of=swept[0].tables[0].variant,
                    of_all=True,
                )
            )
        layers = sorted({n for s in self.subjects for n in s.tables[0].layers})
        return jobs + (self._at_layer(layers[0]) if len(layers) == 1 else [])

    def _at_layer(self, layer: int) -> list[Job[Pen]]:
        """The figures of all behaviours at the one layer that there is or was asked for."""
        jobs: list[Job[Pen]] = []
        every = [(s.behavior, s.tables) for s in self.subjects]
        if len(every) > 1:
            jobs.append(
                self._job(
                    "MULTIPLIERS",
                    self.subjects,
                    lambda pen: pen.figures.all_multipliers(
                        [(pen.named(b), tables) for b, tables in every], layer
                    ),
                    layer=layer,
                    of_all=True,
                )
            )
        jobs.append(
            self._job(
                "CHANGES",
                [s.plain for s in self.subjects],
                lambda pen: pen.figures.all_changes(
                    [(pen.named(b), tables[0]) for b, tables in every], layer
                ),
                layer=layer,
                of=self.base,
                of_all=True,
            )
        )
        return jobs

    def _jobs_of(self, subject: Subject) -> list[Job[Pen]]:
        behavior, tables = subject.behavior, subject.tables
        table = tables[0]
        jobs: list[Job[Pen]] = []

        def add(kind: str, shown: Subject, draw: Callable[[Pen], object], **more: Any) -> None:
            jobs.append(self._job(kind, [shown], draw, **more))

        if len(table.layers) > 1:
            add(
                "LAYER_SWEEP",
                subject.plain,
                lambda pen: pen.figures.layers(pen.named(behavior), table),
                of=table.variant,
            )
        if sum(len(t.layers) > 1 for t in tables) > 1:
            add(
                "VARIANTS",
                replace(subject, variants=[v for v in subject.variants if len(v.table.layers) > 1]),
                lambda pen: pen.figures.variants(pen.named(behavior), tables),
            )
        if self.layers is None or len(table.layers) == 1:
            at = subject.top[0] if subject.top is not None else table.layers[0]
            add(
                "multipliers",
                subject,
                lambda pen: pen.figures.multipliers(pen.named(behavior), tables, at),
                layer=at,
            )
            if table.effects:
                add(
                    "orders",
                    subject.plain,
                    lambda pen: pen.figures.orders(pen.named(behavior), table, at),
                    layer=at,
                    of=table.variant,
                )
            if table.categories is not None:
                add(
                    "categories",
                    subject.plain,
                    lambda pen: pen.figures.categories(pen.named(behavior), table, at),
                    layer=at,
                    of=table.variant,
                )
        return jobs

    def _job(
        self,
        kind: str,
        subjects: Sequence[Subject],
        draw: Callable[[Pen], object],
        *,
        layer: int | None = None,
        of: Variant | None = None,
        of_all: bool = False,
    ) -> Job[Pen]:
        """One figure.

        Args:
            kind: of figure.
            subjects: what it shows.
            draw: draws it.
            layer: the one layer that it shows.
            of: the variant that it shows; ``None`` if it shows all that there are.
            of_all: it shows all behaviours, not one.
        """
        return Job(
            key=self._key(kind, layer, of or self.base.plain()),
            sources=sources(subjects, layer),
            draw=draw,
            behavior=None if of_all else subjects[0].behavior.id,
            part=self._part(subjects, of_all=of_all, variants=of is None, layer=layer),
            options=self.options(subjects),
        )

    def _key(self, kind: str, layer: int | None, of: Variant) -> str:
        return f"{kind} {self.base.unit}s {of.stem(layer)}"

    def summary(self) -> Job[Pen]:
        """The table of everything, also of answers without scores."""
        kind = "summary" if self.base.unit == MULTIPLIER else f"summary_{self.base.unit}s"
        stem = f"{kind}_{self.base.stem()}"

        def write(pen: Pen) -> None:
            subjects = [(s.behavior.id, t) for s in self.answered for t in s.tables]
            rows = [row for b, table in subjects for row in summary_rows(b, self.test, table)]
            for suffix, data in ((".csv", as_csv(rows)), (".md", as_markdown(rows).encode())):
                write_bytes(pen.figures.paths.figure(stem, suffix=suffix), data)

        return Job(
            key=self._key("summary", None, self.base),
            sources=sources(self.answered, None, unjudged=True),
            draw=write,
            part=self._part(self.answered, of_all=True, unjudged=True),
            options=self.options(self.answered),
        )

    def options(self, subjects: Sequence[Subject]) -> dict[str, Any]:
        return {
            "names": {s.behavior.id: s.behavior.name for s in subjects},
            "without_beyond_ab": self._leaves_out(subjects),
        }

    def _leaves_out(self, subjects: Sequence[Subject]) -> bool:
        return self.without_beyond_ab and any(t.beyond_ab for s in subjects for t in s.tables)

    def _part(
        self,
        subjects: Sequence[Subject],
        *,
        of_all: bool,
        variants: bool = False,
        layer: int | None = None,
        unjudged: bool = False,
    ) -> str:
        """What part of everything a figure shows, as its name says it."""
        named = some_cells(subjects, f"{self.base.unit}s", layer, unjudged=unjudged)
        ids = {s.behavior.id for s in subjects}
        if of_all and not ids.issuperset(self.every):
            named["behaviors"] = ",".join(sorted(ids))
        if variants and self.some_variants:
            named |= {part: str(getattr(self.base, part)) for part in self.base.overrides}
        if self._leaves_out(subjects):
            named["beyond_ab"] = "without"
        return part(**named)

    def pen(self, aside: Paths) -> Pen:
        """What draws the figures; matplotlib is loaded here."""
        from utils.drawing.fonts import shown_names
        from utils.figures.result_figures import Figures

        names = shown_names({s.behavior.id: s.behavior.name for s in self.subjects})
        return Pen(Figures(self.test, self.base, aside), names)


def plans_of(
    args: argparse.Namespace,
    base: Variant,
    found: Mapping[str, Sequence[tuple[Behavior, Sequence[Selection]]]],
    hashes: Mapping[str, Mapping[str, str]],
    every: Mapping[str, Sequence[str]],
    paths: Paths,
) -> list[Plan]:
    """What to draw in each unit that there are results in; reads them.

    Args:
        args: the command line of plot_results.py.
        base: what the results of all figures have in common.
        found: unit -> what of each behaviour is to be shown.
        hashes: group -> cell -> hash of its files.
        every: unit -> ids of all behaviours that have such results.
        paths: where they lie.

    Raises:
        UserError: see :func:`utils.scores.tables.load_scores`.
    """
    plans = []
    test = TESTS[base.type]
    for unit, pairs in found.items():
        answered = [s for b, each in pairs if (s := subject(args, b, each, hashes, paths))]
        scored = [(s, [v for v in s.variants if v.table.scores]) for s in answered]
        subjects = [replace(s, variants=variants) for s, variants in scored if variants]
        own = replace(base, unit=unit)
        some = bool(own.overrides) and any(
            len(discover_variants(own.plain(), paths.results_of(b.id)))
            > sum(bool(s.whole) for s in each)
            for b, each in pairs
        )
        if answered:
            plans.append(
                Plan(
                    test=test,
                    base=own,
                    subjects=subjects,
                    answered=answered,
                    every=every[unit],
                    layers=args.layers,
                    without_beyond_ab=args.without_beyond_ab,
                    some_variants=some,
                )
            )
    return plans
