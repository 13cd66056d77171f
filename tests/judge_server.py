"""A local server that speaks the chat completions of OpenAI, and misbehaves as a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request: its prompt (the user's message), the whole body and headers.

    ``time`` is the number of earlier requests with the same prompt, ``at`` the moment it came.
    """

    prompt: str
    body: dict[str, Any]
    headers: dict[str, str]
    time: int
    at: float


@dataclass(frozen=True)
class Answer:
    """What the server does: a completion with ``content``, unless ``body`` or ``drop`` is set.

    ``delay`` comes before the first byte, ``drip`` between one byte and the next, in seconds.
    ``finish`` is the completion's reason to end, ``message`` holds more fields of its message.
    ``endless``: the body goes on until the client hangs up, or for as many bytes.
    """

    content: Any = "7"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    drop: bool = False
    drip: float = 0.0
    finish: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)
    endless: int = 0


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "t", "code": code}}).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=body, headers=names)


class JudgeServer:
    """Attributes:
    script: what to answer to a request.
    asked: every request, in the order of arrival.
    answered: the prompts whose completion was sent whole.
    most_at_once: the largest number of requests that were open at one time.
    endless_bytes: bytes of endless bodies that were taken off the server's hands.
    """

    def __init__(self) -> None:
        self.script: Callable[[Asked], Answer] = lambda _asked: Answer()
        self.asked: list[Asked] = []
        self.answered: list[str] = []
        self.most_at_once = 0
        self.endless_bytes = 0
        self.url = ""
        self._open = 0
        self._lock = threading.Lock()

    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.asked]

    def enter(self, body: dict[str, Any], headers: dict[str, str]) -> Asked:
        with self._lock:
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            prompt = body["messages"][-1]["content"]
            earlier = self.prompts().count(prompt)
            asked = Asked(prompt, body, headers, earlier, time.monotonic())
            self.asked.append(asked)
            return asked

    def leave(self) -> None:
        with self._lock:
            self._open -= 1


def completion(answer: Answer, model: str) -> bytes:
    message = {"role": "assistant", "content": answer.content} | answer.message
    choice = {"index": 0, "message": message, "finish_reason": answer.finish}
    whole = {"id": "x", "object": "chat.completion", "created": 0, "model": model}
    return json.dumps(whole | {"choices": [choice]}).encode()


class _Handler(BaseHTTPRequestHandler):
    judge: JudgeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = self.judge.enter(body, {k.lower(): v for k, v in self.headers.items()})
        left = False
        try:
            answer = self.judge.script(asked)
            time.sleep(answer.delay)
            # Before the answer is sent: its receiver may come back at once.
            self.judge.leave()
            left = True
            self._send(asked, answer)
        except OSError:
            self.close_connection = True
        finally:
            if not left:
                self.judge.leave()

    def _send(self, asked: Asked, answer: Answer) -> None:
        if answer.drop:
            self.close_connection = True
            self.connection.close()
            return
        if self.path != "/v1/chat/completions":
            answer = error(404, "no such path")
        plain = answer.body is None
        content = answer.body or b""
        if plain:
            content = completion(answer, asked.body["model"])
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        length = answer.endless or len(content)
        self.send_header("Content-Length", str(length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.status == 200 and plain:
            self.judge.answered.append(asked.prompt)
        if answer.endless:
            self._send_endlessly(content, answer.endless)
            return
        if answer.drip:
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(answer.drip)
            return
        self.wfile.write(content)

    def _send_endlessly(self, content: bytes, length: int) -> None:
        block = content + b" " * (16384 - len(content))
        for _ in range(length // len(block)):
            self.wfile.write(block)
            self.judge.endless_bytes += len(block)
            block = b" " * len(block)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_args: object) -> None:
        """A client that was killed leaves broken connections: no news."""


@contextmanager
def serve() -> Iterator[JudgeServer]:
    judge = JudgeServer()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"judge": judge}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
