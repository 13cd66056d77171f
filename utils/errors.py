"""The exceptions that scripts show as one message."""

from __future__ import annotations

_LONGEST = 400


class UserError(Exception):
    """Wrong input: shown as one message without a traceback, exit status 2.

    The message says what was found, what was expected and, where there is one,
    the command that makes the missing thing.
    """


class LostRank(Exception):
    """Another process of this launch has died; shown as one message, exit status 1."""


def reason_of(error: BaseException) -> str:
    """What a library's exception says, as one line; its kind where that says nothing alone."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    if not text or isinstance(error, LookupError | AssertionError):
        text = f"{type(error).__name__} {text}".strip()
    return text[:_LONGEST]
