"""What a judge's failure means: for one try, for one item, or for the whole run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from utils.errors import UserError
from utils.judging.settings import Judge
from utils.text.printable import printable

_RETRIED = (408, 409, 425, 429)
# What no other call will overcome, whatever the HTTP status that it comes with.
_HOPELESS = {
    "model_not_found": "has no such model",
    "insufficient_quota": "has no credit left for this key",
    "billing_hard_limit_reached": "has no credit left for this key",
    "billing_not_active": "has no credit left for this key",
    "account_deactivated": "has closed this key's account",
    "unsupported_country_region_territory": "does not answer calls from here",
}
_KEY_LIKE = re.compile(r"\b(?:sk|gsk|hf|pk|xai)[-_][\w*-]{4,200}")


class CallFailed(Exception):
    """This item has no answer yet; the same command asks for it again."""


class TurnedDown(Exception):
    """This item will never have an answer from this judge; others have theirs."""


class Passing(Exception):
    """Trouble that may pass; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Rejected(Exception):
    """The server will not answer this very call; whether it is the item's fault is open.

    Attributes:
        about: all that was said about it, in lower case.
    """

    def __init__(self, reason: str, about: str = "") -> None:
        super().__init__(reason)
        self.about = about.lower()


@dataclass(frozen=True)
class ErrorBody:
    """What a server said of an error: a message, and codes as far as it gives any."""

    message: str
    codes: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: bytes) -> ErrorBody:
        """The explanation in a body, in any of the forms that servers give it."""
        text = data.decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return cls(text.strip() or "no explanation")
        return cls.of(body)

    @classmethod
    def of(cls, body: Any) -> ErrorBody:
        while isinstance(body, dict) and isinstance(body.get("error"), dict | list | str):
            body = body["error"]
        if isinstance(body, list) and body:
            body = body[0]
        if not isinstance(body, dict):
            return cls(body if isinstance(body, str) and body else "no explanation")
        texts = (body.get(name) for name in ("message", "detail", "title"))
        message = next((text for text in texts if isinstance(text, str) and text), None)
        codes = (body.get(name) for name in ("code", "type", "param"))
        return cls(
            message or " ".join(_strings(body)) or "no explanation",
            tuple(code for code in codes if isinstance(code, str)),
        )


def _strings(value: Any, depth: int = 4) -> Iterator[str]:
    """The texts in a value of an unknown shape, not too deep inside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and depth > 0:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part, depth - 1)


def shown(judge: Judge, text: str) -> str:
    """A server's words, fit for one line of a message, without anything like a key."""
    return printable(_KEY_LIKE.sub("[key]", judge.redact(text)))


def sorted_out(judge: Judge, status: int, body: ErrorBody, headers: Mapping[str, str]) -> Exception:
    """What an HTTP error means."""
    said = shown(judge, f"HTTP {status}: {body.message}")
    url, model = judge.base_url, judge.model
    hopeless = next((_HOPELESS[code] for code in body.codes if code in _HOPELESS), None)
    if status == 404 or "model_not_found" in body.codes:
        return UserError(
            f"{url} has no judge model {model} (--judge_model), or is not the address of an "
            f"OpenAI-compatible server (--base_url, it usually ends in /v1)\n{said}"
        )
    if hopeless is not None:
        return UserError(f"{url} turns every call down: it {hopeless}\n{said}")
    if status == 401:
        if judge.key is None:
            return UserError(f"{url} wants a key (--send_key NAME names its variable)\n{said}")
        return UserError(f"{url} does not accept the key (OPEN_AI_KEY, or --send_key)\n{said}")
    if status == 402:
        return UserError(f"{url} wants to be paid first: no credit is left\n{said}")
    if status == 403:
        return UserError(f"{url} does not let this key use {model}\n{said}")
    if status == 407:
        return UserError(f"the proxy before {url} wants a password\n{said}")
    if 300 <= status < 400:
        target = shown(judge, headers.get("location") or "nowhere")
        return UserError(f"{url} sends its callers on to {target}; name that with --base_url")
    if status in _RETRIED or status >= 500:
        return Passing(said, retry_after(headers))
    return Rejected(said, " ".join((body.message, *body.codes)))


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
