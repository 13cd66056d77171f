"""Raw prompts: the request that lm-evaluation-harness sends, and from where one is steered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import QUESTIONS, decoded, make_wrapper
from openai import BadRequestError
from served import LABEL, Served, served

STEER = {"behavior": "calm", "layer": 2, "multiplier": 3.0}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_wrapper("llama")) as found:
        yield found


def ids_of(server: Served, text: str) -> list[int]:
    return list(server.wrapper.tokenizer(text, add_special_tokens=False)["input_ids"])


def complete(server: Served, prompt: Any, **options: Any) -> Any:
    extra = {k: options.pop(k) for k in ("steering",) if k in options}
    settings: dict[str, Any] = {"model": LABEL, "temperature": 0, "max_tokens": 1} | options
    return server.client.completions.create(prompt=prompt, extra_body=extra, **settings)


def expected(
    server: Served, ids: list[int], new: int, steer: float = 0, first: int = 0
) -> tuple[list[int], list[float], list[int]]:
    """All tokens, the log-probability of each after the first, and the likeliest at its place."""
    vector = server.catalogue.behaviors["calm"][2].vector
    with torch.no_grad(), server.wrapper.steer({2: steer * vector}, first):
        out = server.wrapper.model.generate(
            torch.tensor([ids]), max_new_tokens=new, do_sample=False, eos_token_id=None
        )
        scores = server.wrapper.model(out).logits[0].log_softmax(-1)
    tokens = out[0].tolist()
    own = [float(scores[i, t]) for i, t in enumerate(tokens[1:])]
    return tokens, own, scores[:-1].argmax(-1).tolist()


def test_the_request_of_lm_evaluation_harness(server: Served) -> None:
    prompts = [ids_of(server, q) for q in QUESTIONS[:3]]
    body = {
        "model": LABEL, "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1,
        "seed": 1234, "echo": True,
    }  # fmt: skip
    status, reply, _ = server.send("/v1/completions", body)
    assert status == 200
    assert [c["index"] for c in reply["choices"]] == [0, 1, 2]
    greedy = 0
    for choice, ids in zip(reply["choices"], prompts, strict=True):
        tokens, own, best = expected(server, ids, 1)
        told = choice["logprobs"]
        assert len(told["tokens"]) == len(ids) + 1
        assert told["token_logprobs"][0] is None is told["top_logprobs"][0]
        assert told["token_logprobs"][1:] == pytest.approx(own, abs=1e-5)
        for i, (score, top) in enumerate(
            zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True)
        ):
            likeliest = max(top.values())
            # the harness asks for the same float
            assert (score == likeliest) == (best[i] == tokens[i + 1])
            greedy += score == likeliest
    assert greedy >= 3
    assert reply["usage"]["completion_tokens"] == 3


def test_steered_the_log_probabilities_are_the_steered_models(server: Served) -> None:
    ids = ids_of(server, QUESTIONS[0])
    for options in ({"steering": STEER | {"scope": "all"}}, {"model": f"{LABEL}@calm:L2:x3:all"}):
        reply = complete(server, [ids], echo=True, logprobs=1, **options)
        _, own, _ = expected(server, ids, 1, 3.0)
        assert reply.choices[0].logprobs.token_logprobs[1:] == pytest.approx(own, abs=1e-5)
        assert reply.steering[0]["first_steered_token"]["index"] == 0


def test_texts_and_ids_alone_and_in_lists_are_one(server: Served) -> None:
    text, other = QUESTIONS[0], QUESTIONS[1]
    ids = ids_of(server, text)
    one = [complete(server, p, max_tokens=6).choices[0].text for p in (text, ids, [text], [ids])]
    assert len(set(one)) == 1
    both = complete(server, [text, other], max_tokens=6, n=2)
    assert [c.index for c in both.choices] == [0, 1, 2, 3]
    assert [c.text for c in both.choices[:2]] == one[:2]
    alone = complete(server, other, max_tokens=6).choices[0].text
    assert [c.text for c in both.choices[2:]] == [alone, alone]


def test_a_completion_goes_on_from_the_prompt_blanks_and_all(server: Served) -> None:
    ids = ids_of(server, QUESTIONS[2])
    tokens, _, _ = expected(server, ids, 8)
    reply = complete(server, QUESTIONS[2], max_tokens=8, echo=True)
    more = decoded(server.wrapper.tokenizer, tokens[len(ids) :], skip_special_tokens=True)
    assert reply.choices[0].text == QUESTIONS[2] + more
    stream = list(complete(server, QUESTIONS[2], max_tokens=8, echo=True, stream=True))
    assert "".join(c.choices[0].text for c in stream) == reply.choices[0].text
    assert stream[-1].choices[0].finish_reason == "length"


def test_the_instruction_ends_where_the_templates_generation_prompt_does(server: Served) -> None:
    prompt = server.wrapper.prompt_format().open_prompt(QUESTIONS[0])
    ids = [*prompt.ids, *ids_of(server, "Well, yes")]
    for options in ({"steering": STEER}, {"model": f"{LABEL}@calm:L2:x3"}):
        reply = complete(server, [ids], echo=True, logprobs=0, **options)
        _, own, _ = expected(server, ids, 1, 3.0, prompt.steer_from)
        assert reply.choices[0].logprobs.token_logprobs[1:] == pytest.approx(own, abs=1e-5)
        assert reply.steering[0]["first_steered_token"]["index"] == prompt.steer_from
        assert reply.choices[0].first_steered_token["index"] == prompt.steer_from


def test_without_it_a_scope_must_be_given(server: Served) -> None:
    ids = ids_of(server, QUESTIONS[0])
    for more in ({}, {"scope": "after_instruction"}):
        with pytest.raises(BadRequestError, match="scope"):
            complete(server, [ids], steering=STEER | more)
    with pytest.raises(BadRequestError, match="echo"):
        complete(server, [ids], steering=STEER | {"scope": "continuation"}, echo=True)


def test_a_continuation_is_steered_from_the_last_token_of_the_prompt_on(server: Served) -> None:
    ids = ids_of(server, QUESTIONS[0])
    reply = complete(
        server, [ids], steering=STEER | {"scope": "continuation"}, max_tokens=6, logprobs=0
    )
    _, own, _ = expected(server, ids, 6, 3.0, len(ids) - 1)
    assert reply.choices[0].logprobs.token_logprobs == pytest.approx(own[-6:], abs=1e-5)
    assert reply.steering[0]["first_steered_token"]["index"] == len(ids) - 1


@pytest.mark.parametrize("prompt", [[], "", [[]], [[1], []], ["a", 1], [1.5], [[10**6]], [[-1]], 7])
def test_a_prompt_of_another_shape_is_refused(server: Served, prompt: Any) -> None:
    status, error = server.refused("/v1/completions", {"prompt": prompt, "max_tokens": 1})
    assert (status, error["param"]) == (400, "prompt")
