"""Wrappers of text and images around an ordinary decoder are steered as that decoder is."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from conftest import CHATML, GATED, make_tokenizer, write_json
from families import own_logits
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
from transformers import AutoConfig, AutoModelForImageTextToText

from llama_wrapper import LlamaWrapper
from utils.blocks.block_io import positions_of_call
from utils.errors import UserError
from utils.extraction.pairs import PairOutputs
from utils.models.choice import ModelShape, choose_model, read_shape
from utils.steering.decoding import GreedyGrid
from utils.steering.grid import LetterGrid, deltas_of
from utils.steering.one_pass import slow_last_token_outputs

SEES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
SEES |= {"intermediate_size": 16, "patch_size": 14}
QWEN_SEES = {"depth": 1, "num_heads": 2, "patch_size": 14}
READS = GATED | {"vocab_size": len(make_tokenizer()), "initializer_range": 0.2}
READS |= {"bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1, "max_position_embeddings": 512}
# positions in three directions: time, height and width, each with its share of the rotations
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
QWEN_READS = READS | {"rope_parameters": MROPE}
WRAPPERS = {
    "mistral3": (
        READS | {"model_type": "mistral", "head_dim": 8},
        SEES | {"model_type": "pixtral", "head_dim": 8},
    ),
    "llava": (READS | {"model_type": "llama"}, SEES | {"model_type": "clip_vision_model"}),
    "llava_onevision": (
        READS | {"model_type": "qwen2"},
        SEES | {"model_type": "siglip_vision_model"},
    ),
    "qwen2_vl": (QWEN_READS, QWEN_SEES | {"embed_dim": 16, "hidden_size": 32}),
    "qwen2_5_vl": (
        QWEN_READS,
        QWEN_SEES | {"hidden_size": 16, "out_hidden_size": 32, "fullatt_block_indexes": [0]},
    ),
    "qwen3_vl": (
        QWEN_READS | {"head_dim": 8},
        QWEN_SEES | {"hidden_size": 16, "out_hidden_size": 32, "deepstack_visual_indexes": []},
    ),
}
SLOW = "one forward pass a cell"


@pytest.fixture(params=WRAPPERS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    text, vision = WRAPPERS[request.param]
    torch.manual_seed(1)
    config = AutoConfig.for_model(request.param, text_config=text, vision_config=vision)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(tmp_path / request.param)
    make_tokenizer(CHATML).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def test_a_wrapper_is_steered_the_fast_way_as_the_slow(folder: Path) -> None:
    choice = choose_model(str(folder), None, False)
    assert read_shape(choice) == ModelShape(4, 32, 512)
    wrapper = LlamaWrapper.load(choice, device="cpu")
    assert (wrapper.n_layers, wrapper.width) == (4, 32)
    prompts, free = letter_prompts(wrapper), open_prompts(wrapper)
    steers = deltas_of(random_vectors(wrapper, range(4)), [-2.0, 1.0])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SLOW}")
        grid = LetterGrid(wrapper, prompts, steers, budget=200)
        pairs = PairOutputs(wrapper, prompts, [0, 1, 2, 3], budget=100)
        together = GreedyGrid(wrapper, free, steers_of(wrapper), max_new_tokens=6, rows=20)
    # answers first: Qwen-VL keeps a state of its last answer, which must not move what follows
    alone = GreedyGrid(wrapper, free, steers_of(wrapper), max_new_tokens=6, slow=True)
    assert texts(together) == texts(alone)
    assert len(set(texts(alone)[0])) > 1
    slow = slow_grid(wrapper, prompts, steers)
    assert (fast_grid(grid) - slow).abs().max() < 1e-5
    assert (slow[:, 1:] - slow[:, :1]).abs().max() > 1e-3
    batch = pairs.batches[0]
    for index, fast in zip(batch, pairs.outputs(batch), strict=True):
        for answer, letter in zip(fast, prompts[index].letters.values(), strict=True):
            plain = slow_last_token_outputs(wrapper, (*prompts[index].ids, letter), range(4))
            assert ((answer - plain).norm(dim=-1) / plain.norm(dim=-1)).max() < 1e-5


def test_the_slow_way_steers_at_the_right_tokens(folder: Path) -> None:
    """Against a hook of this test's own, which counts the tokens of one whole pass."""
    wrapper = LlamaWrapper.load(choose_model(str(folder), None, False), device="cpu")
    prompt, vector = letter_prompts(wrapper)[1], random_vectors(wrapper, [1])[1]
    expected = own_logits(wrapper, prompt.ids, 1, prompt.steer_from, 2 * vector)
    with wrapper.steer({1: 2 * vector}, prompt.steer_from):
        assert torch.allclose(wrapper.next_logits(prompt.ids), expected, atol=1e-5)
    everywhere = own_logits(wrapper, prompt.ids, 1, 0, 2 * vector)
    assert not torch.allclose(expected, everywhere, atol=1e-2)


def test_a_wrapper_goes_through_the_scripts(folder: Path, datasets: Path, tmp_path: Path) -> None:
    given = ["--behaviors", "calm", "--layers", 1, 3, "--model", folder]
    given += ["--datasets_dir", datasets, "--artifacts_dir", tmp_path / "out"]
    assert call("generate_vectors", *given) == 0
    assert call("normalize_vectors", *given[-4:]) == 0
    assert call("prompting_with_steering", *given, "--multipliers", -1, 1) == 0
    assert len(list((tmp_path / "out/results").rglob("results_*.json"))) == 4
    with pytest.raises(UserError, match="has layers 0 to 3"):
        call("generate_vectors", *given[:3], 4, *given[5:])


def test_positions_in_three_directions_are_those_of_the_text() -> None:
    own = torch.tensor([[5, 6, 7]])
    for count in (3, 4):
        given = {"position_ids": own[None].expand(count, 1, 3)}
        assert positions_of_call((torch.zeros(1, 3),), given).tolist() == [[5, 6, 7]]


@pytest.mark.parametrize("kind", ["paligemma", "florence2", "instructblip", "udop"])
def test_wrappers_that_cannot_be_steered_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    write_json(tmp_path / "config.json", {"model_type": kind, "text_config": READS})
    with pytest.raises(UserError, match=f"'{kind}' cannot be steered"):
        read_shape(choose_model(str(tmp_path), None, False))
