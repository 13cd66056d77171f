"""Other readings of the logits than letters, in the same packed pass."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_wrapper

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import kl_divergence
from utils.steering.grid import DivergenceGrid
from utils.steering.one_pass import Steer, slow_logits

TEXTS = ["Is it raining?", "Please write a short poem about a ship.", "Two and two?"]


def steers_of(wrapper: LlamaWrapper) -> list[Steer]:
    generator = torch.Generator().manual_seed(1)
    vector = torch.randn(wrapper.width, generator=generator)
    return [Steer(n, m * vector) for n in (2, 0, 3) for m in (0.1, -1.0)]


def by_hand(p: torch.Tensor, q: torch.Tensor) -> float:
    """KL in float64, token by token."""
    one, other = (x.double().softmax(-1).tolist() for x in (p, q))
    return sum(a * math.log(a / b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_the_divergence_in_one_pass_is_that_of_one_pass_per_cell(family: str) -> None:
    wrapper = make_wrapper(family)
    prompts = [wrapper.prompt_format().open_prompt(text) for text in TEXTS]
    steers = steers_of(wrapper)
    grid = DivergenceGrid(wrapper, prompts, steers, budget=150)
    assert grid.packed is not None
    slow = DivergenceGrid(wrapper, prompts, steers, slow=True)
    for batch in grid.batches:
        found = grid.readings(batch)
        assert found.shape == (len(batch), 1 + len(steers), 1) and found.dtype == torch.float64
        for row, number in enumerate(batch):
            plain = slow_logits(wrapper, prompts[number], None)
            expected = [
                by_hand(plain, slow_logits(wrapper, prompts[number], s)) for s in (None, *steers)
            ]
            assert found[row, :, 0].tolist() == pytest.approx(expected, abs=2e-6, rel=1e-4)
            assert slow.readings([number])[0, :, 0].tolist() == pytest.approx(
                expected, abs=2e-6, rel=1e-4
            )
            assert min(expected[1:]) > 1e-5, "steering does something"


def test_the_divergence_of_a_token_that_cannot_come_is_finite_and_never_negative() -> None:
    p = torch.tensor([0.0, 1.0, -torch.inf])
    q = torch.tensor([0.0, 1.0, 0.5])
    assert kl_divergence(p[None], q[None]).item() == pytest.approx(
        math.log((1 + math.e + math.exp(0.5)) / (1 + math.e))
    )
    assert kl_divergence(q[None], q[None]).item() == 0
    assert kl_divergence(q[None], p[None]).item() == math.inf
    assert kl_divergence(q[None], torch.full((1, 3), torch.nan)).isnan().all()


def test_a_cell_that_breaks_the_model_is_nan_and_leaves_the_others_alone() -> None:
    wrapper = make_wrapper("llama")
    prompts = [wrapper.prompt_format().open_prompt(text) for text in TEXTS]
    sound = steers_of(wrapper)
    steers = [*sound[:3], Steer(1, torch.full((wrapper.width,), torch.inf)), *sound[3:]]
    expected = DivergenceGrid(wrapper, prompts, sound)
    grid = DivergenceGrid(wrapper, prompts, steers)
    with pytest.warns(UserWarning, match="overflow"):
        found = {n: row for b in grid.batches for n, row in zip(b, grid.readings(b), strict=True)}
    keep = [0, 1, 2, 3, 5, 6, 7]
    for batch in expected.batches:
        for number, row in zip(batch, expected.readings(batch), strict=True):
            assert torch.allclose(found[number][keep], row, atol=2e-6, rtol=1e-4)
            assert bool(found[number][4].isnan().all())
