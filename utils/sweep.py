"""A layers x multipliers sweep of one behaviour: what is pending, journalled running, writing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from utils.artifacts import fingerprint, json_bytes, must_make, save
from utils.data import ABItem
from utils.evaluation import LETTERS, LetterTest
from utils.grid import LetterGrid
from utils.journal import Journal
from utils.one_pass import Steer
from utils.paths import Paths, ResultName
from utils.prompts import LetterPrompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_wrapper import LlamaWrapper

Cell = tuple[int, float]


@dataclass
class Sweep:
    """One behaviour under one system prompt, at every layer and multiplier asked for.

    Attributes:
        test: what is measured.
        name: the name of the results; its layer and multiplier are filled in for each cell.
        items: the questions.
        prompts: one for each question.
        vectors: layer -> (vector of shape (width,), hash of its file).
        cells: all (layer, multiplier) asked for.
        inputs: what every cell depends on.
        pending: the cells that are not finished.
    """

    test: LetterTest
    name: ResultName
    items: list[ABItem]
    prompts: list[LetterPrompt]
    vectors: Mapping[int, tuple[Tensor, str]]
    cells: list[Cell]
    inputs: dict[str, Any]
    pending: list[Cell]

    def cell_inputs(self, cell: Cell) -> dict[str, Any]:
        layer, multiplier = cell
        # At multiplier 0 nothing is added, so the result does not depend on any vector.
        vector = self.vectors[layer][1] if multiplier else None
        return self.inputs | {"layer": layer, "multiplier": multiplier, "vector": vector}

    def path(self, cell: Cell, paths: Paths) -> Path:
        return paths.result(replace(self.name, layer=cell[0], multiplier=cell[1]))

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
        wrapper: "LlamaWrapper",
        paths: Paths,
        *,
        budget: int | None,
        advance: "Callable[[int], Any]",
    ) -> tuple[list[Path], list[str]]:
        """Compute and write the pending cells.

        Args:
            wrapper: the model.
            paths: where to write.
            budget: tokens in one forward pass; ``None`` for the default.
            advance: called with the number of questions just finished.

        Returns:
            The files written, and a line for each cell that failed.
        """
        wanted = [self.cell_inputs(cell) for cell in self.cells]
        key = fingerprint({"cells": wanted, "batch_tokens": budget})
        written: list[Path] = []
        failures: list[str] = []
        left = list(self.pending)
        while left:
            header = {"key": key, "cells": [list(cell) for cell in left]}
            with Journal(paths.journal(self.name.behavior, key), header) as journal:
                # A journal that a killed run left behind has cells of its own: more, if it was
                # killed while it wrote its files; fewer, if one of them was lost since.
                cells = [(int(n), float(m)) for n, m in journal.header["cells"]]
                probabilities = self._journalled(wrapper, journal, cells, budget, advance)
                made, failed = self._write(cells, probabilities, paths)
                journal.remove()
            written += made
            failures += failed
            left = [cell for cell in left if cell not in cells]
        return written, failures

    def _journalled(
        self,
        wrapper: "LlamaWrapper",
        journal: Journal,
        cells: Sequence[Cell],
        budget: int | None,
        advance: "Callable[[int], Any]",
    ) -> Tensor:
        steered = [cell for cell in cells if cell[1] != 0]
        steers = [Steer(n, m * self.vectors[n][0]) for n, m in steered]
        grid = LetterGrid(wrapper, self.prompts, steers, budget=budget)
        shape = (len(self.prompts), 1 + len(steers), len(LETTERS))
        found = torch.full(shape, float("nan"), dtype=torch.float64)
        for number, batch in enumerate(grid.batches):
            if number < len(journal.entries):
                values = torch.tensor(journal.entries[number], dtype=torch.float64)
            else:
                values = grid.probabilities(batch)
                # JSON has no NaN: a broken cell is journalled as -1
                journal.append(values.nan_to_num(nan=-1.0).tolist())
            found[batch] = values
            advance(len(batch))
        columns = [1 + steered.index(cell) if cell[1] else 0 for cell in cells]
        return found[:, columns]

    def _write(
        self, cells: Sequence[Cell], probabilities: Tensor, paths: Paths
    ) -> tuple[list[Path], list[str]]:
        written, failures = [], []
        for index, cell in enumerate(cells):
            if cell not in self.pending:
                continue
            path = self.path(cell, paths)
            values = probabilities[:, index]
            if bool((values < 0).any() | values.isnan().any()):
                failures.append(f"{path.name}: the model's probabilities are NaN; not written")
                continue
            rows = [
                self.test.row(item.row, a, b)
                for item, (a, b) in zip(self.items, values.tolist(), strict=True)
            ]
            save(path, json_bytes(rows), self.cell_inputs(cell))
            written.append(path)
        return written, failures
