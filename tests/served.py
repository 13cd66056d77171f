"""A server on a real port, with a tiny model and made-up vectors, and its clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from openai import OpenAI

from llama_wrapper import LlamaWrapper
from utils.batching.engine import Engine
from utils.serving.app import Desk, Limits, make_app
from utils.serving.info import Info
from utils.serving.planning import Planner
from utils.serving.server import Server
from utils.serving.steering import Catalogue
from utils.tuning.chosen import Chosen
from utils.vectors.dose import SteeringVector
from utils.vectors.stored import StoredVector

LABEL = "tiny"
H = 2.5
"""The made-up length of the residual stream, at every layer."""


def made_up_vector(width: int, seed: int, h: float | None = H) -> SteeringVector:
    numbers = torch.randn(width, generator=torch.Generator().manual_seed(seed))
    return SteeringVector(StoredVector.of(numbers, f"sha of {seed}"), h)


def catalogue_of(wrapper: LlamaWrapper) -> Catalogue:
    """``calm`` at every layer, ``bold`` at 1 and 2, the named vector ``mine``."""
    calm = {n: made_up_vector(wrapper.width, n) for n in range(wrapper.n_layers)}
    bold = {n: made_up_vector(wrapper.width, 10 + n) for n in (1, 2)}
    named = {"mine": made_up_vector(wrapper.width, 99, None)}
    return Catalogue(LABEL, wrapper.n_layers, {"calm": calm, "bold": bold}, named)


class Served:
    """Attributes:
    wrapper, catalogue, engine: what the server runs.
    port: where.
    client: the openai client.
    """

    def __init__(
        self,
        wrapper: LlamaWrapper,
        *,
        catalogue: Catalogue | None = None,
        max_rows: int = 8,
        max_queue: int = 32,
        max_tokens: int = 32_768,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        deadline: float = 60,
        body_seconds: float = 30,
    ) -> None:
        self.wrapper, self.catalogue = wrapper, catalogue or catalogue_of(wrapper)
        self.engine = Engine(wrapper, max_rows=max_rows, max_queue=max_queue, max_tokens=max_tokens)
        planner = Planner(wrapper, self.catalogue, 12)
        tuned = {"calm": Chosen(2, 1.5, 0.25, (-1, 0, 1), "sha of 2"), "bold": None}
        origin = {"weights": "w", "dtype": "float32"}
        info = Info(self.catalogue, {"calm": "Calm"}, tuned, origin, planner.context, {}, {})
        app = make_app(
            Desk(planner, self.engine, info, deadline),
            Limits(api_key, host, deadline, body_seconds),
        )
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._ready = threading.Event()
        self._server = Server(app, self.engine, self._ready.set)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()
        assert self._ready.wait(30)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = OpenAI(base_url=f"{self.url}/v1", api_key=api_key or "none", max_retries=0)

    def close(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def send(
        self, path: str, body: Any = None, method: str = "POST", **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """A request of any kind; status, body and headers of the reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | headers
        connection.request(method, path, data, sent)
        reply = connection.getresponse()
        content = json.loads(reply.read())
        connection.close()
        return reply.status, content, dict(reply.getheaders())

    def refused(self, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        """The status and the error of a request that must be refused."""
        status, content, _ = self.send(path, body)
        assert status >= 400, content
        assert set(content) == {"error"}
        assert set(content["error"]) == {"message", "type", "param", "code"}
        return status, content["error"]

    def idle(self) -> bool:
        return self.engine.load == (0, 0)


@contextlib.contextmanager
def served(wrapper: LlamaWrapper, **options: Any) -> Iterator[Served]:
    found = Served(wrapper, **options)
    try:
        yield found
    finally:
        found.close()


def wait_until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.01)


def user(text: str) -> Any:
    """The messages of a chat with one turn."""
    return [{"role": "user", "content": text}]
