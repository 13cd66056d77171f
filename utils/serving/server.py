"""Running the application on a socket, from the line that says where it is to Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from utils.serving.app import Limits

MOST_CONNECTIONS = 512
_PATIENCE = 1
_KEEP_ALIVE = 5


class Server(uvicorn.Server):
    """uvicorn's server, which says when it takes connections.

    Args:
        app: what it serves.
        announce: is called then.
    """

    def __init__(self, app: FastAPI, announce: Callable[[], None] = lambda: None) -> None:
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
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


def run_server(app: FastAPI, place: socket.socket, model: str, limits: Limits) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    host, port = place.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    lines = announcement(f"http://{shown}:{port}", model, with_key=limits.api_key is not None)
    with contextlib.suppress(KeyboardInterrupt):
        Server(app, lambda: print(lines, flush=True)).run([place])
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
