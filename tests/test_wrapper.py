"""The wrapper's hooks: recorded = output_hidden_states, steered where it should be, gone after."""

import pytest
import torch
from conftest import make_model, make_tokenizer, make_wrapper
from torch import nn
from transformers import AutoConfig, AutoModel

from llama_wrapper import LlamaWrapper
from utils.errors import UserError
from utils.generation import generate

IDS = list(range(20, 60))


def hidden_states(wrapper: LlamaWrapper, ids: list[int]) -> list[torch.Tensor]:
    """Block outputs by transformers' own means; the last is before the final norm."""
    before_norm = []
    norm = [m for m in wrapper.decoder.children() if "norm" in type(m).__name__.lower()][-1]
    handle = norm.register_forward_pre_hook(lambda _m, args: before_norm.append(args[0]))
    with torch.inference_mode():
        out = wrapper.model(torch.tensor([ids]), output_hidden_states=True)
    handle.remove()
    return [*out.hidden_states[1:-1], before_norm[0]]


def steer_vector(wrapper: LlamaWrapper, seed: int = 0) -> torch.Tensor:
    return torch.randn(wrapper.width, generator=torch.Generator().manual_seed(seed))


def count_hooks(wrapper: LlamaWrapper) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in wrapper.model.modules())


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
    with pytest.raises(IndexError), wrapper.record([0, 99]):
        pass
    wrapper.run_until(1, input_ids=torch.tensor([IDS]))
    wrapper.allowed_positions(IDS)
    assert count_hooks(wrapper) == before
    assert torch.equal(wrapper.next_logits(IDS), logits)


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
    tuples = [TupleBlock(block) for block in model.model.layers]
    model.model.layers = nn.ModuleList(Untuple(block) for block in tuples)
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
            found.append(generate(family_wrapper, prompts, max_new_tokens=12, use_cache=use_cache))
    assert found[0] == found[1]
    plain = generate(family_wrapper, prompts, max_new_tokens=12)
    assert plain != found[0], "steering this strong must change the text"


def test_generation_in_a_batch_equals_one_by_one(wrapper: LlamaWrapper) -> None:
    prompts = [IDS, IDS[7:], IDS[:12]]
    alone = [generate(wrapper, [p], max_new_tokens=12)[0] for p in prompts]
    assert generate(wrapper, prompts, max_new_tokens=12) == alone


def test_generation_equals_repeated_forward_passes(wrapper: LlamaWrapper) -> None:
    vector, first = 3 * steer_vector(wrapper), len(IDS) - 2
    ids = list(IDS)
    with wrapper.steer({1: vector}, first):
        for _ in range(12):
            ids.append(int(wrapper.next_logits(ids).argmax()))
        assert (
            generate(wrapper, [IDS], max_new_tokens=12)[0]
            == ids[len(IDS) :][: len(generate(wrapper, [IDS], max_new_tokens=12)[0])]
        )


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
