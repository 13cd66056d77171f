"""From the pairs held out to the report on the test, for one behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.files.artifacts import save
from utils.files.json_files import json_bytes
from utils.files.names import Cell
from utils.permutation import p_of_surest_change
from utils.tuning.cells import Answered, Signed, TunedCell, content_changes
from utils.tuning.choice import Rules, choose, second_stage
from utils.tuning.material import Material, load_test
from utils.tuning.measuring import Bench
from utils.tuning.report import Choice, Tested, picture, tex_table, txt_table
from utils.tuning.splits import Split
from utils.tuning.stages import Ground, Work, first_stage, levels
from utils.tuning.stages import second_stage as measure_closer
from utils.vectors.dose import SteeringVector


@dataclass(frozen=True)
class Job:
    """A choice that is to be made.

    Attributes:
        behavior, model: whose.
        place: of its artefact; ``inputs``: what that depends on, the test aside.
        split: the pairs held out.
        whole: layer -> the vector of all pairs; ``learnt``: the one without those held out.
        strengths: above 0, in ``unit``.
        direction: which signs are steered.
        ground: what the choice is made on.
    """

    behavior: str
    model: str
    place: Path
    inputs: dict[str, Any]
    split: Split
    whole: Mapping[int, SteeringVector]
    learnt: Mapping[int, SteeringVector]
    strengths: Sequence[float]
    unit: str
    direction: str
    ground: Ground


def make_choice(job: Job, bench: Bench, rules: Rules, material: Material) -> Choice:
    """Measure all cells, choose one, and open the test only then."""
    signed = Signed(job.direction)
    work = Work(bench, job.learnt, signed, job.unit)
    grid: list[Cell] = [(layer, strength) for layer in job.learnt for strength in job.strengths]
    cells, answered = first_stage(work, job.ground, grid)
    cells = counted_in(cells, answered, signed, rules)
    closer = measure_closer(work, job.ground, second_stage(cells, rules))
    chosen = choose(closer, rules)
    looked_at = {cell.cell: cell for cell in closer}
    choice = Choice(
        job.behavior,
        job.model,
        job.unit,
        job.direction,
        rules,
        [looked_at.get(cell.cell, cell) for cell in cells],
        chosen,
        [q.number for q in job.split.questions],
        len(job.split.kept),
        job.split.short,
        {layer: vector.sha256 for layer, vector in job.whole.items()},
        None,
    )
    if chosen is None:
        return choice
    tested = _test(job, Work(bench, job.whole, signed, job.unit), chosen, material)
    return replace(choice, tested=tested)


def counted_in(
    cells: Sequence[TunedCell], answered: Answered, signed: Signed, rules: Rules
) -> list[TunedCell]:
    """The cells with p of their effects, all those counted in that could be chosen."""
    family = [cell for cell in cells if rules.may(cell)]
    changes = [content_changes(answered, cell.cell, signed) for cell in family]
    ps = p_of_surest_change(np.array(changes).reshape(len(family), -1))
    of = {cell.cell: float(p) for cell, p in zip(family, ps, strict=True)}
    return [replace(cell, p=of.get(cell.cell)) for cell in cells]


def _test(job: Job, work: Work, chosen: TunedCell, material: Material) -> Tested:
    """The chosen cell on the test, with the vector that users add."""
    items = load_test(material.paths, job.behavior)
    ground, left_out = material.for_test(job.behavior, items)
    cells, answered = first_stage(work, ground, [chosen.cell])
    (cell,) = measure_closer(work, ground, cells)
    numbers = [q.number for q in ground.questions]
    found = levels(answered, cell, work.signed)
    return Tested(cell, found, numbers, left_out, items.sha256)


def write(job: Job, choice: Choice) -> list[Path]:
    """The choice with its tables and its figure, one artefact."""
    beside = {".txt": txt_table(choice), ".tex": tex_table(choice)}
    drawn = picture(choice)
    if drawn is not None:
        beside[".png"] = drawn
    files = {job.place.with_suffix(suffix): data for suffix, data in beside.items()}
    save(job.place, json_bytes(choice.recorded()), job.inputs, beside=files)
    return [job.place, *files]
