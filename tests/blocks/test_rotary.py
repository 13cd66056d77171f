"""A number belongs to its prompt alone, also where rotary frequencies follow the length."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from conftest import make_wrapper
from grids import letter_prompts, open_prompts
from transformers import AutoConfig

from llama_wrapper import LlamaWrapper
from utils.blocks.rotary import Stretching, stretching
from utils.extraction import pairs
from utils.extraction.pairs import PairOutputs
from utils.prompts.format import LetterPrompt
from utils.steering import decoding, grid, one_pass
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer

NEW = 6
# Between the lengths of the tests' prompts: letters' are 55 to 86 tokens, open ones 16 to 47.
LETTER_CONTEXT, OPEN_CONTEXT = 67, 35


def longrope(context: int) -> dict[str, Any]:
    factors = {"short_factor": [1.0] * 4, "long_factor": [3.0, 5.0, 7.0, 9.0]}
    scaling = {"rope_type": "longrope", "rope_theta": 1e4, **factors}
    return {
        "head_dim": 8,
        "max_position_embeddings": 512,
        "original_max_position_embeddings": context,
        "rope_parameters": scaling | {"original_max_position_embeddings": context},
    }


def dynamic(context: int) -> dict[str, Any]:
    scaling = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 8.0}
    return {"head_dim": 8, "max_position_embeddings": context, "rope_parameters": scaling}


def one_kind_of_blocks(context: int) -> dict[str, Any]:
    """As Gemma 3 has it: every type of block its own frequencies."""
    plain = {"rope_type": "default", "rope_theta": 1e4}
    made = dynamic(context)
    return made | {
        "rope_parameters": {"sliding_attention": plain, "full_attention": made["rope_parameters"]}
    }


STRETCHED = {
    "phi3 longrope": ("phi3", longrope),
    "llama longrope": ("llama", longrope),
    "llama dynamic": ("llama", dynamic),
    "gemma3 dynamic": ("gemma3_text", one_kind_of_blocks),
}
stretched = pytest.mark.parametrize("name", STRETCHED)


def make(name: str, context: int) -> LlamaWrapper:
    """The same model every time, and fresh: nothing has run on it."""
    family, options = STRETCHED[name]
    return make_wrapper(family, **options(context))


def steers_of(wrapper: LlamaWrapper) -> list[Steer]:
    generator = torch.Generator().manual_seed(1)
    return [Steer(n, 2 * torch.randn(wrapper.width, generator=generator)) for n in (0, 2)]


def both_sides(prompts: Any, context: int) -> bool:
    lengths = [len(p.ids) for p in prompts]
    return min(lengths) < context - NEW and context < max(lengths)


@stretched
def test_letters_of_a_run_are_those_of_each_prompt_alone(name: str) -> None:
    wrapper = make(name, LETTER_CONTEXT)
    prompts, steers = letter_prompts(wrapper), steers_of(wrapper)
    assert both_sides(prompts, LETTER_CONTEXT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = LetterGrid(wrapper, prompts, steers, budget=2000)
    assert run.packed is not None
    assert sum(map(len, run.batches)) == len(prompts)
    for batch in run.batches:
        for index, found in zip(batch, run.probabilities(batch), strict=True):
            fresh, prompt = make(name, LETTER_CONTEXT), prompts[index]
            with torch.inference_mode():
                plain = fresh.model(torch.tensor([prompt.ids])).logits[0, -1].softmax(-1)
            letters = list(prompt.letters.values())
            assert (found[0] - plain[letters]).abs().max() < 1e-5
            for steer, ours in zip(steers, found[1:], strict=True):
                with fresh.steer({steer.layer: steer.delta}, prompt.steer_from):
                    logits = make_plain(fresh, prompt)
                assert (ours - logits.softmax(-1)[letters]).abs().max() < 1e-5


def make_plain(wrapper: LlamaWrapper, prompt: LetterPrompt) -> torch.Tensor:
    with torch.inference_mode():
        return wrapper.model(torch.tensor([prompt.ids])).logits[0, -1]


@stretched
def test_pairs_of_a_run_are_those_of_each_pair_alone(name: str) -> None:
    wrapper = make(name, LETTER_CONTEXT)
    prompts, layers = letter_prompts(wrapper), list(range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = PairOutputs(wrapper, prompts, layers, budget=2000)
    assert sum(map(len, run.batches)) == len(prompts)
    for batch in run.batches:
        for index, found in zip(batch, run.outputs(batch), strict=True):
            fresh = make(name, LETTER_CONTEXT)
            for ours, letter in zip(found, prompts[index].letters.values(), strict=True):
                with torch.inference_mode():
                    ids = torch.tensor([[*prompts[index].ids, letter]])
                    states = fresh.model(ids, output_hidden_states=True).hidden_states
                expected = torch.stack([h[0, -1] for h in states[1:4]])
                assert torch.allclose(ours[:3], expected, atol=1e-4)


@stretched
def test_answers_of_a_run_are_those_of_each_prompt_alone(name: str) -> None:
    wrapper = make(name, OPEN_CONTEXT)
    prompts, steers = open_prompts(wrapper), [None, *steers_of(wrapper)]
    assert both_sides(prompts, OPEN_CONTEXT)
    with pytest.warns(UserWarning, match=rf"of {len(prompts)} prompts") as warned:
        run = GreedyGrid(wrapper, prompts, steers, max_new_tokens=NEW, rows=40)
    assert len(warned) == 1
    assert any(len(batch) > 1 for batch in run.batches), "within the context all is fast"
    assert sum(map(len, run.batches)) == len(prompts)
    for batch in run.batches:
        for index, answers in zip(batch, run.answers(batch), strict=True):
            for steer, answer in zip(steers, answers, strict=True):
                fresh = make(name, OPEN_CONTEXT)
                deltas = {} if steer is None else {steer.layer: steer.delta}
                with fresh.steer(deltas, prompts[index].steer_from):
                    (plain,) = fresh.generate([prompts[index].ids], max_new_tokens=NEW)
                assert list(answer.tokens) == plain


@stretched
def test_no_pass_depends_on_what_ran_before(name: str) -> None:
    wrapper = make(name, LETTER_CONTEXT)
    prompts = letter_prompts(wrapper)
    prompts.sort(key=lambda p: len(p.ids))
    rows = [p.ids for p in prompts] + [prompts[-1].ids[:LETTER_CONTEXT]]
    first = [wrapper.next_logits(row) for row in rows]
    assert all(
        torch.equal(wrapper.next_logits(row), expected)
        for row, expected in list(zip(rows, first, strict=True))[::-1]
    )


@stretched
@pytest.mark.parametrize("way", [LetterGrid, PairOutputs, GreedyGrid])
def test_the_self_check_finds_out_by_itself(
    name: str, way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the configuration says: the longest and the shortest prompt run together."""
    for module in (grid, pairs, decoding, one_pass):
        monkeypatch.setattr(module, "stretching", lambda _config: Stretching())
    wrapper = make(name, OPEN_CONTEXT if way is GreedyGrid else LETTER_CONTEXT)
    with pytest.warns(UserWarning, match="differ by"):
        if way is GreedyGrid:
            way(wrapper, open_prompts(wrapper), [None], max_new_tokens=NEW)
        elif way is LetterGrid:
            way(wrapper, letter_prompts(wrapper), steers_of(wrapper))
        else:
            way(wrapper, letter_prompts(wrapper), [0, 1, 2, 3])


STATIC = {
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


@pytest.mark.parametrize("kind", STATIC)
def test_what_turns_by_position_alone_stays_on_the_fast_way(kind: str) -> None:
    scaling = {"rope_type": kind, "rope_theta": 1e4, **STATIC[kind]}
    wrapper = make_wrapper("llama", rope_parameters=scaling, max_position_embeddings=256)
    assert stretching(wrapper.model.config) == Stretching()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = LetterGrid(wrapper, letter_prompts(wrapper), steers_of(wrapper), budget=2000)
        answers = GreedyGrid(wrapper, open_prompts(wrapper), [None], max_new_tokens=2)
    assert run.packed is not None and run.packed.prefix > 0 and len(run.batches) < 8
    assert answers.together and len(answers.batches) == 1


def test_prompts_within_the_context_are_as_fast_as_any() -> None:
    wrapper = make("phi3 longrope", 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = LetterGrid(wrapper, letter_prompts(wrapper), steers_of(wrapper), budget=2000)
        answers = GreedyGrid(wrapper, open_prompts(wrapper), [None], max_new_tokens=2)
    assert run.packed is not None and run.packed.prefix > 0 and len(run.batches) < 8
    assert answers.together and not answers.alone


@pytest.mark.parametrize(
    ("changes", "regimes"),
    [
        (longrope(64), {64: 0, 65: 65, 200: 65}),
        (dynamic(64), {64: 0, 65: 65, 200: 200}),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 9},
            {9: 0, 12: 12},
        ),
        ({}, {10**6: 0}),
    ],
)
def test_a_regime_is_named_by_its_shortest_length(
    changes: dict[str, Any], regimes: dict[int, int]
) -> None:
    found = stretching(AutoConfig.for_model("llama", **changes))
    assert {length: found.regime(length) for length in regimes} == regimes
