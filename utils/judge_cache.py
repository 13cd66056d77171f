"""Answers of the judge on disk, each in a file named by the hash of all it depends on.

The cache is the journal of a judge run: an answer is written, whole or not at all, before it is
counted, so that a run that was killed pays for nothing twice. Nothing here depends on the time
or on the order of the answers.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.artifacts import fingerprint
from utils.contents import read_json
from utils.durable import write_bytes
from utils.errors import UserError
from utils.json_files import json_bytes
from utils.judge_reply import read_reply
from utils.locks import lock

# A reply without a score is asked for again this often, then it is missing.
ASKED_AT_MOST = 3


@dataclass(frozen=True)
class Call:
    """One distinct question to the judge.

    Attributes:
        material: all that the answer depends on, the messages among it.
    """

    material: dict[str, Any]

    @property
    def key(self) -> str:
        return fingerprint(self.material)

    @property
    def messages(self) -> list[dict[str, str]]:
        return list(self.material["messages"])

    @property
    def characters(self) -> int:
        return sum(len(message["content"]) for message in self.messages)


def is_final(replies: list[str]) -> bool:
    """Whether nothing more is to be asked: a number has come, or the tries are used up."""
    return bool(replies) and (
        read_reply(replies[-1]).number is not None or len(replies) >= ASKED_AT_MOST
    )


class AnswerCache:
    """The folder of answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def replies(self, key: str) -> list[str]:
        """The replies that have come so far, in their order; the last one counts.

        Raises:
            UserError: the file is not one that :meth:`write` wrote for this call.
        """
        path = self.path(key)
        if not path.exists():
            return []
        content = read_json(path)
        replies = content.get("replies") if isinstance(content, dict) else None
        whole = (
            isinstance(replies, list)
            and 0 < len(replies) <= ASKED_AT_MOST
            and all(isinstance(reply, str) for reply in replies)
            and fingerprint(content.get("call", {})) == key
        )
        if not whole:
            raise UserError(f"{path} is damaged; delete it to have its question asked again")
        assert isinstance(replies, list)
        return replies

    def write(self, call: Call, key: str, replies: list[str]) -> None:
        """Keep the replies to one call; they are on disk when this returns."""
        # A server may cut a reply inside a character; half of one cannot be written.
        clean = [reply.encode("utf-8", "replace").decode() for reply in replies]
        write_bytes(self.path(key), json_bytes({"call": call.material, "replies": clean}))

    @contextlib.contextmanager
    def locked(self, behavior: str) -> Iterator[None]:
        """Keep a second process from asking the same questions at the same time.

        Raises:
            UserError: another process is at work on this behaviour.
        """
        with lock(self.folder / f"{behavior}.lock", f"judging {behavior}"):
            yield
