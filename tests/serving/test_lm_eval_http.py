"""lm-evaluation-harness itself over HTTP, against plain passes of the steered model.

Skipped where the harness is not installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUESTIONS, decoded, make_wrapper
from served import LABEL, Served, served

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

ENDINGS = ["A", " yes, it is so.", " no"]
PAIRS = [(question, ending) for question in QUESTIONS[:5] for ending in ENDINGS]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_wrapper("llama"), max_queue=64) as found:
        yield found


def harness(server: Served, folder: Path, model: str) -> Any:
    return get_model("local-completions")(
        base_url=f"{server.url}/v1/completions",
        model=model,
        tokenizer=str(folder),
        tokenized_requests=True,
        batch_size=4,
        num_concurrent=2,
    )


def instances(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=pair, idx=i)
        for i, pair in enumerate(arguments)
    ]


@pytest.mark.parametrize(
    ("model", "times"),
    [(LABEL, 0.0), (f"{LABEL}@calm:L2:x0:all", 0.0), (f"{LABEL}@calm:L2:x3:all", 3.0)],
)
def test_its_log_likelihoods_are_those_of_the_model(
    server: Served, tiny_folder: Path, model: str, times: float
) -> None:
    found = harness(server, tiny_folder, model).loglikelihood(instances("loglikelihood", PAIRS))
    wrapper = server.wrapper
    vector = server.catalogue.behaviors["calm"][2].vector
    greedy = []
    for (question, ending), (total, is_greedy) in zip(PAIRS, found, strict=True):
        context = wrapper.tokenizer(question)["input_ids"]
        whole = wrapper.tokenizer(question + ending)["input_ids"]
        with torch.no_grad(), wrapper.steer({2: times * vector}, 0):
            scores = wrapper.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        places = range(len(context), len(whole))
        expected = sum(float(scores[i - 1, whole[i]]) for i in places)
        assert total == pytest.approx(expected, abs=1e-4)
        greedy.append(all(int(scores[i - 1].argmax()) == whole[i] for i in places))
        assert is_greedy == greedy[-1]


def test_its_generations_are_greedy_ones(server: Served, tiny_folder: Path) -> None:
    wrapper = server.wrapper
    options = {"until": ["never there"], "max_gen_toks": 7, "temperature": 0}
    asked = [(question, dict(options)) for question in QUESTIONS[:3]]
    lm = harness(server, tiny_folder, f"{LABEL}@calm:L2:x3:continuation")
    found = lm.generate_until(instances("generate_until", asked))
    vector = server.catalogue.behaviors["calm"][2].vector
    for question, text in zip(QUESTIONS, found, strict=False):
        ids = wrapper.tokenizer(question)["input_ids"]
        with wrapper.steer({2: 3 * vector}, len(ids) - 1):
            (tokens,) = wrapper.generate([ids], max_new_tokens=7)
        assert text == decoded(wrapper.tokenizer, tokens, skip_special_tokens=True)
