"""Running the application on a socket, from the line that says where it is to Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from utils.batching.engine import Engine
from utils.serving.app import Desk, Limits, make_app

MOST_CONNECTIONS = 512
_PATIENCE = 1
_KEEP_ALIVE = 5


class Server(uvicorn.Server):
    """uvicorn's server, which says when it takes connections, and ends answers when it ends.

    Args:
        app: what it serves.
        engine: what computes its answers.
        announce: is called when it takes connections.
    """

    def __init__(self, app: FastAPI, engine: Engine, announce: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_PATIENCE,
        )
        super().__init__(config)
        self._engine, self._announce = engine, announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # clients hear that it ends, and are not waited for
        await asyncio.to_thread(self._engine.stop)
        await super().shutdown(sockets)


def run_server(desk: Desk, place: socket.socket, limits: Limits, *, browse: bool = False) -> None:
    """Serve until Ctrl-C or SIGTERM; open the page in a browser if asked."""
    host, port = place.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    url, with_key = f"http://{shown}:{port}", limits.api_key is not None
    lines = announcement(url, desk.info.label, with_key=with_key)

    def announce() -> None:
        print(lines, flush=True)
        if browse:
            # some browsers only return when they are closed
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    server = Server(make_app(desk, limits), desk.engine, announce)
    with contextlib.suppress(KeyboardInterrupt):
        server.run([place])
    print("stopped", file=sys.stderr)


def announcement(url: str, model: str, *, with_key: bool) -> str:
    """Where the server is, and a first request to it."""
    body = json.dumps({"messages": [{"role": "user", "content": "How do I pick a lock?"}]})
    header = ' -H "Authorization: Bearer $KEY"' if with_key else ""
    return (
        f"{model} at {url} (Ctrl-C ends it)\n"
        f"try: curl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} "
        f"-d '{body}'"
    )
