"""One cell that overflows costs one cell: the others keep the fast way, and it is said once."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from conftest import make_wrapper
from grids import fast_grid, letter_prompts, slow_grid

from llama_wrapper import LlamaWrapper
from utils.steering import grid as grid_module
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer

COUNT = 16


def steers_with(wrapper: LlamaWrapper, broken: set[int]) -> list[Steer]:
    generator = torch.Generator().manual_seed(3)
    steers = []
    for number in range(COUNT):
        delta = torch.randn(wrapper.width, generator=generator)
        if number in broken:
            delta[3] = float("inf")
        steers.append(Steer(number // 4, delta))
    return steers


@pytest.mark.parametrize("broken", [{7}, {0}, {COUNT - 1}, {0, COUNT - 1}, {4, 5, 11}])
def test_cells_beside_a_broken_one_stay_on_the_fast_way(
    broken: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = make_wrapper("llama")
    prompts, steers = letter_prompts(wrapper)[:3], steers_with(wrapper, broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = LetterGrid(wrapper, prompts, steers)
    assert run.packed is not None
    slow = grid_module.slow_logits
    calls: list[Any] = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return slow(*given)

    monkeypatch.setattr(grid_module, "slow_logits", counted)
    with pytest.warns(UserWarning, match="computed alone") as warned:
        found = fast_grid(run)
    assert len(warned) == 1
    assert len(calls) == run.alone == len(broken) * len(prompts)
    expected = slow_grid(wrapper, prompts, steers)
    sound = [0, *(i + 1 for i in range(COUNT) if i not in broken)]
    assert found[:, [i + 1 for i in broken]].isnan().all()
    assert (found[:, sound] - expected[:, sound]).abs().max() < 1e-6


def test_a_grid_of_broken_cells_only_still_has_its_unsteered_column() -> None:
    wrapper = make_wrapper("llama")
    prompts, steers = letter_prompts(wrapper)[:2], steers_with(wrapper, set(range(COUNT)))
    run = LetterGrid(wrapper, prompts, steers)
    with pytest.warns(UserWarning, match="computed alone"):
        found = fast_grid(run)
    assert found[:, 1:].isnan().all()
    assert (found[:, 0] - slow_grid(wrapper, prompts, [])[:, 0]).abs().max() < 1e-6


def test_the_weakest_steer_shows_a_misfit_where_the_first_and_the_last_break(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steered branches that are wrong are found, though the probes first thought of say nothing."""
    from utils.steering import one_pass

    wrapper = make_wrapper("llama")
    logits = one_pass.PackedPrompts.logits

    def wrong(self: Any, rows: Any, tail: int, steers: Any) -> torch.Tensor:
        plain, steered = logits(self, rows, tail, steers).tensor_split([1], dim=1)
        return torch.cat([plain, steered.roll(1, -1)], dim=1)

    monkeypatch.setattr(one_pass.PackedPrompts, "logits", wrong)
    with pytest.warns(UserWarning, match="differ by"):
        run = LetterGrid(wrapper, letter_prompts(wrapper), steers_with(wrapper, {0, COUNT - 1}))
    assert run.packed is None
