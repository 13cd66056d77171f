"""The HTTP client that a judge is asked with: its bodies limited, its redirects not followed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx2  # the openai client's own
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Omit

from utils.errors import UserError
from utils.judging.settings import Judge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# A verdict takes some hundred bytes, what stands around it a few kilobytes. A judge that thinks
# hands over its thinking too: a token is about four bytes, up to six times that as JSON escapes.
MOST_BYTES = 64 << 10
BYTES_A_TOKEN = 24
# Headers that the client takes from its environment, which belong to an account at OpenAI.
_ACCOUNT_HEADERS = ("OpenAI-Organization", "OpenAI-Project")


class UnreadableBody(Exception):
    """A body that is not read on: too long, or compressed."""


def most_bytes(max_tokens: int) -> int:
    """The longest body that is read where a reply may have ``max_tokens``."""
    return MOST_BYTES + BYTES_A_TOKEN * max_tokens


def make_client(judge: Judge, max_tokens: int) -> AsyncOpenAI:
    """A client that tries once, follows no redirect and reads no more than it must.

    Args:
        judge: who is asked; a loopback address is asked without a proxy.
        max_tokens: the longest reply that will be asked for.

    Raises:
        UserError: a proxy of the environment that cannot be used.
    """
    headers: dict[str, Any] = {"Accept-Encoding": "identity"}
    if not judge.is_openai:
        headers |= {name: Omit() for name in _ACCOUNT_HEADERS}
    try:
        http = DefaultAsyncHttpxClient(
            timeout=judge.timeout,
            follow_redirects=False,
            trust_env=not judge.is_local,
            event_hooks={"response": [_limiting(most_bytes(max_tokens))]},
        )
    except (ImportError, RuntimeError, ValueError, httpx2.InvalidURL) as error:
        raise UserError(_proxy_message(error)) from error
    return AsyncOpenAI(
        api_key=judge.key or "no-key-needed",
        base_url=judge.base_url,
        max_retries=0,
        timeout=judge.timeout,
        default_headers=headers,
        http_client=http,
    )


def _proxy_message(error: Exception) -> str:
    # The address of a proxy may hold a password: it is not shown.
    where = "the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names"
    if isinstance(error, ImportError | RuntimeError):
        return (
            f"{where} is a SOCKS proxy, for which the package socksio is missing\n"
            "Install it with: pip install socksio, or unset the variable for this run."
        )
    return f"{where} has no address that can be used; correct or unset the variable"


def _limiting(most: int) -> Callable[[httpx2.Response], Awaitable[None]]:
    async def limit(response: httpx2.Response) -> None:
        """Have the body counted while it arrives, before anything keeps it."""
        # A small compressed body may be a large one.
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise UnreadableBody("the server's answer is compressed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Limited(response.stream, most)

    return limit


class _Limited(httpx2.AsyncByteStream):
    """A stream that ends with an error beyond a number of bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > self._most:
                raise UnreadableBody(f"the server's answer is longer than {self._most} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
