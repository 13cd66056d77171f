"""A sweep's controls: what other vectors do in the places of its own.

Every question is asked in both orders of its choices, under the sweep's vector and under each
control, all in one run of the grid. Its prompts are journalled like those of any sweep. Layers go
in groups, so that what is held in memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.files.artifacts import fingerprint, must_make, save
from utils.files.json_files import json_bytes
from utils.files.names import Cell, ResultName
from utils.files.paths import Paths
from utils.ranks import Ranks
from utils.sweeps.journal import Journal, Schema, run_journalled
from utils.sweeps.sweep import Sweep

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from llama_wrapper import LlamaWrapper
    from utils.prompts.format import LetterPrompt
    from utils.steering.one_pass import Steer
    from utils.sweeps.runs import Settings

    Floats = NDArray[np.float64]

# Steered columns of one group: one layer with 99 draws of two kinds and two signs has 414.
MOST_COLUMNS = 4096


@dataclass
class ControlSweep:
    """The controls of one sweep.

    Attributes:
        sweep: whose vectors, questions and strengths they are.
        exchanged: prompts in the other order of the choices, of the questions that have one.
        names: of the controls at each layer, in order.
        inputs: what the controls of a layer depend on beside the sweep's own inputs.
        make: gives the controls of a layer, in lengths of its vector, shape (controls, width).
        content: gives what is written of a cell. Takes P(A) and P(B) of all prompts, those of
            ``exchanged`` last, unsteered (shape (prompts, 2)) and under the vector and every
            control (shape (prompts, 1 + controls, 2)), and the names of the controls.
        pending: the cells that are not finished.
    """

    sweep: Sweep
    exchanged: Sequence[LetterPrompt]
    names: Mapping[int, Sequence[str]]
    inputs: Mapping[int, Mapping[str, Any]]
    make: Callable[[int], Tensor]
    content: Callable[[Floats, Floats, Sequence[str]], Any]
    pending: list[Cell] = field(default_factory=list)
    _made: dict[int, Tensor] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """All at which something is added."""
        return [cell for cell in self.sweep.cells if cell[1]]

    @property
    def prompts(self) -> Sequence[LetterPrompt]:
        """In the published order, then in the other."""
        return [*self.sweep.prompts, *self.exchanged]  # type: ignore[list-item]

    @property
    def work(self) -> int:
        """How many prompts are to be run, each once for every group of layers."""
        count = len(self.sweep.items) + len(self.exchanged)
        return count * sum(any(c in self.pending for c in group) for group in self._groups())

    def cell_inputs(self, cell: Cell) -> dict[str, Any]:
        return self.sweep.cell_inputs(cell) | dict(self.inputs[cell[0]])

    def path(self, cell: Cell, paths: Paths) -> Path:
        return paths.controls(ResultName(*cell, self.sweep.behavior, self.sweep.variant))

    def find_pending(self, paths: Paths, *, overwrite: bool) -> None:
        """Compare every cell with what stands in its place.

        Raises:
            UserError: controls that were made from other inputs: of another seed or number, say.
        """
        self.pending = [
            cell
            for cell in self.cells
            if must_make(self.path(cell, paths), self.cell_inputs(cell), overwrite=overwrite)
        ]

    def prepare(self) -> None:
        """Make the controls of all pending layers, before a model is loaded.

        Raises:
            UserError: from ``make``: what they are made of is damaged.
        """
        for layer in dict.fromkeys(layer for layer, _ in self.pending):
            self._controls(layer)

    def _controls(self, layer: int) -> Tensor:
        if layer not in self._made:
            self._made[layer] = self.make(layer).float()
        return self._made[layer]

    def _groups(self) -> Iterator[list[Cell]]:
        """All cells by whole layers; the same groups whatever is finished."""
        group: list[Cell] = []
        columns = 0
        for layer in dict.fromkeys(layer for layer, _ in self.cells):
            own = [cell for cell in self.cells if cell[0] == layer]
            size = len(own) * (1 + len(self.names[layer]))
            if group and columns + size > MOST_COLUMNS:
                yield group
                group, columns = [], 0
            group, columns = group + own, columns + size
        if group:
            yield group

    def run(
        self,
        wrapper: LlamaWrapper,
        paths: Paths,
        *,
        settings: Settings,
        ranks: Ranks,
        advance: Callable[[float], object],
    ) -> tuple[list[Path], list[str]]:
        """Compute the pending cells and write them on the main rank; see :meth:`Sweep.run`.

        Args:
            wrapper, paths, settings, ranks: as there.
            advance: called with the number of prompts just finished.
        """
        from utils.sweeps.runs import LetterRun

        def is_value(value: Any) -> bool:
            return isinstance(value, list) and all(map(LetterRun.is_value, value))

        def measure(journal: Journal) -> None:
            self._measure(wrapper, journal, settings, ranks, advance)

        def write(journal: Journal) -> tuple[list[Path], list[str]]:
            return self._write(journal.cells[1:], journal.collect(len(self.prompts)), paths)

        written: list[Path] = []
        failures: list[str] = []
        for group in self._groups():
            wanted = [self.cell_inputs(cell) for cell in group]
            key = fingerprint({"controls": wanted, "settings": asdict(settings)})
            unsteered = (group[0][0], 0.0)
            schema = Schema([unsteered, *group], len(self.prompts), is_value)

            def start(
                left: list[Cell], key: str = key, first: Cell = unsteered, schema: Schema = schema
            ) -> Journal:
                return Journal(paths, self.sweep.behavior, key, [first, *left], ranks, schema)

            left = [cell for cell in group if cell in self.pending]
            made, failed = run_journalled(left, ranks, start=start, measure=measure, write=write)
            written += made
            failures += failed
        return written, failures

    def _measure(
        self,
        wrapper: LlamaWrapper,
        journal: Journal,
        settings: Settings,
        ranks: Ranks,
        advance: Callable[[float], object],
    ) -> None:
        """Journal this rank's share; of a prompt the unsteered value, then those of each cell."""
        from utils.sweeps.runs import LetterRun

        steers = [self._steers(cell) for cell in journal.cells[1:]]
        columns = [None, *(steer for own in steers for steer in own)]
        run = LetterRun(wrapper, self.prompts, columns, settings)
        advance(len(journal.finished))
        left = [batch for batch in run.batches if not journal.finished.issuperset(batch)]
        for batch in ranks.share(left):
            values = run.measure(batch, advance)
            journal.append(batch, [_parted(row, [1, *map(len, steers)]) for row in values])

    def _steers(self, cell: Cell) -> list[Steer]:
        """The vector's and each control's."""
        from utils.steering.one_pass import Steer

        layer = cell[0]
        own, multiplier = self.sweep.vectors[layer], self.sweep.multiplier(cell)
        rows = [own.vector, *(own.norm * self._controls(layer))]
        return [Steer(layer, multiplier * row) for row in rows]

    def _write(
        self, cells: Sequence[Cell], values: Sequence[Sequence[Any]], paths: Paths
    ) -> tuple[list[Path], list[str]]:
        """Write the pending ones of some cells.

        Args:
            cells: those of the values, in order.
            values: of each prompt, unsteered and then at each cell.
            paths: where to write.
        """
        written, failures = [], []
        unsteered = _array([row[0] for row in values])[:, 0]
        for column, cell in enumerate(cells, 1):
            if cell not in self.pending:
                continue
            path = self.path(cell, paths)
            steered = _array([row[column] for row in values])
            if (unsteered < 0).any() or (steered[:, 0] < 0).any():
                failures.append(f"{path.name}: the model's probabilities are NaN; not written")
                continue
            names = self.names[cell[0]]
            content = self.content(unsteered, _as_nan(steered), names)
            origin = self.sweep.vectors[cell[0]].origin.recorded()
            inputs, measured = self.cell_inputs(cell), self.sweep.strengths(cell)
            save(path, json_bytes(content), inputs, measured, vector_origin=origin)
            written.append(path)
        return written, failures


def _parted(row: Sequence[Any], sizes: Sequence[int]) -> list[list[Any]]:
    """A row cut into pieces of these sizes."""
    rest = iter(row)
    return [[next(rest) for _ in range(size)] for size in sizes]


def _array(values: Sequence[Any]) -> Floats:
    import numpy as np

    return np.array(values, dtype=np.float64)


def _as_nan(values: Floats) -> Floats:
    """With NaN in place of -1, which stands for it in journals."""
    import numpy as np

    return np.where(values < 0, np.nan, values)
