"""Clients that misbehave: each hears why, the server lives on, and no row is left behind."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from conftest import QUESTIONS, make_wrapper
from openai import APIStatusError, AuthenticationError, OpenAI, RateLimitError
from served import LABEL, Served, served, user, wait_until

CHAT = "/v1/chat/completions"
KEY = "a-key-that-is-long-enough"
ENDLESS: dict[str, Any] = {"messages": user(QUESTIONS[0]), "max_tokens": 1900, "temperature": 0}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    options: dict[str, Any] = {"max_rows": 2, "max_queue": 3, "body_seconds": 1.0}
    with served(make_wrapper("llama"), **options) as found:
        yield found


@pytest.fixture(autouse=True)
def afterwards(server: Served) -> Iterator[None]:
    yield
    wait_until(server.idle)
    status, reply, _ = server.send("/health", None, "GET")
    assert (status, reply) == (200, {"status": "ok", "running": 0, "waiting": 0})


def head(server: Served, length: int, *more: str) -> bytes:
    lines = [
        f"POST {CHAT} HTTP/1.1", f"Host: 127.0.0.1:{server.port}",
        "Content-Type: application/json", f"Content-Length: {length}", *more, "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def connected(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    top, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_row(server: Served, stream: bool) -> None:
    body = json.dumps(ENDLESS | {"stream": stream}).encode()
    connections = [connected(server) for _ in range(3)]
    for connection in connections:
        connection.sendall(head(server, len(body)) + body)
    # two that run and one that waits
    wait_until(lambda: server.engine.load == (2, 1))
    began = time.monotonic()
    for connection in connections:
        connection.close()
    wait_until(server.idle)
    assert time.monotonic() - began < 5


def test_a_full_queue_says_when_to_come_again(server: Served) -> None:
    body = json.dumps(ENDLESS | {"n": 2}).encode()
    first, second = connected(server), connected(server)
    first.sendall(head(server, len(body)) + body)
    wait_until(lambda: server.engine.load == (2, 0))
    second.sendall(head(server, len(body)) + body)
    wait_until(lambda: server.engine.load == (2, 2))
    status, content, headers = server.send(CHAT, ENDLESS | {"n": 2})
    assert (status, content["error"]["code"], headers["retry-after"]) == (429, "queue_full", "1")
    with pytest.raises(RateLimitError):
        server.client.chat.completions.create(model=LABEL, messages=user("Is it?"), n=2)
    first.close()
    second.close()
    wait_until(server.idle)
    status, content, _ = server.send(CHAT, ENDLESS | {"n": 4})
    assert (status, content["error"]["code"]) == (400, None)


def test_a_client_that_tries_again_gets_through(server: Served) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=8)

    def one(question: str) -> str:
        reply = client.chat.completions.create(
            model=LABEL,
            messages=user(question),
            temperature=0,
            max_tokens=30,
            n=2,
        )
        return str(reply.choices[1].message.content)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(one, QUESTIONS[:5]))
    expected = [server.wrapper.chat(q, max_new_tokens=30) for q in QUESTIONS[:5]]
    assert found == expected


def test_ten_megabytes_are_refused_by_a_client_that_sends_them_all(server: Served) -> None:
    text = "x" * 10_000_000
    with pytest.raises(APIStatusError) as caught:
        server.client.chat.completions.create(model=LABEL, messages=user(text))
    assert caught.value.status_code == 413
    with httpx2.Client() as client:
        reply = client.post(
            server.url + CHAT,
            content=(b"x" * 65536 for _ in range(160)),
            headers={"Content-Type": "application/json"},
        )
    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "invalid_request_error")


def test_a_gigabyte_is_refused_before_it_is_sent(server: Served) -> None:
    with connected(server) as connection:
        connection.sendall(head(server, 10**9))
        assert answer(connection)[0] == 413


def test_a_body_that_does_not_come_is_not_waited_for(server: Served) -> None:
    with connected(server) as connection:
        connection.sendall(head(server, 1000) + b'{"messages": [')
        status, content = answer(connection)
    assert status == 408
    assert "1 s" in content["error"]["message"]


def test_half_a_request_and_no_request_at_all(server: Served) -> None:
    for sent in (head(server, 1000) + b'{"mess', b"POST /v1/ch", b"\x16\x03\x01 hello\r\n\r\n"):
        with connected(server) as connection:
            connection.sendall(sent)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_another_sites_page_may_send_is_not_taken(server: Served, kind: str) -> None:
    status, _, headers = server.send(CHAT, ENDLESS, **{"Content-Type": kind})
    assert status == 415
    assert not any("access-control" in name.lower() for name in headers)
    status, _, headers = server.send(CHAT, None, "OPTIONS", Origin="http://evil.example")
    assert status == 405
    assert not any("access-control" in name.lower() for name in headers)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("evil.example", 421), ("evil.example:80", 421), ("127.0.0.1.evil.example", 421),
        ("", 421), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:8", 200), ("127.0.0.1", 200),
    ],
)  # fmt: skip
def test_a_name_made_to_point_here_is_not_taken(server: Served, host: str, expected: int) -> None:
    status, _, _ = server.send("/v1/models", None, "GET", Host=host)
    assert status == expected


def test_with_a_key_every_request_must_bring_it(server: Served) -> None:
    with served(server.wrapper, api_key=KEY, host="0.0.0.0") as locked:
        assert locked.client.models.list().data[0].id == LABEL
        for wrong in ("none", KEY + "x", KEY[:-1], KEY.upper()):
            with pytest.raises(AuthenticationError):
                locked.client.with_options(api_key=wrong).models.list()
        for path in ("/health", "/info", "/v1/models", "/nothing"):
            status, content, headers = locked.send(path, None, "GET")
            assert (status, content["error"]["code"]) == (401, "invalid_api_key")
            assert headers["www-authenticate"] == "Bearer"
        assert locked.send("/health", None, "GET", Authorization=KEY)[0] == 401
        # others reach it by other names
        given = {"Authorization": f"Bearer {KEY}", "Host": "gpu-7.example"}
        assert locked.send("/health", None, "GET", **given)[0] == 200


def test_a_deadline_ends_what_takes_too_long(server: Served) -> None:
    with served(server.wrapper, deadline=0.5) as hasty:
        status, content, _ = hasty.send(CHAT, ENDLESS)
        assert (status, content["error"]["type"]) == (504, "server_error")
        with pytest.raises(Exception, match="longer"):
            for _ in hasty.client.chat.completions.create(model=LABEL, stream=True, **ENDLESS):
                pass
        wait_until(hasty.idle)


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_ends_says_so_to_those_it_has_not_answered(stream: bool) -> None:
    with served(make_wrapper("llama")) as ending:
        body = json.dumps(ENDLESS | {"stream": stream}).encode()
        connection = connected(ending)
        connection.sendall(head(ending, len(body)) + body)
        wait_until(lambda: ending.engine.load == (1, 0))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    connection.close()
    heard = b"".join(parts)
    assert heard.startswith(b"HTTP/1.1 " + (b"200" if stream else b"503"))
    assert b'"message": "the server is stopping"' in heard.replace(b'":"', b'": "')
