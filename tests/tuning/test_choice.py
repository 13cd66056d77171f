"""The choice itself: budgets, the Pareto front, one standard error, the nearest cells."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from utils.stats import Estimate
from utils.tuning.budgets import KINDS, Budgets, needed
from utils.tuning.cells import TunedCell
from utils.tuning.choice import (
    Rules,
    choose,
    first_late_layer,
    front,
    nearest,
    second_stage,
    would_need,
)

RULES = Rules(Budgets.of(), first_late=8)


def cell(
    layer: int,
    effect: float,
    kl: float,
    *,
    strength: float = 0.1,
    low: float = 0.01,
    p: float = 0.001,
    **damages: float,
) -> TunedCell:
    found = {"kl": kl, "letters": 1.0} | damages
    estimate = Estimate(effect, low, effect + 1, 30)
    return TunedCell(layer, strength, 1.0, strength, estimate, 0.1, estimate, found, p)


def closer(one: TunedCell, **damages: float) -> TunedCell:
    sound = {"rollout_kl": 0.5, "knowledge": 0.0, "loops": 1.0}
    return replace(one, damages={**one.damages, **sound, **damages})


def test_the_front_is_the_cells_that_no_other_beats() -> None:
    generator = np.random.default_rng(0)
    cells = [
        cell(n, float(e), float(k)) for n, (e, k) in enumerate(generator.integers(0, 8, (60, 2)))
    ]
    beaten = {
        a.layer
        for a, b in product(cells, cells)
        if b.effect.mean >= a.effect.mean
        and b.kl <= a.kl
        and (b.effect.mean > a.effect.mean or b.kl < a.kl)
    }
    assert {c.layer for c in front(cells)} == {c.layer for c in cells} - beaten
    assert 0 < len(front(cells)) < 60


def test_the_largest_effect_within_the_budgets_is_chosen() -> None:
    cells = [cell(1, 1.0, 0.05), cell(2, 2.0, 0.09), cell(3, 3.0, 0.11), cell(4, 0.5, 0.01)]
    chosen = choose([closer(c) for c in cells], RULES)
    assert chosen is not None and chosen.layer == 2
    wide = Rules(Budgets.of([("kl", math.inf)]), 8)
    chosen = choose([closer(c) for c in cells], wide)
    assert chosen is not None and chosen.layer == 3


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_damage_refuses_a_cell_and_is_only_reported_under_inf(name: str) -> None:
    limit, least = KINDS[name].limit, KINDS[name].least
    over, at = limit * (0.99 if least else 1.01), limit
    other = closer(cell(4, 0.5, 0.01))
    for value, layer in ((over, 4), (at, 1), (math.nan, 4)):
        one = closer(cell(1, 2.0, 0.05), **{name: value})
        chosen = choose([one, other], RULES)
        assert chosen is not None and chosen.layer == layer
    one = closer(cell(1, 2.0, 0.05), **{name: over})
    chosen = choose([one, other], Rules(Budgets.of([(name, math.inf)]), 8))
    assert chosen is not None and chosen.layer == 1


def test_within_one_standard_error_the_least_damage_along_answers_wins() -> None:
    best = closer(cell(1, 2.0, 0.05), rollout_kl=0.9)
    near = closer(cell(2, 1.91, 0.09), rollout_kl=0.3)
    far = closer(cell(3, 1.89, 0.01), rollout_kl=0.1)
    chosen = choose([best, near, far], RULES)
    assert chosen is not None and chosen.layer == 2


def test_an_effect_that_is_not_sure_or_a_late_layer_is_not_chosen() -> None:
    unsure = closer(cell(1, 2.0, 0.05, low=-0.1))
    late = closer(cell(8, 2.0, 0.05))
    assert choose([unsure, late], RULES) is None
    assert nearest([unsure, late], RULES) == []
    assert choose([late], Rules(RULES.budgets, first_late_layer(10, late_too=True))) == late
    assert [first_late_layer(n, late_too=False) for n in (30, 10, 4)] == [24, 8, 3]


def test_the_nearest_cells_are_those_that_need_least() -> None:
    cells = [cell(n, 1.0, kl) for n, kl in enumerate((0.8, 0.2, 0.4, 0.3))]
    found = nearest(cells, RULES)
    assert [c.layer for c in found] == [1, 3, 2]
    assert [would_need(c, RULES) for c in found] == ["kl=0.2", "kl=0.3", "kl=0.4"]
    both = closer(cell(1, 1.0, 0.2), loops=0.7049)
    assert would_need(both, RULES) == "kl=0.2 loops=0.704"


def test_the_budget_that_is_named_is_enough() -> None:
    generator = np.random.default_rng(1)
    for name, found in product(KINDS, 10.0 ** generator.uniform(-5, 2, 40)):
        flag, _, limit = needed(name, float(found)).partition("=")
        assert not Budgets.of([(flag, float(limit))]).exceeded({name: float(found)})
        assert float(limit) == pytest.approx(found, rel=0.011)


def test_a_closer_look_goes_to_the_front_and_its_neighbours_and_no_further() -> None:
    cells = [
        cell(n, 1.0 - abs(n - 3) + i, 0.01 + 0.001 * i + 0.001 * abs(n - 3), strength=0.1 * (i + 1))
        for n in range(8)
        for i in range(5)
    ]
    best = {c.cell for c in front(cells)}
    found = second_stage(cells, RULES)
    assert best <= {c.cell for c in found} and len(found) <= 20
    assert {c.layer for c in found} <= {2, 3, 4}, "nothing that lies two layers away"
    assert second_stage(cells, Rules(Budgets.of([("kl", 0.0)]), 8)) == []
    many = [replace(c, effect=replace(c.effect, mean=c.kl)) for c in cells]
    assert len(second_stage(many, RULES)) <= 20


def test_an_effect_that_is_not_sure_with_all_cells_counted_in_is_not_chosen() -> None:
    doubtful, sure = closer(cell(1, 2.0, 0.05, p=0.2)), closer(cell(2, 1.0, 0.05, p=0.05))
    assert choose([doubtful], RULES) is None and second_stage([doubtful], RULES) == []
    assert choose([doubtful, sure], RULES) == sure
    assert choose([replace(sure, p=None)], RULES) is None
