"""The fast way equals the slow way: every family, batch size, prompt format and grid."""

import warnings
from collections.abc import Sequence

import pytest
import torch
from conftest import FAMILIES, ROWS, make_model, make_tokenizer, make_wrapper
from transformers import AutoConfig, AutoModelForCausalLM

from llama_wrapper import LlamaWrapper
from utils.grid import LetterGrid, deltas_of
from utils.one_pass import (
    Steer,
    letter_probabilities,
    slow_last_token_outputs,
    slow_logits,
)
from utils.pairs import PairOutputs
from utils.prompts import LetterPrompt

LETTERS = ("A", "B")
MULTIPLIERS = [-2.0, -1.0, 0.0, 0.5, 1.0]


def prompts_of(wrapper: LlamaWrapper, system_prompt: str | None = None) -> list[LetterPrompt]:
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


@pytest.mark.parametrize("system_prompt", [None, "Be brief and agree with the user."])
def test_grid_equals_one_pass_per_cell(
    family_wrapper: LlamaWrapper, system_prompt: str | None
) -> None:
    prompts = prompts_of(family_wrapper, system_prompt)
    steers = deltas_of(random_vectors(family_wrapper, range(4)), MULTIPLIERS)
    grid = LetterGrid(family_wrapper, prompts, steers, budget=200)
    assert grid.packed is not None, "this family must take the fast way"
    assert grid.packed.prefix > 0
    assert any(len(batch) > 1 for batch in grid.batches)
    slow = slow_grid(family_wrapper, prompts, steers)
    assert (fast_grid(grid) - slow).abs().max() < 1e-5
    # the test can fail: steering moves these probabilities by far more than the tolerance
    assert (slow[:, 1:] - slow[:, :1]).abs().max() > 1e-3


def test_sliding_window_is_shorter_than_the_prompts() -> None:
    for family in ("mistral", "gemma2", "gemma3_text"):
        wrapper = make_wrapper(family)
        assert (
            min(len(p.ids) for p in prompts_of(wrapper)) > 12 == FAMILIES[family]["sliding_window"]
        )
        full = make_wrapper(family, sliding_window=500)
        prompt = prompts_of(wrapper)[0]
        assert not torch.allclose(wrapper.next_logits(prompt.ids), full.next_logits(prompt.ids))


@pytest.mark.parametrize("budget", [1, 90, 400, 5000])
def test_any_batch_size_gives_the_same(wrapper: LlamaWrapper, budget: int) -> None:
    prompts = prompts_of(wrapper)
    steers = deltas_of(random_vectors(wrapper, range(4)), MULTIPLIERS)
    found = fast_grid(LetterGrid(wrapper, prompts, steers, budget=budget))
    alone = fast_grid(LetterGrid(wrapper, prompts, steers, slow=True))
    assert (found - alone).abs().max() < 1e-6


def test_steers_come_back_in_the_order_given(wrapper: LlamaWrapper) -> None:
    prompts = prompts_of(wrapper)[:2]
    vectors = random_vectors(wrapper, range(4))
    steers = [Steer(n, m * vectors[n]) for n, m in [(3, 1.0), (0, -1.0), (3, -1.0), (1, 1.0)]]
    found = fast_grid(LetterGrid(wrapper, prompts, steers))
    assert (found - slow_grid(wrapper, prompts, steers)).abs().max() < 1e-6


def test_no_steers_is_the_unsteered_model(wrapper: LlamaWrapper) -> None:
    prompts = prompts_of(wrapper)
    found = fast_grid(LetterGrid(wrapper, prompts, []))
    for prompt, row in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt.ids])
        with torch.inference_mode():
            plain = wrapper.model(ids).logits[0, -1].softmax(-1)
        assert torch.allclose(plain[list(prompt.letters.values())].double(), row[0], atol=1e-7)


def test_multiplier_zero_is_unsteered(wrapper: LlamaWrapper) -> None:
    vectors = random_vectors(wrapper, [2])
    assert deltas_of(vectors, [0.0]) == []
    prompt = prompts_of(wrapper)[0]
    still = slow_logits(wrapper, prompt, Steer(2, 0.0 * vectors[2]))
    assert torch.equal(still, wrapper.next_logits(prompt.ids))


def test_eager_attention(wrapper: LlamaWrapper) -> None:
    wrapper.model.set_attn_implementation("eager")
    prompts = prompts_of(wrapper)
    steers = deltas_of(random_vectors(wrapper, range(4)), MULTIPLIERS)
    grid = LetterGrid(wrapper, prompts, steers)
    assert grid.packed is not None
    assert (fast_grid(grid) - slow_grid(wrapper, prompts, steers)).abs().max() < 1e-5


def test_alibi_falls_back_to_the_slow_way_with_a_warning() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "bloom", hidden_size=32, n_layer=3, n_head=4, vocab_size=len(make_tokenizer())
    )
    wrapper = LlamaWrapper(AutoModelForCausalLM.from_config(config), make_tokenizer())
    prompts = prompts_of(wrapper)
    steers = deltas_of(random_vectors(wrapper, range(3)), [1.0])
    with pytest.warns(UserWarning, match="one forward pass a cell"):
        grid = LetterGrid(wrapper, prompts, steers)
    assert grid.packed is None
    assert torch.equal(fast_grid(grid), slow_grid(wrapper, prompts, steers))
    with pytest.warns(UserWarning, match="one forward pass a cell"):
        pairs = PairOutputs(wrapper, prompts, [0, 2])
    assert pairs.packed is None
    assert pairs.outputs(pairs.batches[0]).shape == (1, 2, 2, 32)


def test_a_model_that_disagrees_is_caught(
    wrapper: LlamaWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attention that ignores the packed mask must be noticed on the test prompt."""
    from utils import block_io

    cut = block_io._cut
    # hand blocks positions shifted by one for the branches, as a wrong layout would
    monkeypatch.setattr(
        block_io,
        "_cut",
        lambda name, value, length, layout: (
            tuple(p.roll(1, 1) for p in cut(name, value, length, layout))
            if name == "position_embeddings"
            else cut(name, value, length, layout)
        ),
    )
    steers = deltas_of(random_vectors(wrapper, range(4)), [1.0])
    with pytest.warns(UserWarning, match="differ by"):
        grid = LetterGrid(wrapper, prompts_of(wrapper), steers)
    assert grid.packed is None


@pytest.mark.parametrize("budget", [1, 100, 5000])
def test_pair_outputs_equal_two_full_passes(family_wrapper: LlamaWrapper, budget: int) -> None:
    prompts = prompts_of(family_wrapper)
    layers = list(range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = PairOutputs(family_wrapper, prompts, layers, budget=budget)
    for batch in pairs.batches:
        for index, fast in zip(batch, pairs.outputs(batch), strict=True):
            for answer, letter in enumerate(prompts[index].letters.values()):
                row = (*prompts[index].ids, letter)
                slow = slow_last_token_outputs(family_wrapper, row, layers)
                error = (fast[answer] - slow).norm(dim=-1) / slow.norm(dim=-1)
                assert error.max() < 1e-5


def test_nothing_above_the_highest_layer_is_computed(wrapper: LlamaWrapper) -> None:
    calls = []
    for index, block in enumerate(wrapper.blocks):
        block.mlp.register_forward_hook(lambda *_, index=index: calls.append(index))
    wrapper.model.lm_head.register_forward_hook(lambda *_: calls.append("vocabulary"))
    pairs = PairOutputs(wrapper, prompts_of(wrapper), [0, 1])
    calls.clear()
    pairs.outputs(pairs.batches[0])
    assert calls == [0, 1]


def test_half_precision_stays_on_the_fast_way() -> None:
    model = make_model("llama", initializer_range=0.05).to(torch.bfloat16)
    wrapper = LlamaWrapper(model, make_tokenizer())
    steers = deltas_of(random_vectors(wrapper, range(4)), [1.0])
    grid = LetterGrid(wrapper, prompts_of(wrapper), steers)
    assert grid.packed is not None
    slow = slow_grid(wrapper, grid.prompts, steers)
    assert (fast_grid(grid) - slow).abs().max() < 0.01
