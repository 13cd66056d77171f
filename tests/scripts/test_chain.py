"""Every family through all the scripts, against passes of the test's own."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import pytest
from families import (
    KINDS,
    LETTER_TYPES,
    SLOW,
    STEERED,
    Chain,
    check_answers,
    check_letters,
    check_vectors,
    more_data,
)
from running import hidden

from llama_wrapper import LlamaWrapper
from utils.models import loading
from utils.models.choice import choose_model

__all__ = ("more_data",)  # fixtures

CHAIN = [
    *("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3", "phi3", "gpt_neox"),
    *("gpt2", "mixtral", "qwen3_moe"),
]


@pytest.mark.bundled
@pytest.mark.parametrize("family", CHAIN)
def test_the_whole_chain_by_the_scripts(
    family: str, more_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # every script reads the same tokenizer files, for a third of this test's time
    monkeypatch.setattr(loading, "load_tokenizer", functools.cache(loading.load_tokenizer))
    chain = Chain(family, more_data, tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{SLOW}")
        chain.make_vectors()
        for kind in KINDS:
            chain.steer(kind)
        # a plot knows nothing of the family: one kind of each, by turns
        chain.plot(KINDS[CHAIN.index(family) % len(KINDS)])
    assert hidden(chain.out) == []
    choice = choose_model(str(chain.model), None, False)
    tokenizer = loading.load_tokenizer(choice)
    wrapper = LlamaWrapper.load(choice, device="cpu", tokenizer=tokenizer)
    check_vectors(chain, wrapper)
    delta = -chain.vector(STEERED, normalized=True)
    for kind in LETTER_TYPES:
        check_letters(chain.rows(kind), LETTER_TYPES[kind], wrapper, delta)
    check_answers(chain.rows("open_ended"), wrapper, delta)
