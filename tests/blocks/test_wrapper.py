"""The wrapper's hooks: recorded = output_hidden_states, steered where it should be, gone after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from conftest import make_model, make_tokenizer, make_wrapper
from hooks import count_hooks, hidden_states, steer_vector
from torch import nn
from transformers import AutoConfig, AutoModel

from llama_wrapper import LlamaWrapper
from utils.blocks.block_io import CannotBranch
from utils.blocks.branches import Layout
from utils.errors import UserError

IDS = list(range(20, 60))


def test_recorded_equals_output_hidden_states(family_wrapper: LlamaWrapper) -> None:
    layers = list(range(family_wrapper.n_layers))
    with family_wrapper.record(layers) as kept:
        family_wrapper.next_logits(IDS)
    for layer, expected in enumerate(hidden_states(family_wrapper, IDS)):
        assert torch.allclose(kept[layer], expected, atol=1e-6), layer


def test_steering_adds_once_at_every_token_from_the_position_on(
    family_wrapper: LlamaWrapper,
) -> None:
    vector, layer, first = steer_vector(family_wrapper), 1, 30
    plain = hidden_states(family_wrapper, IDS)[layer]
    with family_wrapper.steer({layer: vector}, first), family_wrapper.record([layer]) as kept:
        family_wrapper.next_logits(IDS)
    added = kept[layer] - plain
    assert added[0, :first].abs().max() == 0
    assert torch.allclose(added[0, first:], vector.expand(len(IDS) - first, -1), atol=1e-5)


def test_each_row_has_its_own_position_and_vector(wrapper: LlamaWrapper) -> None:
    vectors = torch.stack([steer_vector(wrapper, 1), steer_vector(wrapper, 2)])
    batch = torch.tensor([IDS, IDS])
    with wrapper.record([2]) as plain, torch.inference_mode():
        wrapper.model(batch)
    with (
        wrapper.steer({2: vectors}, torch.tensor([10, 35])),
        wrapper.record([2]) as kept,
        torch.inference_mode(),
    ):
        wrapper.model(batch)
    added = kept[2] - plain[2]
    for row, first in enumerate((10, 35)):
        assert added[row, :first].abs().max() == 0
        assert torch.allclose(added[row, first:], vectors[row].expand(40 - first, -1), atol=1e-5)


def test_recorded_tensors_are_not_edited_by_later_steering(wrapper: LlamaWrapper) -> None:
    with wrapper.record([1]) as kept, wrapper.steer({1: steer_vector(wrapper)}, 0):
        wrapper.next_logits(IDS)
    assert torch.allclose(kept[1], hidden_states(wrapper, IDS)[1], atol=1e-6)


def test_hooks_are_gone_whatever_happened(wrapper: LlamaWrapper) -> None:
    before, logits = count_hooks(wrapper), wrapper.next_logits(IDS)
    with pytest.raises(ZeroDivisionError), wrapper.record([0]), wrapper.steer({0: logits[:32]}, 0):
        raise ZeroDivisionError
    wrapper.run_until(1, input_ids=torch.tensor([IDS]))
    wrapper.allowed_positions(IDS)
    assert count_hooks(wrapper) == before
    assert torch.equal(wrapper.next_logits(IDS), logits)


def branching(
    wrapper: LlamaWrapper, joins: Sequence[int], deltas: dict[int, torch.Tensor]
) -> AbstractContextManager[None]:
    layout = Layout(0, (len(IDS),), 1, tuple(joins))
    return wrapper.branch(layout, deltas, wrapper.allowed_positions(IDS))


V, TOO_WIDE, LONG = torch.ones(32), torch.ones(64), torch.ones(2, 3, 32)
OTHER_MODEL = "belongs to another model"
NO_LAYER = "this model has layers 0 to 3"
# Wherever a layer or a vector is given, right ones come before the wrong one.
BAD_CALLS: dict[str, tuple[str, Callable[[LlamaWrapper], AbstractContextManager[object]]]] = {
    "record beyond": (f"layer 99: {NO_LAYER}", lambda w: w.record([0, 99])),
    "record before": (f"layer -1: {NO_LAYER}", lambda w: w.record([0, -1])),
    "steer beyond": (f"layer 4: {NO_LAYER}", lambda w: w.steer({0: V, 4: V}, 0)),
    "steer before": (f"layer -1: {NO_LAYER}", lambda w: w.steer({0: V, -1: V}, 0)),
    "steer wide": (
        rf"\(64,\).* width 32.*{OTHER_MODEL}",
        lambda w: w.steer({0: V, 1: TOO_WIDE}, 0),
    ),
    "steer narrow": (OTHER_MODEL, lambda w: w.steer({0: V, 1: V[:31]}, 0)),
    "steer a number": (OTHER_MODEL, lambda w: w.steer({0: V, 1: V[0]}, 0)),
    "steer too deep": (OTHER_MODEL, lambda w: w.steer({0: V, 1: LONG}, 0)),
    "branch beyond": (
        f"layer 9: {NO_LAYER}",
        lambda w: branching(w, [0, 9], {0: V[None], 9: V[None]}),
    ),
    "branch wide": (OTHER_MODEL, lambda w: branching(w, [0, 1], {0: V[None], 1: TOO_WIDE[None]})),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_a_layer_or_a_width_that_is_not_the_models_is_named_and_leaves_no_hook(
    wrapper: LlamaWrapper, call: str
) -> None:
    message, begin = BAD_CALLS[call]
    before, logits = count_hooks(wrapper), wrapper.next_logits(IDS)
    with pytest.raises(UserError, match=message), begin(wrapper):
        pytest.fail("the block must not be entered")
    assert count_hooks(wrapper) == before
    assert torch.equal(wrapper.next_logits(IDS), logits)


@pytest.mark.parametrize("layer", [-1, 4])
def test_running_until_a_layer_that_is_not_there_is_refused_and_leaves_no_hook(
    wrapper: LlamaWrapper, layer: int
) -> None:
    before = count_hooks(wrapper)
    with pytest.raises(UserError, match=f"layer {layer}: {NO_LAYER}"):
        wrapper.run_until(layer, input_ids=torch.tensor([IDS]))
    assert count_hooks(wrapper) == before


def test_branching_without_a_vocabulary_is_refused_and_leaves_no_hook(
    wrapper: LlamaWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count_hooks(wrapper)
    monkeypatch.setattr(wrapper.model, "get_output_embeddings", lambda: None)
    with pytest.raises(CannotBranch, match="vocabulary"), branching(wrapper, [0], {0: V[None]}):
        pytest.fail("the block must not be entered")
    assert count_hooks(wrapper) == before


def test_what_fails_inside_a_pass_leaves_no_hook(wrapper: LlamaWrapper) -> None:
    before, logits = count_hooks(wrapper), wrapper.next_logits(IDS)
    two_vectors = torch.stack([V, V])
    with pytest.raises(UserError, match="2 vectors for 1 rows"), wrapper.steer({1: two_vectors}, 0):
        wrapper.next_logits(IDS)
    for fails in (
        lambda: wrapper.run_until(3, input_ids=torch.tensor([IDS])),
        lambda: wrapper.allowed_positions(IDS),
    ):
        forward = wrapper.blocks[2].forward
        wrapper.blocks[2].forward = lambda *args, **kwargs: 1 / 0
        with pytest.raises(ZeroDivisionError):
            fails()
        wrapper.blocks[2].forward = forward
        assert count_hooks(wrapper) == before
    assert torch.equal(wrapper.next_logits(IDS), logits)


def test_a_registration_that_fails_takes_the_earlier_ones_back(wrapper: LlamaWrapper) -> None:
    before, unhookable = count_hooks(wrapper), object()
    parts: Any = {"first": wrapper.blocks[0], "second": wrapper.blocks[1], "third": unhookable}
    with pytest.raises(AttributeError), wrapper.observe(parts):
        pytest.fail("the block must not be entered")
    with pytest.raises(KeyError), branching(wrapper, [0, 1], {0: V[None]}):
        pytest.fail("the block must not be entered")
    assert count_hooks(wrapper) == before


class TupleBlock(nn.Module):
    """A block as older versions of transformers have it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden_states: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor, str]:
        return self.block(hidden_states, **kwargs), "more"


class Untuple(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *args: object, **kwargs: object) -> torch.Tensor:
        output = self.block(*args, **kwargs)
        assert output[1] == "more", "the rest of the tuple must come through"
        return output[0]


def test_blocks_that_return_tuples(wrapper: LlamaWrapper) -> None:
    vector = steer_vector(wrapper)
    with wrapper.steer({1: vector}, 5), wrapper.record([1, 3]) as expected:
        logits = wrapper.next_logits(IDS)
    model = make_model("llama")
    decoder: Any = model.get_decoder()
    tuples: list[nn.Module] = [TupleBlock(block) for block in decoder.layers]
    decoder.layers = nn.ModuleList(Untuple(block) for block in tuples)
    other = LlamaWrapper(model, make_tokenizer())
    other.blocks = tuples
    with other.steer({1: vector}, 5), other.record([1, 3]) as kept:
        assert torch.equal(other.next_logits(IDS), logits)
    assert torch.equal(kept[3], expected[3]) and torch.equal(kept[1], expected[1])


def test_generation_is_the_same_with_and_without_cache(family_wrapper: LlamaWrapper) -> None:
    prompts = [IDS, IDS[7:], IDS[:12]]
    first = torch.tensor([[len(p) - 2] for p in prompts])
    vectors = torch.stack([3 * steer_vector(family_wrapper, i) for i in range(3)])
    found = []
    for use_cache in (True, False):
        with family_wrapper.steer({1: vectors}, first):
            found.append(family_wrapper.generate(prompts, max_new_tokens=12, use_cache=use_cache))
    assert found[0] == found[1]
    plain = family_wrapper.generate(prompts, max_new_tokens=12)
    assert plain != found[0], "steering this strong must change the text"


def test_generation_in_a_batch_equals_one_by_one(wrapper: LlamaWrapper) -> None:
    prompts = [IDS, IDS[7:], IDS[:12]]
    alone = [wrapper.generate([p], max_new_tokens=12)[0] for p in prompts]
    assert all(alone), "an answer without a token"
    assert wrapper.generate(prompts, max_new_tokens=12) == alone


def test_generation_equals_repeated_forward_passes(wrapper: LlamaWrapper) -> None:
    vector, first = 3 * steer_vector(wrapper), len(IDS) - 2
    ids = list(IDS)
    with wrapper.steer({1: vector}, first):
        for _ in range(12):
            ids.append(int(wrapper.next_logits(ids).argmax()))
        whole = ids[len(IDS) :]
        never = next(t for t in range(400) if t not in whole)
        for end in (never, whole[0], whole[6]):
            wrapper.model.generation_config.eos_token_id = end
            expected = whole if end == never else whole[: whole.index(end) + 1]
            assert wrapper.generate([IDS], max_new_tokens=12) == [expected]


def test_an_architecture_without_blocks_is_refused_by_name() -> None:
    config = AutoConfig.for_model(
        "llama", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    model = AutoModel.from_config(config)
    model.layers = nn.Sequential(*model.layers)
    model.get_decoder = lambda: model
    with pytest.raises(UserError, match="'llama' cannot be steered"):
        LlamaWrapper(model, make_tokenizer())


def test_width_and_layers(wrapper: LlamaWrapper) -> None:
    assert (wrapper.n_layers, wrapper.width) == (4, 32)
    assert make_wrapper("gpt2").architecture == "gpt2"
