"""Answers under steering, and how far the model is from itself along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.padding import left_padded
from utils.blocks.vocabulary import kl_divergence
from utils.prompts.format import OpenPrompt
from utils.steering.decoding import GreedyGrid
from utils.steering.one_pass import Steer

TOKENS = 48
# Logits that lie in memory together, twice.
ROOM = 2**24


class Rollout(TypedDict):
    """One answer.

    Attributes:
        tokens: up to and including the first end token.
        kl: KL(steered || unsteered) at each of them, nats; none for an unsteered answer.
    """

    tokens: list[int]
    kl: list[float]


class Rollouts:
    """Greedy answers of some prompts under every steer, and their divergences.

    Args:
        wrapper: the model.
        prompts: all prompts of the run.
        steers: the cells; ``None`` is the unsteered model.
        rows: most rows decoded together; ``None`` for the device's default.
        tokens: most tokens of an answer.

    Attributes:
        batches: indices of the prompts that are computed together.
    """

    def __init__(
        self,
        wrapper: LlamaWrapper,
        prompts: Sequence[OpenPrompt],
        steers: Sequence[Steer | None],
        *,
        rows: int | None = None,
        tokens: int = TOKENS,
    ) -> None:
        self.wrapper, self.prompts, self.steers = wrapper, prompts, steers
        vocabulary = wrapper.model.get_output_embeddings().weight.shape[0]
        self._together = max(1, ROOM // (tokens * vocabulary))
        self._grid = GreedyGrid(wrapper, prompts, steers, max_new_tokens=tokens, rows=rows)
        self.batches = self._grid.batches

    def measure(self, batch: Sequence[int]) -> list[list[Rollout]]:
        """Answers of one batch, [prompt][steer]."""
        answers = self._grid.answers(batch)
        found = [
            [Rollout(tokens=list(a.tokens), kl=[]) for a in answers_of] for answers_of in answers
        ]
        together = 1 if self._grid.is_alone(batch) else self._together
        places = [
            (row, column)
            for column, steer in enumerate(self.steers)
            if steer is not None
            for row in range(len(batch))
        ]
        for start in range(0, len(places), together):
            part = places[start : start + together]
            prompts = [self.prompts[batch[row]] for row, _ in part]
            tokens = [found[row][column]["tokens"] for row, column in part]
            steers = [steer for _, column in part if (steer := self.steers[column]) is not None]
            kls = divergences(self.wrapper, prompts, tokens, steers)
            for (row, column), kl in zip(part, kls, strict=True):
                found[row][column]["kl"] = kl
        return found


def divergences(
    wrapper: LlamaWrapper,
    prompts: Sequence[OpenPrompt],
    answers: Sequence[Sequence[int]],
    steers: Sequence[Steer],
) -> list[list[float]]:
    """KL(steered || unsteered) at every token of given answers, nats.

    Args:
        wrapper: the model.
        prompts: of each answer.
        answers: tokens of each, at least one.
        steers: what each was given under.

    Returns:
        For each answer one number a token; NaN as -1, which JSON has.
    """
    rows = [[*p.ids, *a[:-1]] for p, a in zip(prompts, answers, strict=True)]
    inputs = left_padded(rows, wrapper.device)
    keep = max(map(len, answers))
    firsts = torch.tensor([p.steer_from for p in prompts], device=wrapper.device)
    deltas = {s.layer: torch.zeros(len(rows), wrapper.width) for s in steers}
    for row, steer in enumerate(steers):
        deltas[steer.layer][row] = steer.delta

    def logits() -> Tensor:
        return wrapper.logits(**inputs, use_cache=False, logits_to_keep=keep)

    plain = logits()
    with wrapper.steer({n: d.to(wrapper.device) for n, d in deltas.items()}, firsts):
        steered = logits()
    found = kl_divergence(steered, plain).nan_to_num(nan=-1.0).cpu()
    return [found[i, keep - len(a) :].tolist() for i, a in enumerate(answers)]
