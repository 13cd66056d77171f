"""What stands before every route: who may ask, from where, and how much they may send."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from utils.serving.refusals import Refusal

MOST_BYTES = 4 * 2**20
# A body that is too large is read away, up to here, so that its sender hears the answer.
_MOST_DRAINED = 64 * 2**20
BODY_SECONDS = 30.0
# The page holds no secret; what it asks for needs the key.
_OPEN = ("/", "/page/")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[Refusal, Scope, Receive, Send], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Whether an address, or the name of one, is this machine's own and nobody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """An ASGI middleware that refuses before anything of a request is used.

    A page of another site cannot ask through a visitor's browser: a name that it has made point
    here is not among the names of this host, and JSON it may not send without a permission that
    nothing here gives.

    Args:
        app: what stands behind.
        api_key: which every request must bring; ``None`` for none.
        only_local: take requests to names of this machine only.
        refuse: sends a refusal.
        most_bytes: of a body.
        seconds: within which a body must have come.
    """

    def __init__(
        self,
        app: App,
        *,
        api_key: str | None,
        only_local: bool,
        refuse: Refuse,
        most_bytes: int = MOST_BYTES,
        seconds: float = BODY_SECONDS,
    ) -> None:
        self.app, self.refuse = app, refuse
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self._only_local = only_local
        self._most_bytes, self._seconds = most_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            self._check_host(headers)
            if scope["path"] != _OPEN[0] and not scope["path"].startswith(_OPEN[1]):
                self._check_key(headers)
            body = b""
            if scope["method"] in ("POST", "PUT", "PATCH"):
                kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
                if kind != b"application/json":
                    raise Refusal(415, "send JSON, with the header Content-Type: application/json")
                body = await self._body(headers, receive)
        except Refusal as refusal:
            await self.refuse(refusal, scope, receive, send)
            return
        except _GoneError:
            return
        await self.app(scope, _replayed(body, receive), send)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        if self._only_local:
            name = headers.get(b"host", b"").decode("latin-1")
            name = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
            if not is_loopback(name.strip("[]")):
                raise Refusal(
                    421, "this server answers to localhost and 127.0.0.1 only, not to that Host"
                )

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if self._key is not None and not hmac.compare_digest(
            headers.get(b"authorization", b""), self._key
        ):
            raise Refusal(
                401,
                "this server wants its key: Authorization: Bearer <what --api_key_file holds>",
                code="invalid_api_key",
            )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        said = headers.get(b"content-length", b"")
        declared = int(said) if said.isdigit() else 0
        try:
            async with asyncio.timeout(self._seconds):
                return await self._read(declared, receive)
        except TimeoutError as error:
            raise Refusal(408, f"the body has not come within {self._seconds:g} s") from error

    async def _read(self, declared: int, receive: Receive) -> bytes:
        too_large = Refusal(413, f"the body is larger than {self._most_bytes} bytes")
        if declared > _MOST_DRAINED:
            raise too_large
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > _MOST_DRAINED:
                raise too_large
            if max(size, declared) > self._most_bytes:
                parts.clear()
            else:
                parts.append(part)
        if size > self._most_bytes:
            raise too_large
        return b"".join(parts)


class _GoneError(Exception):
    """The client has left before its body was whole; never leaves this module."""


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` that gives a body which has been read already, and then what else comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
