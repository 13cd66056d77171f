"""Drawing a token: the right chances, from the right tokens, by the row's own seed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from utils.batching.sampling import Sampler

CHANCES = torch.tensor([0.05, 0.4, 0.0, 0.25, 0.3], dtype=torch.float64)
LOGITS = CHANCES.log() + 3.0
DRAWS = 4000


def draws(sampler: Sampler, logits: torch.Tensor = LOGITS, count: int = DRAWS) -> Counter[int]:
    return Counter(sampler.pick(logits) for _ in range(count))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_probability_says(temperature: float) -> None:
    expected = CHANCES ** (1 / temperature)
    found = draws(Sampler(temperature, 1.0, 0, 0))
    assert found[2] == 0
    kept = [0, 1, 3, 4]
    frequencies = expected[kept] / expected[kept].sum() * DRAWS
    assert chisquare([found[i] for i in kept], frequencies.tolist()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.39, {1}), (0.41, {1, 4}), (0.7, {1, 4}), (0.94, {1, 3, 4})]
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: set[int]) -> None:
    found = draws(Sampler(1.0, top_p, 1, 0))
    assert set(found) == kept
    chances = CHANCES[sorted(kept)]
    frequencies = (chances / chances.sum() * DRAWS).tolist()
    if len(kept) > 1:
        assert chisquare([found[i] for i in sorted(kept)], frequencies).pvalue > 1e-3


def test_temperature_nothing_takes_the_likeliest() -> None:
    assert set(draws(Sampler(0.0, 0.5, None, 0), count=5)) == {1}


def test_a_seed_draws_the_same_again_and_each_answer_its_own() -> None:
    def text(seed: int | None, choice: int) -> list[int]:
        sampler = Sampler(1.0, 0.95, seed, choice)
        return [sampler.pick(LOGITS) for _ in range(40)]

    assert text(5, 0) == text(5, 0)
    assert text(5, 0) != text(5, 1)
    assert text(5, 1) == text(6, 0)
    assert text(-(2**63), 7) == text(-(2**63), 7)
    assert text(None, 0) != text(None, 0)
