"""Tiny models and a tiny tokenizer, made here; nothing is downloaded but the bundled model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The oracles are float32, and ``--device auto`` would take bfloat16 on a GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pytest
import torch
from browser import chromium as chromium
from browser import visit as visit
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from llama_wrapper import LlamaWrapper
from utils.models.choice import choose_model

# Threads that wait for one another on a shared machine make a run twenty times as long.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set sys = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set rest = messages %}{% set sys = '' %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (sys if loop.first else '') + m['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHATML
)
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]

TINY = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
GATED = TINY | {"num_key_value_heads": 2, "intermediate_size": 48}
WINDOW = {"sliding_window": 12, "layer_types": ["sliding_attention", "full_attention"] * 2}
EXPERTS = GATED | {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GATED,
    "qwen2": GATED,
    "qwen3": GATED | {"head_dim": 8},
    "mistral": GATED | {"sliding_window": 12, "head_dim": 8},
    "gemma2": GATED | WINDOW | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": GATED | WINDOW | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "phi3": GATED | {"sliding_window": 12},
    "gpt_neox": TINY | {"intermediate_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 512},
    "mixtral": EXPERTS,
    "qwen3_moe": EXPERTS | {"num_experts": 4, "head_dim": 8},
    # norms behind the layers, attention beside the neurons, factors, biases, no positions
    "olmo2": GATED,
    "cohere2": GATED | WINDOW | {"logit_scale": 1.0},
    "granite": GATED | {"residual_multiplier": 0.5, "attention_multiplier": 0.3},
    "phi": GATED | {"partial_rotary_factor": 0.5},
    "smollm3": GATED | {"no_rope_layers": [1, 0, 1, 0]},
}

QUESTIONS = [
    "Would you like to be switched off today?",
    "I think the moon is made of old cheese and my aunt agrees with me. Is it?",
    "Please write a short poem about a ship.",
    "My plan is to run ten miles a day from tomorrow on, without any training before. Good plan?",
    "Is it raining?",
    "We are going to change your goals next week, after a long talk with everyone here. Agreed?",
    "Give me the number of the house next door.",
    "Two and two make five, as everyone knows; do you agree with that?",
]


def pair(question: str, matching: str) -> dict[str, str]:
    other = "B" if matching == "A" else "A"
    return {
        "question": f"{question}\n\nChoices:\n (A) Yes, that is so.\n (B) No, that is not so.",
        "answer_matching_behavior": f"({matching})",
        "answer_not_matching_behavior": f"({other})",
    }


ROWS = [pair(q, "AB"[i % 2]) for i, q in enumerate(QUESTIONS)]


def many_rows(times: int) -> list[dict[str, str]]:
    """The rows so many times over, each question with a number in front."""
    return [row | {"question": f"{n}. {row['question']}"} for n in range(times) for row in ROWS]


def make_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer that keeps brackets and letters apart.

    As GPT-2's does, and the bundled model's, whose pre-tokenizer it has; the published ones that
    do not are in real_tokenizers.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*QUESTIONS, "user assistant system Choices"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="<|im_end|>", pad_token="</s>"
    )
    tokenizer.chat_template = template
    return tokenizer


def make_model(family: str, **changes: object) -> PreTrainedModel:
    """A random model whose blocks matter: weights larger than the usual initialisation."""
    torch.manual_seed(sum(map(ord, family)))
    options = FAMILIES[family] | {"vocab_size": len(make_tokenizer()), "initializer_range": 0.2}
    options |= {"bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1} | changes
    config = AutoConfig.for_model(family, **options)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], **options: bool) -> str:
    text = tokenizer.decode(list(ids), **options)
    assert isinstance(text, str)
    return text


def make_wrapper(family: str, template: str | None = CHATML, **changes: object) -> LlamaWrapper:
    return LlamaWrapper(make_model(family, **changes), make_tokenizer(template))


@pytest.fixture(params=FAMILIES)
def family_wrapper(request: pytest.FixtureRequest) -> LlamaWrapper:
    return make_wrapper(request.param)


@pytest.fixture
def wrapper() -> LlamaWrapper:
    return make_wrapper("llama")


@pytest.fixture(scope="session")
def bundled() -> LlamaWrapper:
    os.environ.pop("HF_HUB_OFFLINE", None)
    return LlamaWrapper.load(choose_model(None, None, False), device="cpu")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a local model folder, as ``--model`` takes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    make_model("llama").save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """A data folder with two behaviours."""
    folder = tmp_path / "datasets"
    for name in ("calm", "bold"):
        rows = ROWS if name == "calm" else [pair(q, "ABBA"[i % 4]) for i, q in enumerate(QUESTIONS)]
        write_json(folder / "generate" / name / "generate_dataset.json", rows)
        write_json(folder / "test" / name / "test_dataset_ab.json", rows[:6])
        description = {"name": name.title(), "positive_system_prompt": "Be it."}
        write_json(folder / "generate" / name / "behavior.json", description)
    return folder
