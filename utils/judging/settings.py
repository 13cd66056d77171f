"""Which judge is asked, and with which key. The key is never shown and never written.

A key goes to the host that it belongs to, and to no other unless the user says so: a local server
that anybody on the machine may have started, or an address with a typing error, would else be
handed it with the first question.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from utils.errors import UserError
from utils.files.env_file import read_env_files
from utils.files.paths import REPOSITORY

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
# Both are names for a key of OpenAI's.
KEY_NAMES = ("OPEN_AI_KEY", "OPENAI_API_KEY")
# Values of --send_key beside a variable's name: OpenAI's key, and no key.
OWN_KEY, NO_KEY = "", "none"
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

    @property
    def is_local(self) -> bool:
        return _is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def is_openai(self) -> bool:
        return _is_openai(urlsplit(self.base_url).hostname or "")

    def __repr__(self) -> str:
        return f"Judge({self.model!r}, {self.base_url!r})"


def find_key(names: Sequence[str] = KEY_NAMES) -> tuple[str, str] | None:
    """A key and the variable that holds it: of the environment, else of ``.env``.

    Args:
        names: of the variables, the first that is set counts; ``.env`` of the working folder is
            looked into before that of the repository.

    Raises:
        UserError: it holds a character that no key has, or a ``.env`` cannot be read.
    """
    sources: list[Mapping[str, str]] = [os.environ]
    sources += read_env_files((Path.cwd(), REPOSITORY))
    for name in names:
        for source in sources:
            key = source.get(name, "").strip()
            if key and not (key.isascii() and key.isprintable() and " " not in key):
                raise UserError(f"{name} holds a blank or a character that no key has")
            if key:
                return name, key
    return None


def find_server(
    base_url: str | None, *, needs_key: bool, send_key: str | None = None
) -> tuple[str, str | None]:
    """The server and the key for it.

    Args:
        base_url: ``--base_url``; if ``None``, ``OPENAI_BASE_URL`` of the environment.
        needs_key: whether anything will be asked.
        send_key: ``--send_key``: the variable whose key goes to the server, whatever server that
            is; :data:`OWN_KEY` for OpenAI's, :data:`NO_KEY` for none; ``None`` if not given.

    Raises:
        UserError: no key where one is needed, a key that belongs to another host or would go
            over the network in the clear, or no plain URL.
    """
    named = (base_url or os.environ.get("OPENAI_BASE_URL") or "").strip().rstrip("/")
    url = _checked_url(named) if named else OPENAI_URL
    if send_key == NO_KEY:
        return url, None
    if send_key is not None:
        return url, _named_key(send_key, needs_key)
    parts = urlsplit(url)
    found, host = find_key(), parts.hostname or ""
    if _is_openai(host):
        if found is None and needs_key:
            raise UserError(
                "no key for the judge\nPut OPEN_AI_KEY=... into .env (in this folder or in the "
                "repository; .env.example shows it) or into the environment, or name an "
                "OpenAI-compatible server of your own with --base_url http://host:port/v1 "
                "(or OPENAI_BASE_URL)"
            )
        if found is not None and parts.scheme != "https" and needs_key:
            raise UserError(
                f"the key in {found[0]} would go to {url} in the clear\n"
                "Ask over https, or say --send_key to send it all the same."
            )
        return url, None if found is None else found[1]
    if found is not None and needs_key and not _is_loopback(host):
        raise UserError(
            f"the key in {found[0]} belongs to {OPENAI_HOST} and is not sent to {host}\n"
            f"--send_key NAME sends the key in the variable NAME (of the environment or .env), "
            f"--send_key alone that in {found[0]}, --send_key {NO_KEY} none."
        )
    return url, None


def _named_key(name: str, needs_key: bool) -> str | None:
    """The key that ``--send_key`` names."""
    # What is no name may be the key itself, which must not be shown.
    if name != OWN_KEY and not re.fullmatch(r"[A-Za-z_]\w{0,60}", name, re.ASCII):
        raise UserError("--send_key takes the name of a variable that holds the key, not the key")
    found = find_key(KEY_NAMES if name == OWN_KEY else (name,))
    if found is None and needs_key:
        which = " or ".join(KEY_NAMES) if name == OWN_KEY else "the variable that it names"
        raise UserError(
            f"--send_key: {which} is not set in the environment, nor in .env here or in the "
            "repository"
        )
    return None if found is None else found[1]


def _is_openai(host: str) -> bool:
    return host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        plain = False
    # The URL goes into records and messages, so it must not carry a secret.
    if not plain or not url.isprintable() or any(mark in url for mark in "@?# \\"):
        raise UserError(
            "--base_url (or OPENAI_BASE_URL) must look like http://host:port/v1, without a user, "
            "a password or a query; a key belongs in a variable (--send_key)"
        )
    return url
