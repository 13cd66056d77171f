"""A local server that speaks the hub's protocol for files, and GitHub's for raw ones.

It can misbehave on request: 404, a body that breaks off, a wrong body, an unreachable port.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Files:
    """What the server has, how it misbehaves, and what it was asked.

    Attributes:
        content: path -> bytes; hub paths as ``datasets/<repo>/<file>``, raw ones as they are.
        break_after: path -> number of bytes after which the connection is dropped, once.
        requests: (method, path, Range header) of every request.
    """

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.break_after: dict[str, int] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.url = ""


def _handler(files: Files) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.lstrip("/").split("?")[0].replace("/resolve/main/", "/")
            path = path.replace(f"/resolve/{COMMIT}/", "/")
            asked = self.headers.get("Range")
            files.requests.append((self.command, path, asked))
            content = files.content.get(path)
            if content is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").rstrip("-").split("-")[0]) if asked else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if asked else 200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if asked:
                end = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", end)
            self.end_headers()
            if not body:
                return
            rest = content[start:]
            if path in files.break_after:
                self.wfile.write(rest[: files.break_after.pop(path)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(rest)

    return Handler


@contextmanager
def serve() -> Iterator[Files]:
    files = Files()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(files))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
