"""What a request may not hold: every fault is a clear 4xx in OpenAI's shape, and nothing hangs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import make_wrapper
from served import LABEL, Served, served, user

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(make_wrapper("llama")) as found:
        yield found
        # whatever came, it lives on and holds nothing
        assert found.idle()
        reply = found.client.chat.completions.create(model=LABEL, messages=user("Is it?"))
        assert reply.choices


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"temprature": 1}, "temprature", "did you mean temperature"),
        ({"functions": []}, "functions", "unknown field 'functions'"),
        ({"tools": [{"type": "function"}]}, "tools", "not served"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "not served"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not served"),
        ({"temperature": -0.1}, "temperature", "from 0 to 10"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": True}, "temperature", "number"),
        ({"temperature": 10**400}, "temperature", "number"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"top_p": 1.5}, "top_p", "from 0 to 1"),
        ({"n": 9}, "n", "from 1 to 8"),
        ({"n": 1.0}, "n", "whole number"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "are one"),
        ({"max_tokens": 5000}, "max_tokens", "2048"),
        ({"seed": 2**63}, "seed", "whole number"),
        ({"stop": [""]}, "stop", "none of them empty"),
        ({"stop": ["a"] * 17}, "stop", "up to 16"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {}}, "stream_options", "stream"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"messages": []}, "messages", "list of turns"),
        ({"messages": "hello"}, "messages", "list of turns"),
        ({"messages": ["hello"]}, "messages[0]", "object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "one of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages[0].content", "text"),
        ({"messages": [*user("a"), {"role": "system", "content": "b"}]},
         "messages[1].role", "first"),
        ({"messages": [*user("a"), {"role": "assistant", "content": "b"}]}, "messages", "last"),
        ({"messages": user("  ")}, "messages", "not empty"),
        ({"messages": user("word " * 3000)}, "messages", "2048"),
        ({"steering": {"behavior": "calm", "layer": 2}}, "steering.multiplier", "one of"),
        ({"steering": {"behavior": "calm", "layer": 2, "dose": 1, "multiplier": 1}},
         "steering.multiplier", "one of"),
        ({"steering": {"behavior": "calm", "multiplier": 1}}, "steering.layer", "layer"),
        ({"steering": {"layer": 1, "multiplier": 1}}, "steering.behavior", "one of"),
        ({"steering": {"behavior": "calm", "layer": 2, "multiplier": 1e39}}, "steering", "large"),
        ({"steering": {"behavior": "calm", "layer": 2, "strength": 1}}, "steering.strength",
         "unknown field"),
        ({"steering": {"behavior": "calm", "layer": 2, "dose": 1, "scope": "some"}},
         "steering.scope", "after_instruction"),
        ({"steering": {"behavior": "calm", "layer": 2, "dose": 1, "scope": "continuation"}},
         "steering.scope", "raw prompts"),
        ({"steering": {"vector": "mine", "layer": 2, "dose": 1}}, "steering.dose", "multiplier"),
        ({"steering": [{"behavior": "calm", "layer": 2, "dose": 1, "scope": "all"},
                       {"behavior": "calm", "layer": 1, "dose": 1}]}, "steering", "one scope"),
        ({"steering": "refusal"}, "steering", "object"),
        ({"token_scores": True}, "token_scores", "name a behavior"),
        ({"token_scores": 3}, "token_scores", "true"),
    ],
)  # fmt: skip
def test_a_fault_is_named(server: Served, fields: dict[str, Any], param: str, says: str) -> None:
    status, error = server.refused(CHAT, {"messages": user("Is it?")} | fields)
    assert (status, error["param"]) == (400, param)
    assert says in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("steering", "says"),
    [
        ({"behavior": "clam", "layer": 2}, "did you mean calm"),
        ({"behavior": "calm", "layer": 4}, "layers 0 to 3"),
        ({"behavior": "bold", "layer": 3}, "1, 2"),
        ({"vector": "/etc/passwd", "layer": 1}, "mine"),
        ({"vector": "../calm", "layer": 1}, "mine"),
    ],
)
def test_what_there_is_not_is_404(server: Served, steering: dict[str, Any], says: str) -> None:
    body = {"messages": user("Is it?"), "steering": steering | {"multiplier": 1}}
    status, error = server.refused(CHAT, body)
    assert (status, error["code"]) == (404, "model_not_found")
    assert says in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000, b"9" * 5000,
        json.dumps({"messages": user("a"), "temperature": float("nan")}).encode(),
        json.dumps({"messages": user("a"), "temperature": float("inf")}).encode(),
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_400(server: Served, body: bytes) -> None:
    status, _ = server.refused(CHAT, body)
    assert status == 400


def test_values_that_ask_for_nothing_are_taken(server: Served) -> None:
    body = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Is it?"}]}],
        "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "tools": [], "n": None,
        "response_format": {"type": "text"}, "store": False, "user": "me", "stop": None,
    }  # fmt: skip
    status, reply, _ = server.send(CHAT, body)
    assert (status, reply["model"]) == (200, LABEL)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", CHAT, 405),
        ("POST", "/health", 405),
        ("GET", "/page/..%2fapp.py", 404),
        ("GET", "/page/.hidden", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/models/gpt-4", 404),
    ],
)
def test_other_addresses_and_methods(server: Served, method: str, path: str, expected: int) -> None:
    status, content, _ = server.send(path, None, method)
    assert status == expected
    assert set(content["error"]) == {"message", "type", "param", "code"}


def test_info_says_what_there_is(server: Served) -> None:
    status, info, _ = server.send("/info", None, "GET")
    assert status == 200
    calm, bold = info["behaviors"]
    assert (calm["name"], bold["name"]) == ("Calm", "bold")
    assert [layer["layer"] for layer in bold["layers"]] == [1, 2]
    for layer in calm["layers"]:
        norm = float(server.catalogue.behaviors["calm"][layer["layer"]].vector.norm())
        assert layer["dose_per_multiplier"] == pytest.approx(norm / 2.5)
    assert calm["tuned"] == {"layer": 2, "multiplier": 1.5, "dose": 0.25, "signs": [-1, 0, 1]}
    assert (bold["tuned"], bold["do_not_steer"]) == (None, True)
    assert info["context"] == server.wrapper.model.config.max_position_embeddings
    assert info["vectors"][0]["name"] == "mine"
