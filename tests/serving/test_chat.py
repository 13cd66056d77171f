"""Chats through the real openai client and a real server: what is steered, and what it says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from conftest import QUESTIONS, make_wrapper
from openai import BadRequestError, NotFoundError
from served import LABEL, H, Served, served, user

QUESTION = QUESTIONS[0]
HISTORY = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Is it raining?"},
    {"role": "assistant", "content": "No, it is not."},
    {"role": "user", "content": "And tomorrow?"},
]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_wrapper("llama")) as found:
        yield found


def ask(server: Served, messages: Any = None, **options: Any) -> Any:
    extra = {k: options.pop(k) for k in ("steering", "token_scores") if k in options}
    settings: dict[str, Any] = {"model": LABEL, "temperature": 0, "max_tokens": 9} | options
    return server.client.chat.completions.create(
        messages=messages or user(QUESTION), extra_body=extra, **settings
    )


def steered(multiplier: float = 3.0, layer: int = 2, **more: Any) -> dict[str, Any]:
    return {"behavior": "calm", "layer": layer, "multiplier": multiplier} | more


def vector(server: Served, layer: int = 2) -> torch.Tensor:
    return server.catalogue.behaviors["calm"][layer].vector


def content(reply: Any) -> str:
    return str(reply.choices[0].message.content)


def pieces(stream: Any) -> tuple[dict[int, str], dict[int, str], list[Any]]:
    """The texts and the reasons of a stream's answers, and the stream."""
    chunks = list(stream)
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            assert choice.index not in reasons, "something came after the end"
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    return texts, reasons, chunks


def test_unsteered_it_is_what_the_wrapper_answers(server: Served) -> None:
    reply = ask(server)
    assert content(reply) == server.wrapper.chat(QUESTION, max_new_tokens=9)
    assert reply.steering is None
    assert reply.model == LABEL
    assert reply.system_fingerprint.startswith("fp_")
    assert reply.choices[0].finish_reason == "length"
    prompt = server.wrapper.prompt_format().open_prompt(QUESTION)
    assert reply.usage.prompt_tokens == len(prompt.ids)
    assert (reply.usage.completion_tokens, reply.usage.total_tokens) == (9, len(prompt.ids) + 9)


@pytest.mark.parametrize("multiplier", [-3.0, 3.0])
def test_steered_it_is_what_the_wrapper_answers_steered(server: Served, multiplier: float) -> None:
    expected = server.wrapper.chat(
        QUESTION, steer={2: multiplier * vector(server)}, max_new_tokens=9
    )
    assert expected != server.wrapper.chat(QUESTION, max_new_tokens=9)
    by_field = ask(server, steering=steered(multiplier))
    by_id = ask(server, model=f"{LABEL}@calm:L2:x{multiplier:g}")
    assert content(by_field) == content(by_id) == expected
    assert by_field.steering == by_id.steering
    (report,) = by_field.steering
    index = len(server.wrapper.prompt_format().open_prompt(QUESTION).ids) - 1
    assert report == {
        "behavior": "calm",
        "vector": None,
        "sha256": "sha of 2",
        "layer": 2,
        "multiplier": multiplier,
        "dose": pytest.approx(multiplier * float(vector(server).norm()) / H),
        "scope": "after_instruction",
        "first_steered_token": {"index": index, "text": "\n"},
    }


def test_a_dose_is_the_multiplier_that_has_it(server: Served) -> None:
    by_field = ask(server, steering={"behavior": "calm", "layer": 2, "dose": -0.7})
    by_id = ask(server, model=f"{LABEL}@calm:L2:d-0.7")
    (report,) = by_field.steering
    assert report["multiplier"] == pytest.approx(-0.7 * H / float(vector(server).norm()))
    assert report["dose"] == pytest.approx(-0.7)
    assert by_id.steering == by_field.steering
    assert content(by_id) == content(by_field)


def test_multiplier_nothing_is_the_library_s_own_model(server: Served) -> None:
    reply = ask(server, steering=steered(0), logprobs=True, top_logprobs=3)
    model, tokenizer = server.wrapper.model, server.wrapper.tokenizer
    text = tokenizer.apply_chat_template(user(QUESTION), tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    out = model.generate(ids, max_new_tokens=9, do_sample=False)
    with torch.no_grad():
        logits = model(out).logits[0].log_softmax(-1)
    told = reply.choices[0].logprobs.content
    new = out[0, ids.shape[1] :].tolist()
    assert tokenizer.decode(new) == bytes(b for t in told for b in t.bytes).decode(errors="replace")
    rows = logits[ids.shape[1] - 1 : -1]
    assert [t.logprob for t in told] == pytest.approx(
        [float(row[i]) for row, i in zip(rows, new, strict=True)], abs=1e-5
    )
    for token, row in zip(told, rows, strict=True):
        best = row.topk(3).values.tolist()
        assert [t.logprob for t in token.top_logprobs] == pytest.approx(best, abs=1e-5)
        assert token.top_logprobs[0].logprob == token.logprob


def test_several_vectors_are_added_up(server: Served) -> None:
    both = [steered(2, 1), {"vector": "mine", "layer": 2, "multiplier": -1}, steered(1, 2)]
    reply = ask(server, steering=both)
    mine = server.catalogue.named["mine"].vector
    steer = {1: 2 * vector(server, 1), 2: vector(server) - mine}
    assert content(reply) == server.wrapper.chat(QUESTION, steer=steer, max_new_tokens=9)
    assert [r["behavior"] for r in reply.steering] == ["calm", None, "calm"]
    assert reply.steering[1]["dose"] is None


def test_earlier_turns_are_read_unsteered(server: Served) -> None:
    wrapper = server.wrapper
    reply = ask(server, HISTORY, steering=steered(), logprobs=True, max_tokens=1)
    text = wrapper.tokenizer.apply_chat_template(
        HISTORY, tokenize=False, add_generation_prompt=True
    )
    ids = torch.tensor([wrapper.tokenizer(text, add_special_tokens=False)["input_ids"]])
    last = ids.shape[1] - 1
    assert reply.steering[0]["first_steered_token"]["index"] == last
    with torch.no_grad():
        plain = wrapper.model(ids, output_hidden_states=True).hidden_states
        with wrapper.steer({2: 3 * vector(server)}, last):
            found = wrapper.model(ids, output_hidden_states=True)
    for before, after in zip(plain, found.hidden_states, strict=True):
        assert torch.equal(before[:, :last], after[:, :last])
    # the library may note a block's output before it is steered: not so that of the next block
    before, after = plain[4][0, last], found.hidden_states[4][0, last]
    assert not torch.allclose(before, after, atol=0.1)
    expected = found.logits[0, -1].log_softmax(-1).max()
    (told,) = reply.choices[0].logprobs.content
    assert told.logprob == pytest.approx(float(expected), abs=1e-5)


def test_earlier_turns_from_python_are_the_same(server: Served) -> None:
    history = [(m["role"], m["content"]) for m in HISTORY[1:3]]
    for steer in (None, 3.0):
        expected = server.wrapper.chat(
            "And tomorrow?",
            system_prompt="Be short.",
            history=history,
            steer=None if steer is None else {2: steer * vector(server)},
            max_new_tokens=9,
        )
        options = {} if steer is None else {"steering": steered(steer)}
        assert content(ask(server, HISTORY, **options)) == expected


def test_scope_all_begins_at_the_very_first_token(server: Served) -> None:
    reply = ask(server, steering=steered(scope="all"), logprobs=True, max_tokens=1)
    prompt = server.wrapper.prompt_format().open_prompt(QUESTION)
    with server.wrapper.steer({2: 3 * vector(server)}, 0):
        expected = server.wrapper.next_logits(prompt.ids).log_softmax(-1).max()
    assert reply.choices[0].logprobs.content[0].logprob == pytest.approx(float(expected), abs=1e-5)
    assert reply.steering[0]["scope"] == "all"
    assert reply.steering[0]["first_steered_token"] == {"index": 0, "text": "<|im_start|>"}
    by_id = ask(server, model=f"{LABEL}@calm:L2:x3:all", max_tokens=1)
    assert by_id.steering == reply.steering


def test_a_stream_says_what_the_whole_says(server: Served) -> None:
    options: dict[str, Any] = {"steering": steered(), "token_scores": True, "logprobs": True}
    whole = ask(server, n=2, **options)
    usage = {"include_usage": True}
    stream = ask(server, n=2, stream=True, stream_options=usage, **options)
    texts, reasons, chunks = pieces(stream)
    assert texts == {c.index: c.message.content for c in whole.choices}
    assert reasons == {c.index: c.finish_reason for c in whole.choices}
    assert chunks[0].steering == whole.steering
    assert chunks[-1].usage == whole.usage
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    for choice in whole.choices:
        own = [c for k in chunks for c in k.choices if c.index == choice.index]
        assert own[0].delta.role == "assistant"
        told = [t for c in own if c.logprobs for t in c.logprobs.content]
        assert [t.logprob for t in told] == pytest.approx(
            [t.logprob for t in choice.logprobs.content], abs=1e-5
        )
        scores = [s for c in own for s in (c.model_extra or {}).get("token_scores", [])]
        assert [s["token"] for s in scores] == [s["token"] for s in choice.token_scores]
        assert [s["score"] for s in scores] == pytest.approx(
            [s["score"] for s in choice.token_scores], abs=1e-5
        )


def test_scores_of_another_vector_of_an_unsteered_answer(server: Served) -> None:
    reply = ask(server, token_scores={"behavior": "bold", "layer": 1})
    ids = list(server.wrapper.prompt_format().open_prompt(QUESTION).ids)
    (tokens,) = server.wrapper.generate([ids], max_new_tokens=9)
    with torch.no_grad():
        whole = torch.tensor([ids + tokens])
        states = server.wrapper.model(whole, output_hidden_states=True).hidden_states[2]
    bold = server.catalogue.behaviors["bold"][1].vector
    expected = torch.cosine_similarity(states[0, len(ids) :], bold, dim=-1).tolist()
    found = [s["score"] for s in reply.choices[0].token_scores]
    assert found == pytest.approx(expected, abs=1e-5)
    assert reply.steering is None


def test_a_seed_draws_the_same_whoever_shares_the_batch(server: Served) -> None:
    options = {"temperature": 1.3, "top_p": 0.9, "seed": 11, "n": 3}
    alone = ask(server, steering=steered(), **options)
    others: list[dict[str, Any]] = [
        {"temperature": 1, "seed": 3},
        {"model": f"{LABEL}@bold:L1:x-2"},
        {"n": 2},
    ]
    with ThreadPoolExecutor(6) as pool:
        jobs = [
            pool.submit(ask, server, user(q), **o)
            for q, o in zip(QUESTIONS[:3], others, strict=True)
        ]
        again = pool.submit(ask, server, steering=steered(), **options).result()
        assert all(job.result().choices for job in jobs)
    texts = [c.message.content for c in alone.choices]
    assert [c.message.content for c in again.choices] == texts
    assert len(set(texts)) == 3
    assert (
        ask(server, steering=steered(), **options | {"seed": 12, "n": 1}).choices[0].message.content
        == texts[1]
    )


def test_stops_end_an_answer_and_are_never_shown(server: Served) -> None:
    whole = server.wrapper.chat(QUESTION, max_new_tokens=60)
    inner = next(
        whole[i : i + 4] for i in range(8, len(whole)) if whole.find(whole[i : i + 4]) == i
    )
    expected = whole[: whole.find(inner)].strip()
    reply = ask(server, stop=["never there", inner], max_tokens=60)
    assert content(reply) == expected
    assert reply.choices[0].finish_reason == "stop"
    texts, reasons, _ = pieces(ask(server, stop=inner, max_tokens=60, stream=True))
    assert (texts[0], reasons[0]) == (expected, "stop")


def test_an_end_token_ends_an_answer() -> None:
    wrapper = make_wrapper("llama")
    with torch.no_grad():  # the end of a turn is what this model says
        wrapper.model.get_output_embeddings().weight[3] = 0
        wrapper.model.get_output_embeddings().weight *= 0.01
        hidden = wrapper.decoder(
            torch.tensor([list(wrapper.prompt_format().open_prompt(QUESTION).ids)])
        ).last_hidden_state[0, -1]
        wrapper.model.get_output_embeddings().weight[3] = hidden
    with served(wrapper) as server:
        reply = ask(server, logprobs=True, token_scores={"behavior": "calm", "layer": 0})
        assert content(reply) == "" == wrapper.chat(QUESTION, max_new_tokens=9)
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.completion_tokens == 1
        assert [t.token for t in reply.choices[0].logprobs.content] == ["<|im_end|>"]
        assert reply.choices[0].token_scores == [{"token": "<|im_end|>", "score": None}]


def test_many_clients_with_unlike_vectors_get_their_own_answers(server: Served) -> None:
    cells = list(itertools.product(QUESTIONS[:4], (-2, 0, 2), (1, 3)))

    def one(cell: tuple[str, int, int]) -> str:
        question, multiplier, layer = cell
        return content(ask(server, user(question), steering=steered(multiplier, layer)))

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, cells))
    for (question, multiplier, layer), answer in zip(cells, found, strict=True):
        steer = {layer: multiplier * vector(server, layer)}
        assert answer == server.wrapper.chat(question, steer=steer, max_new_tokens=9)


def test_models_are_the_plain_one_and_the_tuned_cells(server: Served) -> None:
    ids = [m.id for m in server.client.models.list()]
    assert ids == [LABEL, f"{LABEL}@calm:L2:d-0.25", f"{LABEL}@calm:L2:d0.25"]
    assert ask(server, model=ids[1]).steering[0]["dose"] == pytest.approx(-0.25)
    odd = f"{LABEL}@bold:L1:x1e-1:all"
    assert server.client.models.retrieve(odd).id == odd
    with pytest.raises(NotFoundError):
        server.client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    "model",
    ["gpt-4", f"{LABEL}@", f"{LABEL}@calm", f"{LABEL}@calm:L2", f"{LABEL}@calm:L2:2",
     f"{LABEL}@calm:L9:x1", f"{LABEL}@bold:L3:x1", f"{LABEL}@wild:L2:x1", f"{LABEL}@calm:L2:xnan",
     "other@calm:L2:x1"],
)  # fmt: skip
def test_a_model_that_there_is_not_is_named(server: Served, model: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        ask(server, model=model)
    assert caught.value.code == "model_not_found"


def test_steering_twice_is_refused(server: Served) -> None:
    with pytest.raises(BadRequestError, match="twice"):
        ask(server, model=f"{LABEL}@calm:L2:x1", steering=steered())
