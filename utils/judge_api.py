"""One question to a judge behind an OpenAI-compatible server, asked until it is answered.

The client's own retries are off: here the waiting honours Retry-After, can be interrupted, and
tells three things apart. Trouble that passes (429, 5xx, time-outs, dropped connections, a body
that is not JSON) is tried again; what no call can overcome (key, permission, model, credit)
stops the run at once; anything else fails this one item.
"""

import asyncio
import math
import os
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.judge_settings import TEMPERATURE, Judge

if TYPE_CHECKING:
    import openai

LONGEST_BACKOFF = 60.0
# A server that asks for a longer pause (a daily quota) is not waited for.
LONGEST_RETRY_AFTER = 600.0
# A judge that does not answer is given up after this many failed items in a row, or as many as
# are asked at once: a thousand items would each wait for minutes.
GIVE_UP_AFTER = 10
_RETRIED = (408, 409, 425, 429)
_HOPELESS_CODES = (
    "model_not_found",
    "insufficient_quota",
    "unsupported_parameter",
    "unsupported_value",
)
_KEY_LIKE = re.compile(r"\bsk-[\w*-]{4,}")
_LONGEST_MESSAGE = 300


class CallFailed(Exception):
    """This item has no answer; the others may have theirs."""


class _Passing(Exception):
    """Trouble that may pass; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class JudgeClient:
    """Asks a judge.

    Attributes:
        stopping: set it to let calls on their way come in and to begin nothing new.
    """

    def __init__(self, judge: Judge) -> None:
        from openai import AsyncOpenAI

        self.judge = judge
        self.stopping = asyncio.Event()
        self._backoff = _backoff_seconds()
        self._failed_in_a_row = 0
        self._client = AsyncOpenAI(
            api_key=judge.key or "no-key-needed",
            base_url=judge.base_url,
            max_retries=0,
            timeout=judge.timeout,
        )

    async def __aenter__(self) -> "JudgeClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, messages: list[dict[str, str]]) -> str:
        """The judge's reply, without the key should it hold it.

        Raises:
            CallFailed: no answer after all retries, or this item was turned down.
            UserError: no item can be answered (key, permission, model, credit).
        """
        if self._failed_in_a_row >= max(GIVE_UP_AFTER, self.judge.concurrency):
            raise CallFailed(f"not asked, since {self._failed_in_a_row} items before it failed")
        for attempt in range(self.judge.max_retries + 1):
            try:
                reply = await self._ask_once(messages)
            except _Passing as trouble:
                last = attempt == self.judge.max_retries or self.stopping.is_set()
                if last or (trouble.wait or 0) > LONGEST_RETRY_AFTER:
                    self._failed_in_a_row += 1
                    tries = f"{attempt + 1} {'try' if attempt == 0 else 'tries'}"
                    raise CallFailed(f"{trouble} ({tries})") from None
                await self._pause(attempt, trouble.wait)
            else:
                self._failed_in_a_row = 0
                return self.judge.redact(reply)
        raise AssertionError("unreachable")

    async def _pause(self, attempt: int, asked_for: float | None) -> None:
        """Wait twice as long each time, or as long as the server asked; jitter on top.

        The slot is kept meanwhile, so that a server in trouble is asked less.
        """
        step = min(self._backoff * 2**attempt, LONGEST_BACKOFF)
        if asked_for is None:
            seconds = step * random.uniform(0.5, 1.0)
        else:
            seconds = asked_for + self._backoff * random.uniform(0.0, 1.0)
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
        raise CallFailed("interrupted while waiting to try again")

    async def _ask_once(self, messages: list[dict[str, str]]) -> str:
        import openai

        try:
            # The client's time-out is for each read; a server that drips would never meet it.
            async with asyncio.timeout(self.judge.timeout):
                completion = await self._client.chat.completions.create(
                    model=self.judge.model,
                    messages=messages,  # type: ignore[arg-type]
                    temperature=TEMPERATURE,
                    max_tokens=self.judge.max_tokens,
                )
        except (TimeoutError, openai.APITimeoutError):
            raise _Passing(f"no answer within {self.judge.timeout:g} s") from None
        except openai.APIConnectionError as error:
            reason = self._shown(str(error.__cause__ or error))
            raise _Passing(f"connection to {self.judge.base_url} failed: {reason}") from None
        except openai.APIStatusError as error:
            raise self._sorted_out(error) from None
        except (ValueError, openai.APIError):
            raise _Passing("the server's answer is not JSON") from None
        return _content(completion)

    def _sorted_out(self, error: "openai.APIStatusError") -> Exception:
        """What an HTTP error means for the item and for the run."""
        status = error.status_code
        said = self._shown(f"HTTP {status}: {_message(error)}")
        url, model = self.judge.base_url, self.judge.model
        if status == 401:
            return UserError(f"{url} does not accept the key (OPEN_AI_KEY)\n{said}")
        if status == 403:
            return UserError(f"{url} does not let this key use {model}\n{said}")
        if status == 404 or error.code == "model_not_found":
            return UserError(
                f"{url} has no judge model {model} (--judge_model), or is not the address of an "
                f"OpenAI-compatible server (--base_url, it usually ends in /v1)\n{said}"
            )
        if error.code in _HOPELESS_CODES:
            return UserError(f"{url} turns every call down\n{said}")
        if status in _RETRIED or status >= 500:
            return _Passing(said, retry_after(error.response.headers))
        return CallFailed(said)

    def _shown(self, text: str) -> str:
        """A server's words, fit for one line of a message."""
        text = _KEY_LIKE.sub("[key]", self.judge.redact(" ".join(text.split())))
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + " ..."


def _message(error: "openai.APIStatusError") -> str:
    if isinstance(error.body, dict):
        return str(error.body.get("message") or error.body)
    return str(error.body or "no explanation")


def _content(completion: Any) -> str:
    """The text of a completion; an empty one (a refusal) is a reply without a number."""
    choices = getattr(completion, "choices", None)
    message = (
        getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    )
    content = getattr(message, "content", None)
    if message is None or not (content is None or isinstance(content, str)):
        raise _Passing("the server's answer is not JSON of a chat completion")
    return content or ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: ``Retry-After`` in seconds or as an HTTP date.

    A date is compared with the server's own ``Date``, so that a clock that is wrong here
    does not matter.
    """
    text = (headers.get("retry-after") or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        until = _http_date(text)
        if until is None:
            return None
        now = _http_date(headers.get("date") or "") or datetime.now(UTC)
        seconds = (until - now).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _backoff_seconds() -> float:
    """The first pause; ``CAA_BACKOFF_SECONDS`` shortens it for tests."""
    text = os.environ.get("CAA_BACKOFF_SECONDS", "1")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(f"CAA_BACKOFF_SECONDS must be a number of seconds, not {text!r}")
    return seconds
