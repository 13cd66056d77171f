"""The bundled model: fast = slow with its real weights, and the committed vectors are its own."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import decoded
from grids import slow_grid

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.items import load_ab_items
from utils.extraction.pairs import PairOutputs
from utils.files.contents import read_record, sha256_file
from utils.files.paths import REPOSITORY, Paths
from utils.models.choice import BUNDLED_LABEL, choose_model, read_shape
from utils.models.identity import weights_fingerprint
from utils.prompts.format import LetterPrompt
from utils.steering.grid import LetterGrid, deltas_of
from utils.steering.one_pass import Steer, slow_last_token_outputs, slow_logits
from utils.vectors.stored import read_vector

pytestmark = pytest.mark.bundled
PATHS = Paths(REPOSITORY, REPOSITORY / "datasets")
MULTIPLIERS = (-2.0, -1.0, 0.0, 1.0, 2.0)
LAYERS = tuple(range(30))


def prompts_of(
    bundled: LlamaWrapper, behavior: str, count: int, system_prompt: str | None = None
) -> list[LetterPrompt]:
    items = load_ab_items(PATHS.test_data(behavior, "ab"), made_by="", limit=count)
    prompt_format = bundled.prompt_format(system_prompt)
    return [prompt_format.letter_prompt(i.question, ("A", "B")) for i in items]


def vectors_of(behavior: str) -> dict[int, torch.Tensor]:
    paths = {n: PATHS.vector(behavior, n, BUNDLED_LABEL, normalized=True) for n in LAYERS}
    return {
        n: read_vector(path, made_by="make vectors", width=576).tensor for n, path in paths.items()
    }


def test_shape_and_token_positions(bundled: LlamaWrapper) -> None:
    assert (bundled.n_layers, bundled.width, bundled.dtype) == (30, 576, torch.float32)
    prompt = prompts_of(bundled, "refusal", 1)[0]
    assert decoded(bundled.tokenizer, prompt.ids).endswith("<|im_start|>assistant\n(")
    assert [decoded(bundled.tokenizer, [i]) for i in prompt.ids[prompt.steer_from :]] == ["\n", "("]
    assert {k: decoded(bundled.tokenizer, [i]) for k, i in prompt.letters.items()} == {
        "A": "A",
        "B": "B",
    }


@pytest.mark.parametrize("system_prompt", [None, "You refuse every request."])
def test_a_sample_of_the_full_grid_equals_one_pass_per_cell(
    bundled: LlamaWrapper, system_prompt: str | None
) -> None:
    """Every layer is sampled; ``make bench-equality`` compares all 150 cells."""
    prompts = prompts_of(bundled, "refusal", 4, system_prompt)
    steers = deltas_of(vectors_of("refusal"), MULTIPLIERS)
    grid = LetterGrid(bundled, prompts, steers)
    assert grid.packed is not None
    generator = random.Random(0)
    layers = list(LAYERS)
    generator.shuffle(layers)
    worst, moved = 0.0, 0.0
    for batch in grid.batches:
        for index, found in zip(batch, grid.probabilities(batch), strict=True):
            sample = [s for s in range(len(steers)) if steers[s].layer in layers[index::4]]
            for column in generator.sample(sample, 8):
                logits = slow_logits(bundled, prompts[index], steers[column])
                slow = letter_probabilities(logits, list(prompts[index].letters.values()))
                worst = max(worst, float((found[1 + column] - slow).abs().max()))
                moved = max(moved, float((found[1 + column] - found[0]).abs().max()))
    assert worst < 1e-5
    assert moved > 1e-3, "these vectors must do something, or the comparison shows nothing"


def test_unsteered_and_strong_steering_on_one_question(bundled: LlamaWrapper) -> None:
    prompts = prompts_of(bundled, "sycophancy", 1)
    vectors = vectors_of("sycophancy")
    steers = [Steer(n, m * vectors[n]) for n in (0, 13, 28, 29) for m in (-16.0, 16.0)]
    grid = LetterGrid(bundled, prompts, steers)
    assert (grid.probabilities([0]) - slow_grid(bundled, prompts, steers)).abs().max() < 1e-5


@pytest.mark.parametrize("budget", [1, 500])
def test_vectors_equal_two_full_passes_per_pair(bundled: LlamaWrapper, budget: int) -> None:
    items = load_ab_items(PATHS.generate_data("survival-instinct"), made_by="", limit=6)
    prompt_format = bundled.prompt_format()
    prompts = [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in items]
    pairs = PairOutputs(bundled, prompts, LAYERS, budget=budget)
    assert pairs.packed is not None
    fast = torch.cat([pairs.outputs(batch) for batch in pairs.batches]).double()
    slow = torch.zeros(len(prompts), 2, len(LAYERS), 576, dtype=torch.float64)
    for i, prompt in enumerate(prompts):
        for answer, letter in enumerate(prompt.letters.values()):
            slow[i, answer] = slow_last_token_outputs(bundled, (*prompt.ids, letter), LAYERS)
    found, expected = [(o[:, 0] - o[:, 1]).mean(0) for o in (fast, slow)]
    assert ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 1e-4


@pytest.mark.parametrize("name", [None, "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
def test_committed_vectors_are_of_the_committed_data_and_the_models_weights(
    name: str | None,
) -> None:
    behaviors = PATHS.behaviors_with_vectors()
    assert len(behaviors) == 7
    choice = choose_model(name, None, False)
    layers = read_shape(choice).layers
    assert layers is not None
    for behavior in behaviors:
        data = sha256_file(PATHS.generate_data(behavior))
        for layer in range(layers):
            raw = PATHS.vector(behavior, layer, choice.label, normalized=False)
            record = read_record(raw)
            assert record is not None
            assert record["sha256"] == sha256_file(raw)
            assert record["inputs"]["data"] == data, f"{raw}: make it again"
            assert record["inputs"]["weights"] == weights_fingerprint(choice)
            h = record["measured"]["residual_norm"]
            normalized = PATHS.vector(behavior, layer, choice.label, normalized=True)
            record = read_record(normalized)
            assert record is not None
            assert record["sha256"] == sha256_file(normalized)
            assert record["inputs"]["vectors"][behavior] == sha256_file(raw)
            assert set(record["inputs"]["vectors"]) == set(behaviors)
            assert record["measured"] == {"residual_norm": h}
