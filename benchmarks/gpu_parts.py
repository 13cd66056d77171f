"""The parts of benchmarks/gpu.py: each measures one thing and gives its numbers."""

from __future__ import annotations

import random
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.meter import Measured, Meter
from benchmarks.plain import all_logits, steered_logits
from benchmarks.random_model import SHAPES, favour_letters, random_model, steering_vectors
from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.items import load_ab_items
from utils.data.kinds_of_test import LETTERS
from utils.extraction.pairs import PairOutputs
from utils.files.paths import REPOSITORY, Paths
from utils.prompts.format import LetterPrompt
from utils.steering.grid import LetterGrid, deltas_of
from utils.steering.one_pass import PackedPrompts, Steer, slow_logits

PATHS = Paths(REPOSITORY, REPOSITORY / "datasets")
BEHAVIORS = (
    "coordinate-other-ais",
    "corrigible-neutral-HHH",
    "hallucination",
    "myopic-reward",
    "refusal",
    "survival-instinct",
    "sycophancy",
)
MULTIPLIERS = (-1.0, 0.0, 1.0)
# A vector's norm as a share of the residual stream's: what moves a trained model.
DOSE = 0.3


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes:
        shape, check_shape: of the model, and of the one compared in float32.
        checked: questions of which every cell is compared.
        pairs: contrast pairs for vectors.
        questions: of each behaviour in the sweep.
        open_questions, new_tokens: of the open-ended part.
        steps, batch: of finetuning.
        samples: how often the slow way is timed.
        repeats: how often the fast way is timed.
    """

    shape: str
    check_shape: str
    checked: int = 8
    pairs: int = 100
    questions: int = 50
    open_questions: int = 50
    new_tokens: int = 100
    steps: int = 10
    batch: int = 8
    samples: int = 24
    repeats: int = 3


PLANS = {
    "7b": Plan("7b", "small"),
    "small": Plan("small", "tiny", checked=4),
    "tiny": Plan("tiny", "tiny", 3, 6, 3, 3, 5, 10, 2, 3, 1),
}


@dataclass
class Bench:
    """What the parts share."""

    plan: Plan
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    meter: Meter
    wrapper: LlamaWrapper = field(init=False)
    compared: Compared = field(init=False)


@dataclass(frozen=True)
class Compared:
    """Probabilities of the same cells both ways, float64, shape (prompts, 1 + steers, letters)."""

    prompts: list[LetterPrompt]
    steers: list[Steer]
    fast: Tensor
    slow: Tensor


def make_model(bench: Bench) -> dict[str, Any]:
    """The model itself."""
    shape = SHAPES[bench.plan.shape]
    made = bench.meter.run(
        lambda: random_model(shape, bench.tokenizer, bench.device, bench.dtype, seed=0)
    )
    bench.wrapper = made.result
    favour_letters(bench.wrapper, ab_prompts(bench.wrapper, "refusal", 4))
    parameters = sum(p.numel() for p in bench.wrapper.model.parameters())
    return {"parameters": parameters, "seconds": made.seconds, "peak_gb": made.peak_gb}


def ab_prompts(wrapper: LlamaWrapper, behavior: str, count: int) -> list[LetterPrompt]:
    """The first A/B tests of a behaviour."""
    items = load_ab_items(PATHS.test_data(behavior, "ab"), made_by="", limit=count)
    prompt_format = wrapper.prompt_format()
    return [prompt_format.letter_prompt(item.question, LETTERS) for item in items]


def check(bench: Bench) -> dict[str, Any]:
    """Fast against slow on the model itself: every cell of some questions."""
    bench.compared, found = _compare(bench, bench.wrapper)
    return found


def check_float32(bench: Bench) -> dict[str, Any]:
    """The same on a smaller model in float32."""
    shape = SHAPES[bench.plan.check_shape]
    wrapper = random_model(shape, bench.tokenizer, bench.device, torch.float32, seed=1)
    favour_letters(wrapper, ab_prompts(wrapper, "refusal", 4))
    return _compare(bench, wrapper)[1]


def _compare(bench: Bench, wrapper: LlamaWrapper) -> tuple[Compared, dict[str, Any]]:
    """Both ways, whatever the toolkit's own test of them would say."""
    prompts = ab_prompts(wrapper, "refusal", bench.plan.checked)
    prompts = [p for p in prompts if p.tail == prompts[0].tail]  # one packed batch
    steers = deltas_of(steering_vectors(wrapper, prompts[0], DOSE, seed=2), MULTIPLIERS)
    cells, letters = [None, *steers], list(prompts[0].letters.values())
    packed = PackedPrompts(wrapper, [p.ids for p in prompts], prompts[0].tail)
    fast = bench.meter.run(lambda: packed.logits([p.ids for p in prompts], prompts[0].tail, steers))
    slow_rows: list[Tensor] = []
    largest: list[float] = []
    typical: list[float] = []
    for prompt, row in zip(prompts, fast.result, strict=True):
        bench.meter.check()
        slow = torch.stack([slow_logits(wrapper, prompt, cell) for cell in cells])
        for a, b in zip(row.float(), slow.float(), strict=True):
            largest.append(float((a - b).abs().max() / b.std()))
            typical.append(float((a - b).pow(2).mean().sqrt() / b.std()))
        slow_rows.append(letter_probabilities(slow, letters))
    compared = Compared(
        prompts, steers, letter_probabilities(fast.result, letters), torch.stack(slow_rows)
    )
    scores = _scores(compared.slow)
    return compared, {
        "dtype": str(wrapper.dtype).removeprefix("torch."),
        "cells": scores.numel(),
        "seconds": fast.seconds,
        "peak_gb": fast.peak_gb,
        "self_test_passes": _self_test(wrapper, prompts, steers),
        "largest_logit_deviation_std": max(largest),
        "median_largest_logit_deviation_std": statistics.median(largest),
        "largest_rms_logit_deviation_std": max(typical),
        **deviations_of(compared.fast, compared.slow),
        # that the comparison can fail: what steering and the questions make of the numbers
        "letters_probability": float(compared.slow[:, 0].sum(-1).mean()),
        "largest_effect_on_score": float((scores[:, 1:] - scores[:, :1]).abs().max()),
    }


def _self_test(
    wrapper: LlamaWrapper, prompts: Sequence[LetterPrompt], steers: Sequence[Steer]
) -> bool:
    """Whether the toolkit would take the fast way here by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LetterGrid(wrapper, prompts, steers).packed is not None


def _scores(probabilities: Tensor) -> Tensor:
    """P(first letter) / (P(first) + P(second)), shape (prompts, cells)."""
    return probabilities[..., 0] / probabilities.sum(-1)


def deviations_of(found: Tensor, expected: Tensor) -> dict[str, Any]:
    """How far probabilities are from others of the same cells, and how many answers flip."""
    a, b = _scores(found), _scores(expected)
    flipped = (found[..., 0] > found[..., 1]) != (expected[..., 0] > expected[..., 1])
    margins = (b - 0.5).abs()[flipped]
    return {
        "largest_probability_deviation": float((found - expected).abs().max()),
        "largest_score_deviation": float((a - b).abs().max()),
        "median_score_deviation": float((a - b).abs().median()),
        "flipped_answers": int(flipped.sum()),
        "largest_margin_of_a_flip": float(margins.max()) if len(margins) else 0.0,
    }


def vectors(bench: Bench) -> dict[str, Any]:
    """Vectors of all layers, against two whole passes a pair, sampled."""
    wrapper, layers = bench.wrapper, list(range(bench.wrapper.n_layers))
    data = PATHS.generate_data("refusal")
    items = load_ab_items(data, made_by="", limit=bench.plan.pairs)
    prompt_format = wrapper.prompt_format()
    prompts = [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in items]

    def fast() -> tuple[list[list[int]], Tensor]:
        pairs = PairOutputs(wrapper, prompts, layers)
        found = torch.empty(len(prompts), 2, len(layers), wrapper.width)
        for batch in pairs.batches:
            bench.meter.check()
            found[batch] = pairs.outputs(batch).float()
        return pairs.batches, found

    whole = bench.meter.median(fast, bench.plan.repeats)
    batches, outputs = whole.result
    slow, deviations = [], []
    for index in sample(len(prompts), bench.plan.samples):
        for answer, letter in enumerate(prompts[index].letters.values()):
            row = (*prompts[index].ids, letter)
            with wrapper.record(layers) as recorded:
                slow.append(bench.meter.run(partial(all_logits, wrapper, row)))
            expected = torch.stack([recorded[n][0, -1].float().cpu() for n in layers])
            error = (outputs[index, answer] - expected).norm(dim=-1) / expected.norm(dim=-1)
            deviations.append(float(error.max()))
    return {
        "pairs": len(prompts),
        "layers": len(layers),
        "batches": len(batches),
        "largest_relative_deviation": max(deviations),
        **against(whole, slow, 2 * len(prompts)),
    }


def sweep(bench: Bench) -> dict[str, Any]:
    """The paper's sweep of all layers, all behaviours, against one pass a cell, sampled."""
    wrapper, plan = bench.wrapper, bench.plan
    prompts = {b: ab_prompts(wrapper, b, plan.questions) for b in BEHAVIORS}
    steers = {
        b: deltas_of(steering_vectors(wrapper, prompts[b][0], DOSE, seed), MULTIPLIERS)
        for seed, b in enumerate(BEHAVIORS)
    }

    def fast() -> dict[str, Tensor]:
        found = {}
        for behavior in BEHAVIORS:
            grid = LetterGrid(wrapper, prompts[behavior], steers[behavior])
            found[behavior] = torch.empty(len(grid.prompts), 1 + len(grid.steers), 2).double()
            for batch in grid.batches:
                bench.meter.check()
                found[behavior][batch] = grid.probabilities(batch)
        return found

    whole = bench.meter.median(fast, bench.plan.repeats)
    generator, slow, wrong = random.Random(0), [], []
    for _ in range(plan.samples):
        behavior = generator.choice(BEHAVIORS)
        row, column = (
            generator.randrange(plan.questions),
            generator.randrange(len(steers["refusal"])),
        )
        prompt, steer = prompts[behavior][row], steers[behavior][column]
        slow.append(bench.meter.run(partial(steered_logits, wrapper, prompt, steer)))
        expected = letter_probabilities(slow[-1].result, list(prompt.letters.values()))
        wrong.append((whole.result[behavior][row, 1 + column] - expected).abs().max())
    cells = len(BEHAVIORS) * plan.questions * wrapper.n_layers * len(MULTIPLIERS)
    values = torch.cat([v.flatten() for v in whole.result.values()])
    return {
        "behaviors": len(BEHAVIORS),
        "layers": wrapper.n_layers,
        "multipliers": len(MULTIPLIERS),
        "questions": plan.questions,
        "cells": cells,
        "all_finite": bool(values.isfinite().all()),
        "largest_sampled_deviation": float(max(wrong)),
        **against(whole, slow, cells),
    }


def against(fast: Measured[Any], slow: Sequence[Measured[Any]], count: int) -> dict[str, Any]:
    """The whole fast run against ``count`` of the slow one's sampled pieces."""
    # the first one warms up
    slow_seconds = count * statistics.median(s.seconds for s in slow[1:] or slow)
    peaks = [s.peak_gb for s in slow if s.peak_gb is not None]
    return {
        "seconds": fast.seconds,
        "peak_gb": fast.peak_gb,
        "slow_seconds": slow_seconds,
        "slow_sampled": len(slow),
        "slow_peak_gb": max(peaks, default=None),
        "speedup": slow_seconds / fast.seconds,
    }


def sample(count: int, wanted: int) -> list[int]:
    return random.Random(0).sample(range(count), min(count, wanted))
