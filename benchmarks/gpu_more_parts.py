"""More parts of benchmarks/gpu.py: open-ended answers, rounding itself, finetuning."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_parts import DOSE, PATHS, Bench, against, deviations_of, sample
from benchmarks.meter import Measured
from benchmarks.random_model import steering_vectors
from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.evaluation import OPEN_ENDED
from utils.data.items import load_ab_items
from utils.finetuning.tuner import (
    Example,
    Finetuner,
    Recipe,
    end_processes,
    precision,
    start_processes,
)
from utils.prompts.format import OpenPrompt
from utils.steering.decoding import GreedyGrid
from utils.steering.one_pass import Steer, slow_logits

MULTIPLIERS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
ALONE, ONE_HOOK = 4, 2
Tokens = Sequence[int]


def open_ended(bench: Bench) -> dict[str, Any]:
    """50 questions x 7 multipliers x 100 tokens, against the library's own ``generate``.

    Three rivals: all rows in one call with a hook that knows each row's vector (the most that
    batching gives), one call and one plain hook for each multiplier, one answer at a time. The
    last two are sampled.
    """
    wrapper, plan, meter = bench.wrapper, bench.plan, bench.meter
    items = OPEN_ENDED.load(PATHS, "refusal", plan.open_questions)
    prompts = [wrapper.prompt_format().open_prompt(item.question) for item in items]
    layer, new = wrapper.n_layers // 2, plan.new_tokens
    letters = wrapper.prompt_format().letter_prompt(items[0].question, ("A", "B"))
    vector = steering_vectors(wrapper, letters, DOSE, seed=3)[layer]
    steers = [Steer(layer, m * vector) if m else None for m in MULTIPLIERS]

    def fast() -> tuple[int, list[list[Tokens]]]:
        grid = GreedyGrid(wrapper, prompts, steers, max_new_tokens=new)
        found: list[list[Tokens]] = [[] for _ in prompts]
        for batch in grid.batches:
            meter.check()
            for index, answers in zip(batch, grid.answers(batch), strict=True):
                found[index] = [answer.tokens for answer in answers]
        return grid.rows, found

    meter.run(lambda: wrapper.generate([prompts[0].ids], max_new_tokens=2))
    whole = meter.run(fast)
    rows, answers = whole.result
    cells = [(p, m) for p in range(len(prompts)) for m in range(len(MULTIPLIERS))]
    deltas = [m * vector for m in MULTIPLIERS]

    def of(some: Sequence[tuple[int, int]]) -> Measured[list[list[int]]]:
        asked, added = [prompts[p] for p, _ in some], [deltas[m] for _, m in some]
        return meter.run(lambda: hooked_generate(wrapper, asked, layer, added, new))

    together = [of(cells[start : start + rows]) for start in range(0, len(cells), rows)]
    hooked = [of([(p, m) for p in range(len(prompts))][:rows]) for m in (0, len(deltas) - 1)]
    alone = [of([cells[i]]) for i in sample(len(cells), ALONE)]
    pairs = [
        (answers[p][m], tokens)
        for (p, m), tokens in zip(cells, (t for one in together for t in one.result), strict=True)
    ]
    seconds = {
        "generate_all_rows": sum(t.seconds for t in together),
        "generate_hook_a_multiplier": statistics.mean(h.seconds / len(h.result) for h in hooked)
        * len(cells),
    }
    return {
        "answers": len(cells),
        "rows_together": min(rows, len(cells)),
        "new_tokens": sum(len(a) for row in answers for a in row),
        **against(whole, alone, len(cells)),
        **{f"{name}_seconds": value for name, value in seconds.items()},
        **{f"speedup_over_{name}": value / whole.seconds for name, value in seconds.items()},
        "generate_all_rows_peak_gb": together[0].peak_gb,
        **alike(pairs),
        "answers_changed_by_steering": changed_by_steering(answers),
    }


def changed_by_steering(answers: Sequence[Sequence[Tokens]]) -> float:
    """The share of steered answers that are not the unsteered one of their question."""
    return statistics.mean(
        list(row[m]) != list(row[MULTIPLIERS.index(0)])
        for row in answers
        for m, multiplier in enumerate(MULTIPLIERS)
        if multiplier
    )


def alike(pairs: Sequence[tuple[Tokens, Tokens]]) -> dict[str, float]:
    """How far the texts of two ways agree, as shares of the answers."""
    return {
        "same_first_token": statistics.mean(a[0] == b[0] for a, b in pairs),
        "same_answer": statistics.mean(list(a) == list(b) for a, b in pairs),
        "common_beginning": statistics.mean(common_beginning(a, b) for a, b in pairs),
    }


def hooked_generate(
    wrapper: LlamaWrapper,
    prompts: Sequence[OpenPrompt],
    layer: int,
    deltas: Sequence[Tensor],
    new: int,
) -> list[list[int]]:
    """The library's ``generate`` over rows that each add a vector of their own at one layer."""
    first = torch.tensor([p.steer_from for p in prompts])
    added = torch.stack(list(deltas)).to(wrapper.device)
    with wrapper.steer({layer: added}, first):
        return wrapper.generate([p.ids for p in prompts], max_new_tokens=new)


def common_beginning(a: Tokens, b: Tokens) -> float:
    """Share of the longer answer that both begin with."""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return (min(len(a), len(b)) if same is None else same) / max(len(a), len(b))


def rounding(bench: Bench) -> dict[str, Any]:
    """Both ways against the slow one in more digits: how much of their difference is rounding.

    The model stays in float32 afterwards.
    """
    wrapper, compared = bench.wrapper, bench.compared
    finer = torch.float64 if bench.dtype == torch.float32 else torch.float32
    wrapper.model.to(finer)
    columns = [0, *range(1, 1 + len(compared.steers), 4)]
    cells = [None, *compared.steers]
    rows = []
    for prompt in compared.prompts:
        bench.meter.check()
        logits = torch.stack([slow_logits(wrapper, prompt, cells[c]) for c in columns])
        rows.append(letter_probabilities(logits, list(prompt.letters.values())))
    exact = torch.stack(rows)
    wrapper.model.to(torch.float32)
    found = {"dtype": str(finer).removeprefix("torch."), "cells": len(columns) * len(rows)}
    for name, values in (("fast", compared.fast), ("slow", compared.slow)):
        numbers = deviations_of(values[:, columns], exact)
        found |= {f"{name}_{key}": number for key, number in numbers.items()}
    return found


def finetuning(bench: Bench) -> dict[str, Any]:
    """Steps on one block, as finetune_llama.py --layer takes them: float32 weights, autocast."""
    wrapper, plan = bench.wrapper, bench.plan
    wrapper.model.to(torch.float32)
    bench.meter.clear()
    data = PATHS.generate_data("refusal")
    items = load_ab_items(data, made_by="", limit=plan.steps * plan.batch)
    prompt_format = wrapper.prompt_format()
    prompts = [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in items]
    examples = [Example(p.ids, next(iter(p.letters.values()))) for p in prompts]
    trained = wrapper.blocks[wrapper.n_layers // 2]
    wrapper.model.requires_grad_(False)
    trained.requires_grad_(True)
    accelerator = start_processes(
        bench.device, precision("auto", bench.device.type, adapter=False).mixed
    )
    recipe = Recipe(1e-4, 1, plan.batch, 1, "sgd", False, 0)
    tuner = Finetuner(wrapper.model, accelerator, recipe)

    def step(batch: Sequence[Example]) -> tuple[float, float]:
        found = tuner.gradients(batch)
        tuner.update()
        return found

    try:
        tuner.gradients(examples[: plan.batch])  # to warm up: it changes no weight
        starts = range(0, len(examples), plan.batch)
        steps = [bench.meter.run(partial(step, examples[s : s + plan.batch])) for s in starts]
        after = tuner.gradients(examples[-plan.batch :])[0]
    finally:
        tuner.close()
        end_processes(accelerator)
    seconds = statistics.median(s.seconds for s in steps)
    peaks = [s.peak_gb for s in steps if s.peak_gb is not None]
    return {
        "steps": len(steps),
        "pairs_a_step": plan.batch,
        "trained_parameters": sum(p.numel() for p in trained.parameters()),
        "seconds": seconds,
        "steps_per_second": 1 / seconds,
        "peak_gb": max(peaks, default=None),
        "all_finite": all(math.isfinite(x) for s in steps for x in s.result),
        "loss_of_last_step": steps[-1].result[0],
        "loss_of_its_pairs_afterwards": after,
    }
