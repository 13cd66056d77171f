"""Families of models: who takes the fast way, who the slow one, and who is refused."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import conftest
import pytest
import torch
from conftest import (
    make_wrapper,
    write_json,
)
from families import MORE, NEW, SLOW, SLOWLY, own_answer, own_logits
from grids import (
    fast_grid,
    letter_prompts,
    open_prompts,
    random_vectors,
    slow_grid,
    steers_of,
    texts,
)
from running import call

from llama_wrapper import LlamaWrapper
from utils.blocks.block_io import add_from, positions_of_call
from utils.errors import UserError
from utils.extraction.pairs import PairOutputs
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid, deltas_of
from utils.steering.one_pass import slow_last_token_outputs


@pytest.mark.parametrize("family", MORE)
def test_more_families_take_the_fast_way(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conftest.FAMILIES, family, MORE[family])
    wrapper = make_wrapper(family)
    prompts = letter_prompts(wrapper)
    steers = deltas_of(random_vectors(wrapper, range(4)), [-2.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = LetterGrid(wrapper, prompts, steers, budget=200)
        pairs = PairOutputs(wrapper, prompts, [0, 1, 2, 3], budget=100)
        free = open_prompts(wrapper)
        together = GreedyGrid(wrapper, free, steers_of(wrapper), max_new_tokens=6, rows=20)
    assert grid.packed is not None and pairs.packed is not None and together.together
    slow = slow_grid(wrapper, prompts, steers)
    assert (fast_grid(grid) - slow).abs().max() < 1e-5
    assert (slow[:, 1:] - slow[:, :1]).abs().max() > 1e-3
    assert len(pairs.batches[0]) > 0
    batch = pairs.batches[0]
    for index, fast in zip(batch, pairs.outputs(batch), strict=True):
        for answer, letter in zip(fast, prompts[index].letters.values(), strict=True):
            plain = slow_last_token_outputs(wrapper, (*prompts[index].ids, letter), range(4))
            assert ((answer - plain).norm(dim=-1) / plain.norm(dim=-1)).max() < 1e-5
    alone = GreedyGrid(wrapper, free, steers_of(wrapper), max_new_tokens=6, slow=True)
    assert texts(together) == texts(alone)


@pytest.mark.parametrize("family", SLOWLY)
def test_other_families_take_the_slow_way_with_a_warning_and_are_right(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, reason = SLOWLY[family]
    monkeypatch.setitem(conftest.FAMILIES, family, options)
    wrapper = make_wrapper(family)
    prompt, vectors = letter_prompts(wrapper)[0], random_vectors(wrapper, range(4))
    with pytest.warns(UserWarning, match=f"{family}: .*{reason}.*{SLOW}"):
        grid = LetterGrid(wrapper, [prompt], deltas_of(vectors, [2.0]))
    with pytest.warns(UserWarning, match=SLOW):
        pairs = PairOutputs(wrapper, [prompt], [0, 3])
    assert grid.packed is None and pairs.packed is None
    found, letters = grid.probabilities([0])[0], list(prompt.letters.values())
    for layer, vector in vectors.items():
        logits = own_logits(wrapper, prompt.ids, layer, prompt.steer_from, 2 * vector)
        own = logits.softmax(-1)[letters].double()
        assert torch.allclose(found[1 + layer], own, rtol=1e-4, atol=0)
    assert (found[1:] / found[0] - 1).abs().max() > 1e-2
    free = open_prompts(wrapper)[0]
    steers = [s for s in deltas_of(vectors, [3.0]) if s.layer in (0, 3)]
    # one prefill needs keys and values only, no packed branches
    recurrent = "recurrent" in reason
    with pytest.warns(match=reason) if recurrent else contextlib.nullcontext():
        answers = GreedyGrid(wrapper, [free], steers, max_new_tokens=NEW)
    assert answers.together != recurrent
    for steer, answer in zip(steers, answers.answers([0])[0], strict=True):
        expected = own_answer(wrapper, free.ids, steer.layer, free.steer_from, steer.delta)
        assert list(answer.tokens) == expected


REFUSED = {
    "bert": "it is an encoder",
    "xlm-roberta": "it is an encoder",
    "whisper": "encoder with a decoder",
    "vit": "it is an encoder",
    "mamba": "recurrent",
    "rwkv": "recurrent",
    "gemma3n": "several residual streams",
    "xlnet": "left to right",
    "blip-2": "without an image",
    "dinov2": "has no causal language model of that name",
    "made-up-9": "does not know it",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_steered_is_refused_by_name_before_loading(
    kind: str, datasets: Path, tmp_path: Path
) -> None:
    """The folder holds a config and nothing else: whatever is loaded would fail."""
    config = {"model_type": kind, "num_hidden_layers": 4, "hidden_size": 32}
    if kind == "blip-2":
        config = {"model_type": kind, "text_config": config | {"model_type": "llama"}}
    write_json(tmp_path / "weights/config.json", config)
    given = ("--datasets_dir", datasets, "--model", tmp_path / "weights", "--layers", 1)
    with pytest.raises(UserError, match=f"'{kind}' cannot be steered: .*{REFUSED[kind]}"):
        call("generate_vectors", *given, "--artifacts_dir", tmp_path / "out")


@pytest.mark.parametrize("kind", ["mamba", "bert", "gemma3n_text"])
def test_a_loaded_model_that_cannot_be_steered_is_refused_too(
    wrapper: LlamaWrapper, kind: str
) -> None:
    wrapper.model.config.model_type = kind
    with pytest.raises(UserError, match=f"'{kind}' cannot be steered"):
        LlamaWrapper(wrapper.model, wrapper.tokenizer)


def test_a_decoder_that_does_not_tell_positions_is_refused(wrapper: LlamaWrapper) -> None:
    forward = wrapper.decoder.forward
    wrapper.decoder.forward = lambda input_ids, state=None: forward(input_ids)
    with pytest.raises(UserError, match=r"'llama' cannot be steered: .* position"):
        LlamaWrapper(wrapper.model, wrapper.tokenizer)


def test_positions_of_a_call_leave_out_the_padding() -> None:
    ids = torch.zeros(2, 3, dtype=torch.long)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    given = {"attention_mask": mask}
    assert positions_of_call((ids,), given).tolist() == [[0, 0, 1], [0, 1, 2]]
    assert positions_of_call((), {"input_ids": ids}).tolist() == [[0, 1, 2]]
    own = torch.tensor([[5, 6, 7]])
    assert positions_of_call((ids,), given | {"position_ids": own}).tolist() == [[5, 6, 7]]


def test_blocks_that_get_the_last_tokens_only_are_steered_at_those() -> None:
    hidden_states, delta = torch.zeros(1, 2, 3), torch.ones(1, 1, 3)
    positions = torch.arange(6)[None]
    found = add_from(hidden_states, delta, positions, torch.tensor([[5]]))
    assert found[0, :, 0].tolist() == [0, 1]
