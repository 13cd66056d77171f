"""Parts of blocks, logit lens, projections: against output_hidden_states and the model's logits."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import FAMILIES, GATED, QUESTIONS, TINY, decoded, make_wrapper
from hooks import count_hooks, hidden_states, steer_vector
from torch import nn

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.lens.block_parts import PARTS, take_apart
from utils.lens.conversation import converse
from utils.lens.logit_lens import (
    Change,
    Lens,
    from_mean,
    largest_changes,
    lens_logits,
    letter_spellings,
    projections,
    read_lens,
)

IDS = list(range(20, 60))
GRANITE = {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "logits_scaling": 8.0}
# Families whose norms, factors or order of adding differ from those of the other tests.
MORE = {
    "cohere": GATED | {"logit_scale": 0.5},
    "granite": GATED | GRANITE,
    "glm4": GATED | {"head_dim": 8},
    "gptj": {"n_embd": 32, "n_layer": 4, "n_head": 4, "rotary_dim": 4},
    "mixtral": GATED | {"num_local_experts": 4},
    "olmo2": GATED,
    "phi": GATED,
    "phi3": GATED,
}
NOT_SUMS = {"falcon": TINY, "bloom": {"hidden_size": 32, "n_layer": 4, "n_head": 4}}


@pytest.fixture(params=sorted(FAMILIES | MORE))
def any_wrapper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LlamaWrapper:
    for family, options in MORE.items():
        monkeypatch.setitem(FAMILIES, family, FAMILIES.get(family, options))
    return make_wrapper(request.param)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


class Nothing(nn.Module):
    """An MLP that adds nothing."""

    def forward(self, hidden_states: torch.Tensor, *_more: object) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


def test_the_lens_of_the_last_block_is_the_models_own_logits(any_wrapper: LlamaWrapper) -> None:
    with any_wrapper.record([3]) as kept, torch.inference_mode():
        logits = any_wrapper.model(torch.tensor([IDS])).logits
    found = lens_logits(any_wrapper, kept[3])
    assert found.shape == (1, len(IDS), logits.shape[-1])
    assert torch.equal(found, logits)
    lens = read_lens(any_wrapper, IDS)
    assert torch.allclose(lens.at(3, "output"), logits[0, -1].softmax(-1), atol=1e-6)


def test_the_parts_of_every_block_add_up(any_wrapper: LlamaWrapper) -> None:
    streams = hidden_states(any_wrapper, IDS)
    with torch.inference_mode():
        hidden = any_wrapper.model(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    found = take_apart(any_wrapper, IDS)
    assert torch.equal(found.entry, hidden[0][0])
    assert torch.equal(found.logits, any_wrapper.next_logits(IDS))
    assert len(found.blocks) == len(streams) == 4
    for layer, block in enumerate(found.blocks):
        before = (found.entry if layer == 0 else streams[layer - 1][0]).double()
        assert torch.allclose(block.output, streams[layer][0], atol=1e-6)
        assert close(before + block.attention.double(), block.after_attention.double())
        assert close(before + block.attention.double() + block.mlp, block.output.double())
        assert min(block.attention.abs().max(), block.mlp.abs().max()) > 1e-3


def test_without_its_mlp_a_block_puts_out_the_residual_after_attention(
    any_wrapper: LlamaWrapper,
) -> None:
    """Tells attention's contribution from the MLP's: a sum is the same with both exchanged."""
    found = take_apart(any_wrapper, IDS)
    for layer in (2, 0):
        any_wrapper.blocks[layer].mlp = Nothing()
        with any_wrapper.record([layer]) as kept:
            any_wrapper.next_logits(IDS)
        assert close(kept[layer][0], found.blocks[layer].after_attention), layer


@pytest.mark.parametrize("family", NOT_SUMS)
def test_blocks_that_are_not_the_sum_of_their_modules_are_refused_by_name(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, family, NOT_SUMS[family])
    with pytest.raises(UserError, match=f"architecture '{family}': block 0 .* taken apart"):
        take_apart(make_wrapper(family), IDS)


def test_a_block_that_adds_a_little_more_is_refused(wrapper: LlamaWrapper) -> None:
    forward = wrapper.blocks[2].forward
    wrapper.blocks[2].forward = lambda *args, **kwargs: forward(*args, **kwargs) + 1e-3
    with pytest.raises(UserError, match="architecture 'llama': block 2"):
        read_lens(wrapper, IDS)


def test_a_lens_that_is_not_the_models_is_refused(wrapper: LlamaWrapper) -> None:
    wrapper.model.config.logit_scale = 2.0  # Llama does not look at it, the lens does
    with pytest.raises(UserError, match="'llama': final norm and unembedding"):
        read_lens(wrapper, IDS)


def test_half_precision_adds_up_too() -> None:
    for family in ("llama", "gemma2", "gpt_neox"):
        wrapper = make_wrapper(family)
        wrapper.model.to(torch.bfloat16)
        assert read_lens(wrapper, IDS).probabilities.dtype == torch.float32


def test_steering_changes_the_lens_from_its_layer_on(any_wrapper: LlamaWrapper) -> None:
    delta, first, layer = 3 * steer_vector(any_wrapper), 30, 1
    plain = take_apart(any_wrapper, IDS)
    steered = take_apart(any_wrapper, IDS, {layer: delta}, first)
    with any_wrapper.steer({layer: delta}, first):
        assert torch.equal(steered.logits, any_wrapper.next_logits(IDS))
    for part in PARTS:
        assert torch.equal(getattr(steered.blocks[0], part), getattr(plain.blocks[0], part))
        same = getattr(steered.blocks[1], part) - getattr(plain.blocks[1], part)
        assert same[:first].abs().max() == 0
        if part == "output":
            assert close(same[first:], delta.expand_as(same[first:]))
        else:
            assert same.abs().max() == 0
    before = read_lens(any_wrapper, IDS)
    after = read_lens(any_wrapper, IDS, deltas={layer: delta}, from_position=first)
    change = (after.probabilities - before.probabilities).abs().amax(-1)
    assert change[0].max() == 0 and change[1, :3].max() == 0
    assert change[1, 3] > 1e-4 and change[2:].min() > 1e-6


def test_the_lens_reads_the_position_asked_for(wrapper: LlamaWrapper) -> None:
    found, lens = take_apart(wrapper, IDS), read_lens(wrapper, IDS, position=7)
    for index, part in enumerate(PARTS):
        states = torch.stack([getattr(block, part)[7] for block in found.blocks])
        expected = lens_logits(wrapper, states).double().softmax(-1)
        assert torch.allclose(lens.probabilities[:, index].double(), expected, atol=1e-6)
    assert torch.allclose(lens.probabilities.sum(-1), torch.ones(4, 4), atol=1e-5)
    top = lens.top(2, "mlp", 5)
    values, tokens = lens.at(2, "mlp").sort(descending=True)
    assert top == list(zip(tokens[:5].tolist(), values[:5].tolist(), strict=True))
    # Attention is causal, so the same token of a shorter prompt reads the same.
    cut = read_lens(wrapper, IDS[:8])
    assert torch.allclose(cut.probabilities, lens.probabilities, atol=1e-5)


def test_largest_changes_are_sorted_and_signed() -> None:
    def lens(*probabilities: float) -> Lens:
        return Lens(torch.tensor(probabilities).expand(1, len(PARTS), -1))

    before, after = lens(0.5, 0.2, 0.2, 0.1, 0.0), lens(0.1, 0.3, 0.2, 0.0996, 0.3004)
    rising, falling = largest_changes(before, after, 0, "mlp", 3)
    assert [c.token for c in rising] == [4, 1] and [c.token for c in falling] == [0]
    assert math.isclose(rising[0].difference, 0.3004, rel_tol=1e-5)
    assert math.isclose(falling[0].difference, -0.4, rel_tol=1e-5)
    assert [c.token for c in largest_changes(before, after, 0, "mlp", 1)[0]] == [4]
    fine = largest_changes(before, after, 0, "mlp", 3, least=1e-4)[1]
    assert [c.token for c in fine] == [0, 3]
    assert largest_changes(before, before, 0, "output", 3) == ([], [])
    assert Change(1, 0.25, 0.5).difference == 0.25


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_projections_equal_an_einsum_on_hidden_states(
    family_wrapper: LlamaWrapper, layer: int
) -> None:
    vector = steer_vector(family_wrapper)
    stream = hidden_states(family_wrapper, IDS)[layer][0].double()
    dots = projections(family_wrapper, IDS, vector, layer)
    assert close(dots, torch.einsum("td,d->t", stream, vector.double()))
    cosines = projections(family_wrapper, IDS, vector, layer, cosine=True)
    expected = torch.cosine_similarity(stream, vector.double(), dim=-1)
    assert torch.allclose(cosines, expected, atol=1e-5)
    assert cosines.abs().max() <= 1


def test_the_cosine_of_a_stream_with_itself_is_one(wrapper: LlamaWrapper) -> None:
    vector = hidden_states(wrapper, IDS)[2][0, 5]
    cosines = projections(wrapper, IDS, vector, 2, cosine=True)
    assert math.isclose(cosines[5], 1, abs_tol=1e-6) and cosines.argmax() == 5


def test_steering_moves_projections_by_its_own_length_squared(wrapper: LlamaWrapper) -> None:
    vector = steer_vector(wrapper)
    plain = projections(wrapper, IDS, vector, 2)
    deltas = {2: 4 * vector}
    moved = projections(wrapper, IDS, vector, 2, deltas=deltas, from_position=25) - plain
    assert moved[:25].abs().max() == 0
    assert torch.allclose(moved[25:], 4 * vector.double().square().sum().expand(15), rtol=1e-4)


def test_from_mean_leaves_the_first_token_out() -> None:
    assert from_mean(torch.tensor([900.0, 1, 2, 6])).tolist() == [897, -2, -1, 3]
    assert from_mean(torch.tensor([5.0])).tolist() == [0]


def test_letters_are_found_in_all_their_spellings(wrapper: LlamaWrapper) -> None:
    tokenizer = wrapper.tokenizer
    letters = wrapper.prompt_format().letter_prompt(QUESTIONS[0], ("A", "B")).letters
    tokenizer.add_tokens(["\u0120A", "\u2581B", "AB", "(A", "\u0120(B", "(AB", "A)"])
    found = letter_spellings(tokenizer, letters)
    for letter, more in (("A", ["\u0120A", "(A"]), ("B", ["\u2581B", "\u0120(B"])):
        words = tokenizer.convert_ids_to_tokens(found[letter])
        assert sorted(words) == sorted([letter, *more])
        assert letters[letter] in found[letter]


def test_nothing_stays_hooked(wrapper: LlamaWrapper) -> None:
    before, logits = count_hooks(wrapper), wrapper.next_logits(IDS)
    vector = steer_vector(wrapper)
    read_lens(wrapper, IDS, deltas={1: vector})
    projections(wrapper, IDS, vector, 1, deltas={0: vector})
    converse(wrapper, QUESTIONS[0], max_new_tokens=2, deltas={1: vector})
    forward = wrapper.blocks[3].forward
    wrapper.blocks[3].forward = lambda *args, **kwargs: 1 / 0
    with pytest.raises(ZeroDivisionError):
        take_apart(wrapper, IDS, {1: vector})
    wrapper.blocks[3].forward = forward
    assert count_hooks(wrapper) == before
    assert torch.equal(wrapper.next_logits(IDS), logits)


def test_bad_input_is_named(wrapper: LlamaWrapper) -> None:
    vector = steer_vector(wrapper)
    lens = read_lens(wrapper, IDS)
    for message, call in {
        r"shape \(31,\).* width 32": lambda: projections(wrapper, IDS, vector[:31], 1),
        "layer 4: this model has layers 0 to 3": lambda: projections(wrapper, IDS, vector, 4),
        "layer -1": lambda: take_apart(wrapper, IDS, {-1: vector}),
        "no tokens": lambda: read_lens(wrapper, []),
        "no tokens: give a text": lambda: projections(wrapper, [], vector, 1),
        "position 40: the prompt has 40": lambda: read_lens(wrapper, IDS, position=40),
        "zero": lambda: projections(wrapper, IDS, torch.zeros(32), 1),
        "NaN": lambda: projections(wrapper, IDS, vector / 0, 1),
        "states of width 31": lambda: lens_logits(wrapper, vector[:31]),
        "layer 9: this lens": lambda: lens.at(9, "mlp"),
        "part 'atention'": lambda: lens.top(0, "atention", 3),
        "not empty": lambda: converse(wrapper, " \n"),
        "answer must be": lambda: converse(wrapper, "Is it?", ""),
        "drop one": lambda: converse(wrapper, "Is it?", "Yes.", deltas={1: vector}),
        "has layers 0": lambda: converse(wrapper, "Is it?", deltas={7: vector}),
    }.items():
        with pytest.raises(UserError, match=message):
            call()


@pytest.mark.parametrize("base", [False, True])
def test_a_given_answer_follows_the_instruction(wrapper: LlamaWrapper, base: bool) -> None:
    wrapper.base = base
    answer = "No, <b>never</b>.\n"
    found = converse(wrapper, QUESTIONS[1], answer)
    prompt = wrapper.prompt_format().open_prompt(QUESTIONS[1])
    assert decoded(wrapper.tokenizer, found.ids[found.answer_from :]).strip() == answer.strip()
    assert found.ids[: found.answer_from][: found.steer_from + 1] == prompt.ids
    assert found.steer_from == prompt.steer_from


def test_the_models_own_answer_is_greedy_and_steered(wrapper: LlamaWrapper) -> None:
    prompt = wrapper.prompt_format().open_prompt(QUESTIONS[2])
    delta = 3 * steer_vector(wrapper)
    for deltas in ({}, {1: delta}):
        found = converse(wrapper, QUESTIONS[2], max_new_tokens=8, deltas=deltas)
        assert found.ids[: found.answer_from] == prompt.ids
        with wrapper.steer(deltas, prompt.steer_from):
            expected = wrapper.generate([prompt.ids], max_new_tokens=8)[0]
            following = int(wrapper.next_logits(prompt.ids).argmax())
        assert list(found.ids[found.answer_from :]) == expected
        assert found.ids[found.answer_from] == following
