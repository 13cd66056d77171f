"""Scores read from result files: by behaviour, variant, layer and strength."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from utils.data.evaluation import read_results
from utils.data.items import Items
from utils.data.kinds_of_test import Test
from utils.data.rows import Row
from utils.errors import UserError
from utils.files.contents import read_measured
from utils.files.names import Cell, ResultName, Variant, other_unit
from utils.files.paths import Paths
from utils.scores.order_effects import OrderEffects, effects_of_rows, letter_share
from utils.stats import Estimate, mean_of_changes, mean_of_scores
from utils.vectors.origin import Origin, check_alike, recorded_origin


@dataclass
class ScoreTable:
    """The scores of one behaviour under one variant (system prompt, override ...).

    Attributes:
        bounds: the lowest and the highest score that there can be.
        scores: cell -> score of every question, shape (questions,); NaN where it is missing.
        rows: cell -> the rows of its file.
        effects: cell -> content and letter effect of every question, if asked in both orders.
        converted: cell -> its strength in the other unit (the dose of a multiplier), where the
            file's record tells.
        categories: category of every question; ``None`` if the test has none.
        beyond_ab: questions whose matching letter is neither A nor B (each counts 0).
        missing: cells that were asked for and have no file, or no scores yet.
        unjudged: cell -> the rows of open-ended answers that have no scores yet.
    """

    variant: Variant
    bounds: tuple[float, float] = (0.0, 1.0)
    scores: dict[Cell, NDArray[np.float64]] = field(default_factory=dict)
    rows: dict[Cell, Sequence[Row]] = field(default_factory=dict)
    effects: dict[Cell, OrderEffects] = field(default_factory=dict)
    converted: dict[Cell, float] = field(default_factory=dict)
    categories: list[str] | None = None
    beyond_ab: int = 0
    missing: list[Cell] = field(default_factory=list)
    unjudged: dict[Cell, Sequence[Row]] = field(default_factory=dict)

    @property
    def layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.scores})

    @property
    def answers(self) -> dict[Cell, Sequence[Row]]:
        """The rows of every cell, with scores or without."""
        return dict(sorted((self.rows | self.unjudged).items()))

    @property
    def swept_strengths(self) -> list[float]:
        """The strengths that were measured at the largest number of layers."""
        count = Counter(strength for _, strength in self.scores)
        return sorted(s for s, layers in count.items() if layers == max(count.values()))

    def factor(self, layer: int) -> float | None:
        """What a strength at a layer is multiplied by to have it in the other unit."""
        known = [v / s for (n, s), v in self.converted.items() if n == layer and s]
        return known[0] if known else None

    @property
    def base_strength(self) -> float | None:
        """What changes are counted from: 0, or where there is no 0 the lowest strength."""
        strengths = sorted({s for _, s in self.scores})
        if 0.0 in strengths:
            return 0.0
        return strengths[0] if len(strengths) > 1 else None

    def base(self, layer: int) -> Cell | None:
        """The cell that changes at a layer are counted from.

        Without steering a layer makes no difference: where 0 was measured at another layer only,
        that is the cell.
        """
        strength = self.base_strength
        if strength is None or (layer, strength) in self.scores:
            return None if strength is None else (layer, strength)
        unsteered = sorted(cell for cell in self.scores if cell[1] == 0)
        return unsteered[0] if unsteered else None

    def score(self, cell: Cell, categories: Sequence[str] | None = None) -> Estimate | None:
        """Mean score, over all questions (categories weighing the same) or those of some."""
        values = self.scores.get(cell)
        if values is None:
            return None
        return self._mean(partial(mean_of_scores, bounds=self.bounds), values, categories)

    def change(
        self, cell: Cell, base: Cell | None, categories: Sequence[str] | None = None
    ) -> Estimate | None:
        """Change of the score from ``base`` to ``cell``, paired question by question."""
        if cell not in self.scores or base is None or base not in self.scores:
            return None
        span = self.bounds[1] - self.bounds[0]
        changes = self.scores[cell] - self.scores[base]
        found = self._mean(partial(mean_of_changes, span=span), changes, categories)
        # from a cell to itself: 0 for sure, whatever an interval makes of so many zeros
        return replace(found, low=0.0, high=0.0) if found and cell == base else found

    def steered_change(self, cell: Cell) -> Estimate | None:
        """Change from :meth:`base`; ``None`` for the strength that changes are counted from."""
        if cell[1] == self.base_strength:
            return None
        return self.change(cell, self.base(cell[0]))

    def effect(self, name: str, cell: Cell, base: Cell | None = None) -> Estimate | None:
        """Mean effect over the questions asked in both orders, or its paired change from a cell.

        Args:
            name: ``"content"`` or ``"letter"``, in logits; ``"consistent"``, a share.
            cell: where it is measured.
            base: the change from there; ``None`` for the effect itself.
        """
        if not {cell, base or cell} <= self.effects.keys():
            return None
        values: NDArray[np.float64] = getattr(self.effects[cell], name)
        before = 0.0 if base is None else getattr(self.effects[base], name)
        if name == "consistent":
            return self._mean(partial(mean_of_scores, bounds=(0.0, 1.0)), values, None)
        return self._mean(partial(mean_of_changes, span=None), values - before, None)

    def letter_share(self, cell: Cell, base: Cell | None) -> float | None:
        """Share of the letter in what changes from a cell to another; ``None`` for no change."""
        if base is None or not {cell, base} <= self.effects.keys():
            return None
        share = letter_share(self.effects[cell], self.effects[base])
        return None if np.isnan(share) else share

    def _mean(
        self,
        mean: Callable[..., Estimate],
        values: NDArray[np.float64],
        categories: Sequence[str] | None,
    ) -> Estimate | None:
        chosen = np.ones(len(values), dtype=bool)
        labels = None if self.categories is None else np.array(self.categories)
        if labels is not None and categories is not None:
            chosen, labels = np.isin(labels, list(categories)), None
        known = chosen & ~np.isnan(values)
        missing = int(chosen.sum() - known.sum())
        if not known.any():
            return None
        alike = None if labels is None else labels[known].tolist()
        return replace(mean(values[known], categories=alike), missing=missing)


def extremes(strengths: Sequence[float]) -> list[float]:
    """-1 and +1 where they were measured, else the lowest and highest strength but 0."""
    steered = sorted({s for s in strengths if s})
    if not steered:
        return []
    return [s for s in (-1.0, 1.0) if s in steered] or sorted({steered[0], steered[-1]})


def model_name(variant: Variant) -> str:
    """The model of a variant, for people."""
    if variant.model is not None:
        return variant.model
    return f"Llama 2 {variant.model_size}{'' if variant.use_base_model else ' chat'}"


def of_a_try(variant: Variant) -> str:
    """What the title of a table says of results of ``--limit``."""
    return "" if variant.limit is None else " (of a try)"


def variant_label(variant: Variant) -> str:
    """What tells a variant from the plain model, for people."""
    signs = {"pos": "positive prompt", "neg": "negative prompt"}
    parts = []
    if variant.system_prompt is not None:
        parts.append(signs[variant.system_prompt])
    if variant.override_vector is not None:
        parts.append(f"vector of layer {variant.override_vector}")
    if variant.override_vector_model is not None:
        parts.append(f"vector of {variant.override_vector_model}")
    if variant.override_model_weights_path is not None:
        parts.append(f"weights {variant.override_model_weights_path}")
    return ", ".join(parts) or "plain"


def load_scores(
    behavior: str,
    variant: Variant,
    cells: Iterable[Cell],
    test: Test,
    paths: Paths,
    *,
    without_beyond_ab: bool = False,
) -> ScoreTable:
    """Read the files of one behaviour, each under its exact name.

    Args:
        behavior, variant: whose files.
        cells: what to read; a cell without a file is noted as missing.
        test: how a row is scored; of open-ended answers the judged files are read.
        paths: where the files lie.
        without_beyond_ab: leave out questions whose matching letter is neither A nor B.

    Raises:
        UserError: a damaged file, or cells that were measured on different questions or with
            different models of one name.
    """
    table = ScoreTable(variant, test.scale.level)
    questions: list[object] | None = None
    origins: dict[Path, Origin] = {}
    for cell in cells:
        name = ResultName(*cell, behavior, variant)
        answers = paths.result(name)
        path = paths.scores(name) if test.judged else answers
        if not path.exists():
            table.missing.append(cell)
            if test.judged and answers.exists():
                table.unjudged[cell] = read_results(answers)
            continue
        rows = read_results(path)
        asked = [row.get("question", row.get("prompt")) for row in rows]
        if questions is None:
            questions = asked
        elif asked != questions:
            raise UserError(f"{path} was measured on other questions than the cells before it")
        table.beyond_ab = test.beyond_ab(rows)
        if without_beyond_ab:
            kept = test.within_ab(rows)
            rows = Items([row for row, keep in zip(rows, kept, strict=True) if keep], rows.sha256)
            if not rows:
                raise UserError(f"{path}: no question has A or B as its matching letter")
        table.scores[cell] = test.scores(rows, str(path))
        table.rows[cell] = rows
        if variant.both_orders:
            table.effects[cell] = effects_of_rows(rows, test.letters(rows))
        # judged answers have the strengths in the record of the file of answers
        origins[answers] = recorded_origin(answers)
        converted = read_measured(answers).get(other_unit(variant.unit))
        if isinstance(converted, int | float):
            table.converted[cell] = float(converted)
        table.categories = test.categories(rows)
    check_alike(origins, "plotted")
    return table
