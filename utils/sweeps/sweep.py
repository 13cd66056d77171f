"""A layers x strengths sweep of one behaviour: what is pending, journalled running, writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.data.items import ABItem, OpenItem
from utils.data.kinds_of_test import Test
from utils.files.artifacts import fingerprint, must_make, save
from utils.files.json_files import json_bytes
from utils.files.names import DOSE, MULTIPLIER, UNITS, Cell, ResultName, Variant
from utils.files.paths import Paths
from utils.ranks import Ranks
from utils.sweeps.journal import Journal, Schema, distinct_cells, run_journalled
from utils.vectors.dose import SteeringVector

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_wrapper import LlamaWrapper
    from utils.prompts.checks import Prompt
    from utils.steering.one_pass import Steer
    from utils.steering.self_check import Rounding
    from utils.sweeps.runs import Settings, Value


@dataclass
class Sweep:
    """One behaviour under one system prompt, at every layer and strength asked for.

    Attributes:
        test: what is measured.
        behavior, variant: of the results; the variant's unit says whether strengths are multipliers
            or doses.
        items: the questions.
        prompts: one for each question.
        vectors: the vector of each layer that is steered.
        cells: all (layer, strength) asked for.
        inputs: what every cell depends on.
        told: what one must know of the questions, for people.
        pending: the cells that are not finished.
        near_ties: answers just written in which rounding may have decided between two tokens.
        rounding: of a 16-bit model, as measured before its cells were computed.
        alone, computed: cells that this process computed one by one, and all it computed; a cell
            is one question under one steer.
    """

    test: Test
    behavior: str
    variant: Variant
    items: Sequence[ABItem | OpenItem]
    prompts: Sequence[Prompt]
    vectors: Mapping[int, SteeringVector]
    cells: list[Cell]
    inputs: dict[str, Any]
    told: str = ""
    pending: list[Cell] = field(default_factory=list)
    near_ties: int = 0
    rounding: Rounding | None = None
    alone: int = 0
    computed: int = 0

    def multiplier(self, cell: Cell) -> float:
        """What the vector is multiplied by in a cell.

        Raises:
            UserError: the cell's strength is a dose, and H is not known.
        """
        layer, strength = cell
        return self.vectors[layer].multiplier(strength, self.variant.unit) if strength else 0.0

    def cell_inputs(self, cell: Cell) -> dict[str, Any]:
        layer, strength = cell
        # At strength 0 nothing is added, so the result does not depend on any vector.
        vector = self.vectors[layer].sha256 if strength else None
        inputs = self.inputs | {"layer": layer, "vector": vector}
        return inputs | {self.variant.unit: strength, MULTIPLIER: self.multiplier(cell)}

    def strengths(self, cell: Cell) -> dict[str, float | None]:
        """A cell's strength in both units, as its record keeps it."""
        layer, strength = cell
        if not strength:
            return dict.fromkeys(UNITS, 0.0)
        multiplier = self.multiplier(cell)
        return {MULTIPLIER: multiplier, DOSE: self.vectors[layer].dose(multiplier)}

    def path(self, cell: Cell, paths: Paths) -> Path:
        return paths.result(ResultName(*cell, self.behavior, self.variant))

    def find_pending(self, paths: Paths, *, overwrite: bool) -> None:
        """Compare every cell with what stands in its place.

        Raises:
            UserError: a result that was made from other inputs.
        """
        self.pending = [
            cell
            for cell in self.cells
            if must_make(self.path(cell, paths), self.cell_inputs(cell), overwrite=overwrite)
        ]

    def run(
        self,
        wrapper: LlamaWrapper,
        paths: Paths,
        *,
        settings: Settings,
        ranks: Ranks,
        advance: Callable[[float], object],
    ) -> tuple[list[Path], list[str]]:
        """Compute the pending cells, and write them on the main rank.

        Args:
            wrapper: the model.
            paths: where to write.
            settings: how much is computed together.
            ranks: the processes that share the questions.
            advance: called with the number of questions just finished, or parts of them.

        Returns:
            The files written, and a line for each cell that failed.
        """
        # torch comes with it, and what is finished is told without torch
        from utils.sweeps.runs import run_of

        wanted = [self.cell_inputs(cell) for cell in self.cells]
        key = fingerprint({"cells": wanted, "settings": asdict(settings)})
        schema = Schema(self.cells, len(self.items), run_of(self.test).is_value)

        def start(left: list[Cell]) -> Journal:
            return Journal(paths, self.behavior, key, left, ranks, schema)

        def measure(journal: Journal) -> None:
            self._measure(wrapper, journal, settings, ranks, advance)

        def write(journal: Journal) -> tuple[list[Path], list[str]]:
            return self._write(journal.cells, journal.collect(len(self.items)), wrapper, paths)

        return run_journalled(self.pending, ranks, start=start, measure=measure, write=write)

    def _measure(
        self,
        wrapper: LlamaWrapper,
        journal: Journal,
        settings: Settings,
        ranks: Ranks,
        advance: Callable[[float], object],
    ) -> None:
        """Journal this rank's share; strength 0 is computed once however many layers there are."""
        from utils.sweeps.runs import run_of

        distinct = distinct_cells(journal.cells)
        steers = [None if cell is None else self._steer(cell) for cell in distinct]
        run = run_of(self.test)(wrapper, self.prompts, steers, settings)
        advance(len(journal.finished))
        left = [batch for batch in run.batches if not journal.finished.issuperset(batch)]
        for batch in ranks.share(left):
            journal.append(batch, run.measure(batch, advance))
            self.computed += len(batch) * len(distinct)
        self.alone += run.alone
        self.rounding = run.rounding or self.rounding

    def _steer(self, cell: Cell) -> Steer:
        from utils.steering.one_pass import Steer

        return Steer(cell[0], self.multiplier(cell) * self.vectors[cell[0]].vector)

    def _write(
        self,
        cells: Sequence[Cell],
        values: Sequence[Sequence[Value]],
        wrapper: LlamaWrapper,
        paths: Paths,
    ) -> tuple[list[Path], list[str]]:
        from utils.sweeps.runs import run_of

        written, failures = [], []
        run = run_of(self.test)
        ends = wrapper.end_tokens()
        distinct = distinct_cells(cells)
        for cell in cells:
            if cell not in self.pending:
                continue
            column = distinct.index(cell if cell[1] else None)
            path = self.path(cell, paths)
            found = [row[column] for row in values]
            if any(map(run.is_broken, found)):
                failures.append(f"{path.name}: the model's probabilities are NaN; not written")
                continue
            rows = [
                run.row(self.test, item, prompt, value, wrapper.tokenizer, ends)
                for item, prompt, value in zip(self.items, self.prompts, found, strict=True)
            ]
            self.near_ties += sum(map(run.is_near_tie, found))
            origin = self.vectors[cell[0]].origin.recorded() if cell[1] else None
            inputs, measured = self.cell_inputs(cell), self.strengths(cell)
            save(path, json_bytes(rows), inputs, measured, vector_origin=origin)
            written.append(path)
        return written, failures
