"""Which judge is asked, and with which key. The key is never shown and never written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from utils.errors import UserError
from utils.paths import REPOSITORY

OPENAI_URL = "https://api.openai.com/v1"
KEY_NAMES = ("OPEN_AI_KEY", "OPENAI_API_KEY")
TEMPERATURE = 0


@dataclass(frozen=True)
class Judge:
    """Which judge, and how it is asked.

    Attributes:
        model: its name at the server.
        base_url: the server.
        key: the API key, ``None`` for a server that wants none; never shown or written.
        max_tokens: length of a reply.
        concurrency: calls at once.
        max_retries: tries after the first.
        timeout: seconds for one try.
    """

    model: str
    base_url: str
    key: str | None
    max_tokens: int = 10
    concurrency: int = 16
    max_retries: int = 8
    timeout: float = 60.0

    def inputs(self) -> dict[str, Any]:
        """What of all this an answer depends on."""
        return {
            "judge_model": self.model,
            "base_url": self.base_url,
            "temperature": TEMPERATURE,
            "max_tokens": self.max_tokens,
        }

    def redact(self, text: str) -> str:
        """``text`` without the key, should a server have echoed it."""
        return text.replace(self.key, "[key]") if self.key and len(self.key) >= 8 else text

    def __repr__(self) -> str:
        return f"Judge({self.model!r}, {self.base_url!r})"


def find_key() -> str | None:
    """The key: of the environment, else of ``.env`` here or in the repository.

    Raises:
        UserError: it holds a character that no key has.
    """
    from dotenv import dotenv_values

    folders = (Path.cwd(), REPOSITORY)
    sources: list[Mapping[str, str | None]] = [os.environ]
    sources += [dotenv_values(folder / ".env") for folder in folders]
    for name in KEY_NAMES:
        for source in sources:
            key = (source.get(name) or "").strip()
            if key and not (key.isascii() and key.isprintable() and " " not in key):
                raise UserError(f"{name} holds a blank or a character that no key has")
            if key:
                return key
    return None


def find_server(base_url: str | None, *, needs_key: bool) -> tuple[str, str | None]:
    """The server and the key for it.

    Args:
        base_url: ``--base_url``; if ``None``, ``OPENAI_BASE_URL`` of the environment.
        needs_key: whether anything will be asked, so that OpenAI's own server wants a key.

    Raises:
        UserError: neither a key nor a server, or no plain URL.
    """
    key = find_key()
    named = (base_url or os.environ.get("OPENAI_BASE_URL") or "").strip().rstrip("/")
    if not named and key is None and needs_key:
        raise UserError(
            "no key for the judge\nPut OPEN_AI_KEY=... into .env (in this folder or in the "
            "repository; .env.example shows it) or into the environment, or name an "
            "OpenAI-compatible server of your own with --base_url http://host:port/v1 "
            "(or OPENAI_BASE_URL)"
        )
    return (_checked_url(named) if named else OPENAI_URL), key


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        plain = False
    # The URL goes into records and messages, so it must not carry a secret.
    if not plain or "@" in url or "?" in url or "#" in url:
        raise UserError(
            "--base_url (or OPENAI_BASE_URL) must look like http://host:port/v1, without a user, "
            "a password or a query; a key belongs in OPEN_AI_KEY"
        )
    return url
