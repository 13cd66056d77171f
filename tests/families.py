"""Families of models beyond those of conftest, and one of them through all the scripts."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import (
    EXPERTS,
    FAMILIES,
    GATED,
    QUESTIONS,
    TINY,
    WINDOW,
    pair,
    write_json,
)
from running import call
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from llama_wrapper import LlamaWrapper
from utils.data.items import answer_letter
from utils.files.names import ResultName
from utils.files.paths import REPOSITORY, Paths
from utils.steering.one_pass import slow_last_token_outputs
from utils.weights.gguf_conversion import named_folder
from utils.weights.named import BUNDLED

SLOW = "one forward pass a cell"
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
# A model of text and images, whose language model is a part with a config of its own.
COMPOSITE: dict[str, Any] = {
    "text_config": FAMILIES["gemma3_text"],
    "vision_config": VISION | {"intermediate_size": 16, "image_size": 28, "patch_size": 14},
    "mm_tokens_per_image": 4,
}
LETTER_TYPES = {"ab": "question", "bundled_misconceptions": "prompt", "bundled_knowledge": "prompt"}
KINDS = (*LETTER_TYPES, "open_ended")
LAYERS, STEERED, NEW = (0, 1, 3), 1, 5


@functools.cache
def real_tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(named_folder(BUNDLED))


def save_model(family: str, folder: Path) -> Path:
    """A tiny random model with the bundled model's tokenizer, as a local folder."""
    tokenizer = real_tokenizer()
    shared = {"vocab_size": len(tokenizer), "initializer_range": 0.2}
    shared |= {f"{name}_token_id": tokenizer.eos_token_id for name in ("bos", "eos", "pad")}
    options = COMPOSITE if family == "gemma3" else FAMILIES[family] | shared
    if family == "gemma3":
        options = options | {"text_config": options["text_config"] | shared}
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, **options)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def own_logits(
    wrapper: LlamaWrapper, ids: Sequence[int], layer: int, first: int, delta: torch.Tensor
) -> torch.Tensor:
    """Next-token logits by a hook of this test's own: one whole pass, no cache, no wrapper."""
    mask = (torch.arange(len(ids)) >= first).float()[:, None]

    def hook(_module: object, _args: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + mask * delta, *output[1:])
        return output + mask * delta

    handle = wrapper.blocks[layer].register_forward_hook(hook)
    with torch.inference_mode():
        logits = wrapper.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1]
    handle.remove()
    return logits


def own_answer(
    wrapper: LlamaWrapper, ids: Sequence[int], layer: int, first: int, delta: torch.Tensor
) -> list[int]:
    """Greedy tokens by whole passes, up to and including the end token."""
    tokens: list[int] = []
    while len(tokens) < NEW and wrapper.tokenizer.eos_token_id not in tokens:
        logits = own_logits(wrapper, [*ids, *tokens], layer, first, delta)
        tokens.append(int(logits.argmax()))
    return tokens


class Chain:
    """One family through the scripts, and its files."""

    def __init__(
        self,
        family: str,
        datasets: Path,
        folder: Path,
        save: Callable[[str, Path], Path] = save_model,
    ) -> None:
        self.model = save(family, folder / family)
        self.family, self.out = family, folder / "out"
        self.paths = Paths(self.out, datasets)
        self.shared = ("--artifacts_dir", self.out, "--datasets_dir", datasets)
        self.all = (*self.shared, "--model", self.model)

    def make_vectors(self) -> None:
        assert call("generate_vectors", "--layers", *LAYERS, "--save_activations", *self.all) == 0
        assert call("normalize_vectors", *self.shared) == 0

    def vector(self, layer: int, *, normalized: bool) -> torch.Tensor:
        return torch.load(self.paths.vector("calm", layer, self.family, normalized=normalized))

    def options(self, kind: str) -> tuple[object, ...]:
        limit = ("--limit", 4) if kind.startswith("bundled") else ()
        return ("--type", kind, "--behaviors", "calm", *limit, *self.all)

    def steer(self, kind: str) -> None:
        grid = ("--layers", STEERED, 3, "--multipliers", -1, 0, 1)
        length = ("--max_new_tokens", NEW) if kind == "open_ended" else ()
        assert call("prompting_with_steering", *grid, *length, *self.options(kind)) == 0

    def plot(self, kind: str) -> None:
        if kind == "open_ended":
            for name in self.paths.results_of("calm"):
                if name.variant.type == kind:
                    scored = [row | {"score": 5} for row in json.loads(self.read(name))]
                    write_json(self.paths.scores(name), scored)
        assert call("plot_results", *self.options(kind)) == 0
        pictures = [p.name for p in (self.out / "analysis").rglob("*.png")]
        assert any(f"type={kind}" in name for name in pictures)

    def read(self, name: ResultName) -> str:
        return self.paths.result(name).read_text()

    def rows(self, kind: str) -> list[dict[str, object]]:
        """The rows of the cell that is compared."""
        found = [n for n in self.paths.results_of("calm") if n.variant.type == kind]
        assert len(found) == 6
        (name,) = [n for n in found if (n.layer, n.strength) == (STEERED, -1.0)]
        return json.loads(self.read(name))


@pytest.fixture
def more_data(datasets: Path) -> Path:
    """The two behaviours' data, and this project's own questions with categories."""
    for file in ("truthfulqa/misconceptions_bundled.json", "mmlu/knowledge_bundled.json"):
        (datasets / "test" / file).parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / "datasets/test" / file, datasets / "test" / file)
    # More As than Bs: where a window ends before the question, A - B and B - A would cancel.
    rows = [pair(q, "AAB"[i % 3]) for i, q in enumerate(QUESTIONS)]
    write_json(datasets / "generate/calm/generate_dataset.json", rows)
    rows = [{"question": q} for q in QUESTIONS[:3]]
    write_json(datasets / "test/calm/test_dataset_open_ended.json", rows)
    return datasets


def check_vectors(chain: Chain, wrapper: LlamaWrapper) -> None:
    """Vectors and activations against two whole passes a pair."""
    pairs = json.loads(chain.paths.generate_data("calm").read_text())
    found = torch.zeros(len(pairs), 2, len(LAYERS), 32)
    for i, row in enumerate(pairs):
        answers = [answer_letter(row[f"answer_{k}_behavior"]) for k in ("matching", "not_matching")]
        prompt = wrapper.prompt_format().letter_prompt(
            row["question"], tuple(a for a in answers if a)
        )
        for j, letter in enumerate(prompt.letters.values()):
            found[i, j] = slow_last_token_outputs(wrapper, (*prompt.ids, letter), LAYERS)
    for i, layer in enumerate(LAYERS):
        for j, sign in enumerate(("pos", "neg")):
            kept = torch.load(chain.paths.activations("calm", sign, layer, chain.family))
            assert torch.allclose(kept, found[:, j, i], rtol=1e-4, atol=1e-5)
        expected = (found[:, 0, i] - found[:, 1, i]).mean(0)
        raw, normalized = (chain.vector(layer, normalized=n) for n in (False, True))
        assert (raw - expected).norm() < 1e-4 * expected.norm()
        assert torch.cosine_similarity(raw, normalized, dim=0) > 1 - 1e-6


def check_letters(
    rows: Sequence[dict[str, Any]], field: str, wrapper: LlamaWrapper, delta: torch.Tensor
) -> None:
    moved = 0.0
    assert len(rows) >= 4
    for row in rows:
        question = row["question"]
        prompt = wrapper.prompt_format().letter_prompt(question, ("A", "B"))
        steered, plain = (
            own_logits(wrapper, prompt.ids, STEERED, prompt.steer_from, d).softmax(-1)
            for d in (delta, 0 * delta)
        )
        for name, token in zip(("a_prob", "b_prob"), prompt.letters.values(), strict=True):
            assert row[name] == pytest.approx(float(steered[token]), rel=1e-4)
            moved = max(moved, abs(float(steered[token] / plain[token]) - 1))
    assert moved > 1e-2, "steering must move these numbers, or the comparison shows nothing"


def check_answers(
    rows: Sequence[dict[str, Any]], wrapper: LlamaWrapper, delta: torch.Tensor
) -> None:
    assert [row["question"] for row in rows] == QUESTIONS[:3]
    for row in rows:
        prompt = wrapper.prompt_format().open_prompt(row["question"])
        tokens = own_answer(wrapper, prompt.ids, STEERED, prompt.steer_from, delta)
        assert row["raw_model_output"] == wrapper.tokenizer.decode([*prompt.ids, *tokens])


LATENT = {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
ROUTED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2, "linear_num_key_heads": 2}
LINEAR |= {"linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
GEMMA4 = GATED | WINDOW | {"head_dim": 8, "global_head_dim": 8, "vocab_size_per_layer_input": 400}
# Beyond those of conftest: sinks, compressed keys and values, complex rotations, chunks.
MORE = {
    "falcon": TINY | {"new_decoder_architecture": True, "num_kv_heads": 2},
    "stablelm": GATED,
    "opt": TINY | {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 512},
    "gpt_oss": EXPERTS | WINDOW | {"head_dim": 8},
    "deepseek_v2": EXPERTS | LATENT | ROUTED | {"q_lora_rank": None, "num_key_value_heads": 4},
    "llama4_text": EXPERTS
    | {"attention_chunk_size": 16, "intermediate_size_mlp": 32, "head_dim": 8}
    | {"no_rope_layers": [1, 1, 1, 0]},
    "gemma4_text": GEMMA4 | {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0},
}
SLOWLY = {
    "gpt_neo": (
        {"hidden_size": 32, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 512}
        | {"attention_types": [[["global", "local"], 2]], "window_size": 12},
        "differ by",
    ),
    "mpt": ({"d_model": 32, "n_layers": 4, "n_heads": 4, "max_seq_len": 512}, "masked_fill"),
    "gemma4_text": (
        GEMMA4 | {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2},
        "keys and values of every token",
    ),
    "lfm2": (GATED | {"layer_types": ["conv", "full_attention"] * 2}, "blocks are recurrent"),
    "qwen3_next": (
        EXPERTS | LINEAR | {"head_dim": 8, "num_experts": 4, "shared_expert_intermediate_size": 16},
        "blocks are recurrent",
    ),
}
