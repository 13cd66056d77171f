"""Answers of the judge on disk, each in a file named by the hash of all it depends on.

The cache is the journal of a judge run: an answer is written, whole or not at all, before it is
counted, so that a run that was killed pays for nothing twice. Nothing here depends on the time
or on the order of the answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files.artifacts import fingerprint
from utils.files.contents import read_json
from utils.files.durable import write_bytes
from utils.files.json_files import json_bytes
from utils.files.locks import lock
from utils.judging.dialect import Dialect
from utils.judging.reply.verdict import Reading, read_reply
from utils.judging.settings import Judge

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


@dataclass(frozen=True)
class Answer:
    """What has come of one call so far.

    Attributes:
        replies: in their order; the last one counts.
        cut: whether the last reply ended at the longest length allowed.
        asked: in what the way of asking differed from the judge's settings.
        turned_down: why the judge will never answer; ``None`` if it has, or may.
    """

    replies: tuple[str, ...] = ()
    cut: bool = False
    asked: Mapping[str, Any] = field(default_factory=dict)
    turned_down: str | None = None

    @property
    def reading(self) -> Reading:
        """What the last reply says."""
        return read_reply(self.replies[-1], cut=self.cut) if self.replies else Reading(None)

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to be asked: a number has come, or the tries are used up."""
        used_up = self.turned_down is not None or len(self.replies) >= ASKED_AT_MOST
        return used_up or self.reading.number is not None

    def content(self) -> dict[str, Any]:
        """As it is written; what is as usual is left out."""
        # A server may cut a reply inside a character; half of one cannot be written.
        replies = [reply.encode("utf-8", "replace").decode() for reply in self.replies]
        content: dict[str, Any] = {"replies": replies}
        content |= {"cut": True} if self.cut else {}
        content |= {"asked": dict(self.asked)} if self.asked else {}
        return content | ({"turned_down": self.turned_down} if self.turned_down else {})


def _read_answer(content: Any, key: str) -> Answer | None:
    """The reverse of :meth:`Answer.content`; ``None`` if it was not written for this call."""
    if not isinstance(content, dict) or not isinstance(content.get("call"), dict):
        return None
    replies, turned_down = content.get("replies"), content.get("turned_down")
    asked, cut = content.get("asked", {}), content.get("cut", False)
    whole = (
        isinstance(replies, list)
        and (0 < len(replies) <= ASKED_AT_MOST or (not replies and turned_down is not None))
        and all(isinstance(reply, str) for reply in replies)
        and (turned_down is None or isinstance(turned_down, str))
        and isinstance(asked, dict)
        and isinstance(cut, bool)
        and fingerprint(content["call"]) == key
    )
    return Answer(tuple(replies or ()), cut, asked, turned_down) if whole else None


class AnswerCache:
    """The folder of answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def answer(self, key: str) -> Answer:
        """What has come so far.

        Raises:
            UserError: the file is not one that :meth:`write` wrote for this call.
        """
        path = self.path(key)
        if not path.exists():
            return Answer()
        answer = _read_answer(read_json(path), key)
        if answer is None:
            raise UserError(f"{path} is damaged; delete it to have its question asked again")
        return answer

    def write(self, call: Call, key: str, answer: Answer) -> None:
        """Keep what has come of one call; it is on disk when this returns."""
        write_bytes(self.path(key), json_bytes({"call": call.material} | answer.content()))

    def read_dialect(self, judge: Judge) -> tuple[Dialect, bool]:
        """How this judge is asked as far as earlier runs found out, and whether that is settled.

        Raises:
            UserError: the file is not one that :meth:`write_dialect` wrote.
        """
        plain, path = Dialect(judge.max_tokens), self._dialect_path(judge)
        if not path.exists():
            return plain, False
        content = read_json(path)
        whole = isinstance(content, dict) and isinstance(content.get("settled"), bool)
        found = Dialect.of(plain, content.get("asked")) if whole else None
        if found is None:
            raise UserError(f"{path} is damaged; delete it to have it found out again")
        return found, content["settled"]

    def write_dialect(self, judge: Judge, dialect: Dialect, *, settled: bool) -> None:
        """Keep how this judge is asked, so that a run that goes on asks in the same way."""
        asked = dialect.changes(Dialect(judge.max_tokens))
        write_bytes(self._dialect_path(judge), json_bytes({"asked": asked, "settled": settled}))

    def _dialect_path(self, judge: Judge) -> Path:
        return self.folder / f"{fingerprint(judge.inputs())[:16]}.judge.json"

    @contextlib.contextmanager
    def locked(self, behavior: str) -> Iterator[None]:
        """Keep a second process from asking the same questions at the same time.

        Raises:
            UserError: another process is at work on this behaviour.
        """
        with lock(self.folder / f"{behavior}.lock", f"judging {behavior}"):
            yield
