"""16-bit models: what is read is not rounded again, and the measure is the model's own rounding."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from conftest import make_model, make_tokenizer
from grids import letter_prompts
from running import call
from torch import nn

from benchmarks.random_model import Shape, random_model, steering_vectors
from llama_wrapper import LlamaWrapper
from utils.blocks import block_io, vocabulary
from utils.blocks.vocabulary import head_in_float32, head_in_parts
from utils.data.evaluation import AB
from utils.extraction.pairs import PairOutputs
from utils.prompts.format import OpenPrompt
from utils.scores.summary import _letter_columns
from utils.stats import slopes
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer

HALVES = [torch.bfloat16, torch.float16]
A, B = 305, 309


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", HALVES)
def test_the_head_of_a_half_precision_model_rounds_nothing(
    dtype: torch.dtype, bias: bool, hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_PART", 24 * 100)
    torch.manual_seed(0)
    head, hidden = nn.Linear(24, 1007, bias=bias, dtype=dtype), 20 * torch.randn(5, 1, 24)
    if hooked:  # as a model spread over devices has it
        add_hook_to_module(head, AlignDevicesHook("cpu"))
    hidden = hidden.to(dtype)
    exact = hidden.double() @ head.weight.double().T
    if bias:
        exact = exact + head.bias.double()
    with torch.inference_mode():
        before = head(hidden)
        with head_in_float32(head), head_in_parts(head):
            found = head(hidden)
        after = head(hidden)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-4 < 1e-2 < (before - exact).abs().max()
    assert torch.equal(before, after) and after.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_models_are_left_alone(dtype: torch.dtype) -> None:
    head = nn.Linear(4, 6, dtype=dtype)
    with head_in_float32(head):
        assert "forward" not in vars(head)


def half_wrapper(dtype: torch.dtype) -> tuple[LlamaWrapper, OpenPrompt]:
    """A model whose two best tokens after the prompt tie if their logits are rounded."""
    model = make_model("llama")
    model.to(dtype)  # type: ignore[arg-type]  # the library's wrapper loses its signature
    wrapper = LlamaWrapper(model, make_tokenizer())
    prompt = wrapper.prompt_format().open_prompt("Is it raining?")
    head = wrapper.model.get_output_embeddings()
    with torch.no_grad():
        hidden = wrapper.decoder(torch.tensor([prompt.ids])).last_hidden_state[0, -1]
        best = (20 / hidden.float().square().sum() * hidden.float()).to(dtype)
        head.weight[A] = head.weight[B] = best
        element = int(hidden.float().abs().argsort()[3])
        head.weight[B, element] += 0.01 * hidden[element].sign() * best.abs().max()
        rounded = nn.functional.linear(hidden, head.weight)
        assert rounded[A] == rounded[B] == rounded.max()
    return wrapper, prompt


@pytest.mark.parametrize("dtype", HALVES)
def test_two_tokens_that_tie_when_rounded_are_told_apart_both_ways(dtype: torch.dtype) -> None:
    wrapper, prompt = half_wrapper(dtype)
    logits = wrapper.next_logits(prompt.ids)
    assert logits.dtype == torch.float32 and logits[B] > logits[A]
    assert wrapper.generate([prompt.ids], max_new_tokens=1) == [[B]]
    for slow in (False, True):
        run = GreedyGrid(wrapper, [prompt], [None], max_new_tokens=1, slow=slow)
        assert run.answers([0])[0][0].tokens == (B,)


def deep(blocks: int, seed: int) -> tuple[LlamaWrapper, list[Steer]]:
    wrapper = random_model(
        Shape(blocks, 64, 4, 172), make_tokenizer(), torch.device("cpu"), torch.bfloat16, seed
    )
    vectors = steering_vectors(wrapper, letter_prompts(wrapper)[0], 0.3, seed)
    return wrapper, [Steer(n, vectors[n]) for n in (0, blocks - 1)]


def ways(wrapper: LlamaWrapper, steers: list[Steer]) -> list[Any]:
    prompts = letter_prompts(wrapper)
    return [
        LetterGrid(wrapper, prompts, steers),
        PairOutputs(wrapper, prompts, list(range(wrapper.n_layers))),
    ]


@pytest.mark.parametrize("blocks", [4, 24])
def test_rounding_is_no_reason_for_the_slow_way_however_deep_the_model(blocks: int) -> None:
    wrapper, steers = deep(blocks, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = ways(wrapper, steers)
    for run in runs:
        assert run.packed is not None
        assert 0 < run.rounding.noise < 0.1 and 0 < run.rounding.found < 0.1
        assert "bfloat16" in str(run.rounding)


def test_no_noise_is_measured_where_the_tolerance_is_fixed() -> None:
    wrapper = LlamaWrapper(make_model("llama"), make_tokenizer())
    assert all(run.rounding is None for run in ways(wrapper, []))


def test_wrong_positions_are_found_in_half_precision_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved by one, positions change these logits by 0.12 standard deviations at most."""
    wrapper, steers = deep(4, 0)
    cut = block_io._cut
    monkeypatch.setattr(
        block_io,
        "_cut",
        lambda name, value, length, layout: (
            tuple(p.roll(1, 1) for p in cut(name, value, length, layout))
            if name == "position_embeddings"
            else cut(name, value, length, layout)
        ),
    )
    with pytest.warns(UserWarning, match="differ by") as warned:
        runs = ways(wrapper, steers)
    assert [run.packed for run in runs] == [None, None] and len(warned) == 2


def test_slopes_of_equal_numbers_are_zero_and_count_as_ties() -> None:
    rng = np.random.default_rng(0)
    for x in ([-2, -1, 0.3], [-1, 0, 1, 7], [0.1, 0.2, 0.4, 0.7, 5]):
        y = np.repeat(rng.normal(size=(200, 1)), len(x), axis=1)
        assert (slopes(x, y) == 0).all()


@pytest.mark.parametrize("tied", [0, 1, 3])
def test_the_summary_tells_ties_from_what_steers(tied: int) -> None:
    def row(strength: float, number: int) -> dict[str, Any]:
        a = 0.3 if number < tied else 0.3 + (0.1 if number % 2 else -0.1) * strength
        return {
            "question": "?",
            "answer_matching_behavior": "(A)",
            "answer_not_matching_behavior": "(B)",
            "a_prob": a,
            "b_prob": 0.7 - a,
        }

    rows = {s: [row(s, n) for n in range(6)] for s in (-1.0, 0.0, 0.4, 1.0)}
    found = _letter_columns(AB, rows)
    assert float(found.get("tied_fraction", 0)) == pytest.approx(tied / 6, abs=1e-3)
    falling = sum(n % 2 == 0 for n in range(tied, 6))
    assert float(found["anti_steerable_fraction"]) == pytest.approx(falling / 6, abs=1e-3)


def test_a_run_reports_its_rounding(
    datasets: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--datasets_dir", datasets, "--artifacts_dir", tmp_path / "out", "--behaviors", "calm")
    model = ("--model", tiny_folder, "--dtype")
    for dtype, said in (("float32", False), ("bfloat16", True)):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*one forward pass a cell")
            call("generate_vectors", "--layers", 1, "--overwrite", *flags, *model, dtype)
        assert ("by rounding alone" in capsys.readouterr().out) == said
        call("normalize_vectors", "--overwrite", *flags)
        cells = ("--layers", 1, "--multipliers", 1, "--overwrite")
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*one forward pass a cell")
            call("prompting_with_steering", *cells, *flags, *model, dtype)
        assert ("by rounding alone" in capsys.readouterr().out) == said
