"""The fast way equals the slow way: every family, batch size, prompt format and grid."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from conftest import FAMILIES, ROWS, make_model, make_tokenizer, make_wrapper
from grids import fast_grid, letter_prompts, random_vectors, slow_grid
from transformers import AutoConfig, AutoModelForCausalLM

from llama_wrapper import LlamaWrapper
from utils.extraction.pairs import PairOutputs
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid, deltas_of
from utils.steering.one_pass import Steer, slow_last_token_outputs, slow_logits

MULTIPLIERS = [-2.0, -1.0, 0.0, 0.5, 1.0]


@pytest.mark.parametrize("system_prompt", [None, "Be brief and agree with the user."])
def test_grid_equals_one_pass_per_cell(
    family_wrapper: LlamaWrapper, system_prompt: str | None
) -> None:
    prompts = letter_prompts(family_wrapper, system_prompt)
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
            min(len(p.ids) for p in letter_prompts(wrapper))
            > 12
            == FAMILIES[family]["sliding_window"]
        )
        full = make_wrapper(family, sliding_window=500)
        prompt = letter_prompts(wrapper)[0]
        assert not torch.allclose(wrapper.next_logits(prompt.ids), full.next_logits(prompt.ids))


@pytest.mark.parametrize("budget", [1, 90, 400, 5000])
def test_any_batch_size_gives_the_same(wrapper: LlamaWrapper, budget: int) -> None:
    prompts = letter_prompts(wrapper)
    steers = deltas_of(random_vectors(wrapper, range(4)), MULTIPLIERS)
    found = fast_grid(LetterGrid(wrapper, prompts, steers, budget=budget))
    alone = fast_grid(LetterGrid(wrapper, prompts, steers, slow=True))
    assert (found - alone).abs().max() < 1e-6


def test_steers_come_back_in_the_order_given(wrapper: LlamaWrapper) -> None:
    prompts = letter_prompts(wrapper)[:2]
    vectors = random_vectors(wrapper, range(4))
    steers = [Steer(n, m * vectors[n]) for n, m in [(3, 1.0), (0, -1.0), (3, -1.0), (1, 1.0)]]
    found = fast_grid(LetterGrid(wrapper, prompts, steers))
    assert (found - slow_grid(wrapper, prompts, steers)).abs().max() < 1e-6


def test_no_steers_is_the_unsteered_model(wrapper: LlamaWrapper) -> None:
    prompts = letter_prompts(wrapper)
    found = fast_grid(LetterGrid(wrapper, prompts, []))
    for prompt, row in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt.ids])
        with torch.inference_mode():
            plain = wrapper.model(ids).logits[0, -1].softmax(-1)
        assert torch.allclose(plain[list(prompt.letters.values())].double(), row[0], atol=1e-7)


def test_multiplier_zero_is_unsteered(wrapper: LlamaWrapper) -> None:
    vectors = random_vectors(wrapper, [2])
    assert deltas_of(vectors, [0.0]) == []
    prompt = letter_prompts(wrapper)[0]
    still = slow_logits(wrapper, prompt, Steer(2, 0.0 * vectors[2]))
    assert torch.equal(still, wrapper.next_logits(prompt.ids))


def test_eager_attention(wrapper: LlamaWrapper) -> None:
    wrapper.model.set_attn_implementation("eager")
    prompts = letter_prompts(wrapper)
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
    prompts = letter_prompts(wrapper)
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
    from utils.blocks import block_io

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
        grid = LetterGrid(wrapper, letter_prompts(wrapper), steers)
    assert grid.packed is None


def change_block(
    wrapper: LlamaWrapper,
    layer: int,
    change: Callable[[torch.Tensor], torch.Tensor],
    *,
    packed: bool,
) -> None:
    """Let a block change its output in the fast way's calls only, or in the slow way's only."""
    block = wrapper.blocks[layer]
    forward = block.forward

    def changed(*args: Any, **kwargs: Any) -> torch.Tensor:
        hidden = forward(*args, **kwargs)
        # packed branches have a mask, answers decoded together several rows
        fast = kwargs.get("attention_mask") is not None or len(hidden) > 1
        return change(hidden) if fast == packed else hidden

    block.forward = changed


def moved(hidden: torch.Tensor) -> torch.Tensor:
    return hidden + torch.linspace(-1, 1, hidden.shape[-1])


def overflowing(hidden: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.arange(hidden.shape[-1]) == 5, float("inf"), hidden)


def failing(error: Exception) -> Callable[[torch.Tensor], torch.Tensor]:
    def fail(_hidden: torch.Tensor) -> torch.Tensor:
        raise error

    return fail


def grid_of(wrapper: LlamaWrapper) -> bool:
    steers = deltas_of(random_vectors(wrapper, range(4)), [1.0])
    return LetterGrid(wrapper, letter_prompts(wrapper), steers).packed is not None


def pairs_of(wrapper: LlamaWrapper, layers: Sequence[int] = (0, 1, 2, 3)) -> bool:
    return PairOutputs(wrapper, letter_prompts(wrapper), layers).packed is not None


def answers_of(wrapper: LlamaWrapper) -> bool:
    steers = [None, *deltas_of(random_vectors(wrapper, range(4)), [1.0])]
    prompts = [wrapper.prompt_format().open_prompt(row["question"]) for row in ROWS]
    return GreedyGrid(wrapper, prompts, steers, max_new_tokens=2).together


@pytest.mark.parametrize(
    ("packed", "change", "reason"),
    [
        (True, moved, "differ by"),
        (False, moved, "differ by"),
        (True, overflowing, "differ in which numbers are finite"),
        (False, overflowing, "differ in which numbers are finite"),
        (True, failing(RuntimeError("not these shapes\nat all")), ": not these shapes; "),
        (True, failing(AssertionError()), ": AssertionError; "),
    ],
)
@pytest.mark.parametrize("takes_the_fast_way", [grid_of, pairs_of, answers_of])
def test_whoever_falls_to_the_slow_way_says_so_once_with_the_reason(
    wrapper: LlamaWrapper,
    takes_the_fast_way: Callable[[LlamaWrapper], bool],
    packed: bool,
    change: Callable[[torch.Tensor], torch.Tensor],
    reason: str,
) -> None:
    change_block(wrapper, 3, change, packed=packed)
    with pytest.warns(UserWarning, match="one forward pass a cell") as warned:
        assert not takes_the_fast_way(wrapper)
    (warning,) = warned
    assert reason in str(warning.message)
    assert warning.filename == __file__, "it points at whoever asked for the fast way"


@pytest.mark.parametrize("takes_the_fast_way", [grid_of, pairs_of, answers_of])
def test_what_breaks_either_way_is_no_disagreement(
    wrapper: LlamaWrapper, takes_the_fast_way: Callable[[LlamaWrapper], bool]
) -> None:
    for packed in (True, False):
        change_block(wrapper, 3, overflowing, packed=packed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert takes_the_fast_way(wrapper)


def test_a_disagreement_at_an_early_layer_only_is_caught(wrapper: LlamaWrapper) -> None:
    """Block 1 moves the packed stream, and block 2, whose own output is right, moves it back."""
    change_block(wrapper, 1, moved, packed=True)
    forward = wrapper.blocks[2].forward

    def moved_back(*args: Any, **kwargs: Any) -> torch.Tensor:
        if kwargs.get("attention_mask") is not None:
            kwargs["hidden_states"] = 2 * kwargs["hidden_states"] - moved(kwargs["hidden_states"])
        return forward(*args, **kwargs)

    wrapper.blocks[2].forward = moved_back
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pairs_of(wrapper, [0, 2, 3])
    for layers in ([0, 1, 2, 3], [1, 2], [1]):
        with pytest.warns(UserWarning, match="differ by") as warned:
            assert not pairs_of(wrapper, layers)
        assert len(warned) == 1


def test_double_precision_is_compared_in_double_precision(wrapper: LlamaWrapper) -> None:
    """Numbers with a large mean: rounded to float32 they would differ by more than 1e-6."""
    wrapper.model.double()
    wrapper.blocks[3].get_submodule("mlp").register_forward_hook(lambda _m, _a, out: out + 1e3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pairs_of(wrapper) and grid_of(wrapper)


@pytest.mark.parametrize("budget", [1, 100, 5000])
def test_pair_outputs_equal_two_full_passes(family_wrapper: LlamaWrapper, budget: int) -> None:
    prompts = letter_prompts(family_wrapper)
    layers = list(range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = PairOutputs(family_wrapper, prompts, layers, budget=budget)
    assert sorted(i for batch in pairs.batches for i in batch) == list(range(len(prompts)))
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
        part = block.get_submodule("mlp")
        part.register_forward_hook(lambda *_, index=index: calls.append(index))
    wrapper.model.lm_head.register_forward_hook(lambda *_: calls.append("vocabulary"))
    pairs = PairOutputs(wrapper, letter_prompts(wrapper), [0, 1])
    calls.clear()
    pairs.outputs(pairs.batches[0])
    assert calls == [0, 1]


def test_half_precision_stays_on_the_fast_way() -> None:
    model = make_model("llama", initializer_range=0.05).bfloat16()
    wrapper = LlamaWrapper(model, make_tokenizer())
    steers = deltas_of(random_vectors(wrapper, range(4)), [1.0])
    grid = LetterGrid(wrapper, letter_prompts(wrapper), steers)
    assert grid.packed is not None
    slow = slow_grid(wrapper, grid.prompts, steers)
    assert (fast_grid(grid) - slow).abs().max() < 0.01
