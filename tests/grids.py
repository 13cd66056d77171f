"""Prompts, steers and whole grids of cells, and what the slow way makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from conftest import QUESTIONS, ROWS

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.prompts.format import LetterPrompt, OpenPrompt
from utils.steering.decoding import Answer, GreedyGrid
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer, slow_logits

LETTERS = ("A", "B")


def letter_prompts(wrapper: LlamaWrapper, system_prompt: str | None = None) -> list[LetterPrompt]:
    prompt_format = wrapper.prompt_format(system_prompt)
    return [prompt_format.letter_prompt(row["question"], LETTERS) for row in ROWS]


def random_vectors(wrapper: LlamaWrapper, layers: Sequence[int]) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(wrapper.width, generator=generator) for n in layers}


def slow_grid(
    wrapper: LlamaWrapper, prompts: Sequence[LetterPrompt], steers: Sequence[Steer]
) -> torch.Tensor:
    rows = [
        [letter_probabilities(slow_logits(wrapper, p, s), list(p.letters.values())) for s in cells]
        for p in prompts
        for cells in [[None, *steers]]
    ]
    return torch.stack([torch.stack(row) for row in rows])


def fast_grid(grid: LetterGrid) -> torch.Tensor:
    found = torch.full((len(grid.prompts), 1 + len(grid.steers), 2), -1.0).double()
    for batch in grid.batches:
        found[batch] = grid.probabilities(batch)
    return found


def open_prompts(wrapper: LlamaWrapper) -> list[OpenPrompt]:
    return [wrapper.prompt_format().open_prompt(q) for q in QUESTIONS]


def steers_of(wrapper: LlamaWrapper, layers: Sequence[int] = (0, 2)) -> list[Steer | None]:
    generator = torch.Generator().manual_seed(5)
    vectors = {n: torch.randn(wrapper.width, generator=generator) for n in layers}
    return [None, *[Steer(n, m * v) for n, v in vectors.items() for m in (-3.0, 3.0)]]


def all_answers(grid: GreedyGrid) -> list[list[Answer]]:
    assert sorted(i for batch in grid.batches for i in batch) == list(range(len(grid.prompts)))
    found: list[list[Answer]] = [[] for _ in grid.prompts]
    for batch in grid.batches:
        for index, answers in zip(batch, grid.answers(batch), strict=True):
            found[index] = answers
    assert all(len(answers) == len(grid.steers) for answers in found)
    assert all(answer.tokens for answers in found for answer in answers)
    return found


def texts(grid: GreedyGrid) -> list[list[tuple[int, ...]]]:
    return [[answer.tokens for answer in answers] for answers in all_answers(grid)]
