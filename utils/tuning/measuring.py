"""Measuring cells, journalled prompt by prompt: letters, divergence of the next token, answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llama_wrapper import LlamaWrapper
from utils.files.artifacts import fingerprint
from utils.files.names import Cell
from utils.files.paths import Paths
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.ranks import Ranks
from utils.scores.loops import distinct_share
from utils.steering.grid import DivergenceGrid, LetterGrid
from utils.steering.one_pass import Steer
from utils.sweeps.journal import Journal, Schema
from utils.text.progress import progress
from utils.tuning.cells import Floats
from utils.tuning.rollouts import Rollouts

UNSTEERED: Cell = (0, 0.0)
Measure = Callable[[Sequence[int]], list[list[Any]]]
SteerOf = Callable[[Cell], Steer]


@dataclass(frozen=True)
class Damage:
    """What rollouts tell of one cell.

    Attributes:
        p95: 95th percentile of the KL at their tokens, nats.
        distinct: mean share of different 3-grams.
    """

    p95: float
    distinct: float


@dataclass
class Bench:
    """The model at work on one behaviour, and the journals of what it has measured.

    Attributes:
        wrapper: the model.
        paths, behavior: where the journals lie.
        inputs: what everything that is measured depends on, beside prompts and vectors.
        ranks: the processes that share the work.
        batch_tokens, batch_rows: how much is computed together.
        journals: those of this run, to be removed when its artefact is written.
    """

    wrapper: LlamaWrapper
    paths: Paths
    behavior: str
    inputs: Mapping[str, Any]
    ranks: Ranks
    batch_tokens: int | None = None
    batch_rows: int | None = None
    journals: list[Journal] = field(default_factory=list)

    def letters(
        self, name: str, prompts: Sequence[LetterPrompt], cells: Sequence[Cell], steer: SteerOf
    ) -> Floats:
        """P(A) and P(B), shape (prompts, cells, 2); NaN where the model breaks."""

        def make() -> tuple[list[list[int]], Measure]:
            steers = [steer(cell) for cell in cells[1:]]
            grid = LetterGrid(self.wrapper, prompts, steers, budget=self.batch_tokens)
            return grid.batches, lambda b: grid.probabilities(b).nan_to_num(nan=-1.0).tolist()

        return _numbers(self._journalled(name, prompts, cells, make, _are_numbers(2)))

    def next_kl(
        self, name: str, prompts: Sequence[OpenPrompt], cells: Sequence[Cell], steer: SteerOf
    ) -> dict[Cell, float]:
        """Mean over prompts of KL(unsteered || steered) of the next token, of every cell, nats."""

        def make() -> tuple[list[list[int]], Measure]:
            steers = [steer(cell) for cell in cells[1:]]
            grid = DivergenceGrid(self.wrapper, prompts, steers, budget=self.batch_tokens)
            return grid.batches, lambda b: grid.readings(b).nan_to_num(nan=-1.0).tolist()

        found = _numbers(self._journalled(name, prompts, cells, make, _are_numbers(1)))
        return dict(zip(cells, found[:, :, 0].mean(axis=0).tolist(), strict=True))

    def rollouts(
        self, name: str, prompts: Sequence[OpenPrompt], cells: Sequence[Cell], steer: SteerOf
    ) -> dict[Cell, Damage]:
        """What answers tell, of every cell, the unsteered one too."""

        def make() -> tuple[list[list[int]], Measure]:
            steers = [None, *(steer(cell) for cell in cells[1:])]
            run = Rollouts(self.wrapper, prompts, steers, rows=self.batch_rows)
            return run.batches, run.measure

        found = self._journalled(name, prompts, cells, make, _is_rollout)
        return {cell: _damage([row[i] for row in found]) for i, cell in enumerate(cells)}

    def _journalled(
        self,
        name: str,
        prompts: Sequence[LetterPrompt] | Sequence[OpenPrompt],
        cells: Sequence[Cell],
        make: Callable[[], tuple[list[list[int]], Measure]],
        is_value: Callable[[Any], bool],
    ) -> list[list[Any]]:
        """Values [prompt][cell] on every rank; what a killed run has measured is read."""
        key = fingerprint(
            {
                **self.inputs,
                "measured": name,
                "cells": [list(cell) for cell in cells],
                "prompts": [list(p.ids) for p in prompts],
                "batches": [self.batch_tokens, self.batch_rows],
            }
        )
        schema = Schema(cells, len(prompts), is_value)
        journal = Journal(self.paths, self.behavior, key, cells, self.ranks, schema)
        desc = f"{self.behavior}, {name}"
        with journal, progress(total=len(prompts), desc=desc, unit="prompt") as bar:
            bar.update(len(journal.finished))
            if len(journal.finished) < len(prompts):
                batches, measure = make()
                left = [b for b in batches if not journal.finished.issuperset(b)]
                for batch in self.ranks.share(left):
                    journal.append(batch, measure(batch))
                    bar.update(len(batch))
            self.ranks.wait()
        self.journals.append(journal)
        return self.ranks.from_main(lambda: journal.collect(len(prompts)))

    def close(self) -> None:
        """Delete the journals: all that was measured stands in an artefact."""
        for journal in self.journals:
            journal.remove()


def _are_numbers(count: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        whole = isinstance(value, list) and len(value) == count
        return whole and all(type(p) is float and (p == -1 or p >= 0) for p in value)

    return check


def _is_rollout(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"tokens", "kl"}:
        return False
    tokens, kl = value["tokens"], value["kl"]
    if not isinstance(tokens, list) or not isinstance(kl, list):
        return False
    whole = all(type(token) is int for token in tokens) and all(type(x) is float for x in kl)
    return whole and len(kl) in (0, len(tokens))


def _numbers(values: list[list[Any]]) -> Floats:
    found: Floats = np.array(values, dtype=np.float64)
    return np.where(found < 0, np.nan, found)


def _damage(rollouts: Sequence[Any]) -> Damage:
    kls = np.array([kl for rollout in rollouts for kl in rollout["kl"]], dtype=np.float64)
    kls = np.where(kls < 0, np.nan, kls)
    distinct = float(np.mean([distinct_share(rollout["tokens"]) for rollout in rollouts]))
    if not len(kls):
        return Damage(0.0, distinct)
    return Damage(float(np.percentile(kls, 95)), distinct)
