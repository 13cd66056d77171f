"""How a judge's server wants to be asked, found out once and kept for the run.

The plain way is that of GPT-4 in 2023: ``max_tokens``, temperature 0, the rubric in a system turn.
Later models turn one or the other down, and those that think need room for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from utils.judging.settings import TEMPERATURE

# A reply that was cut is asked for again with so many times the tokens, and this many at most:
# what a judge needs that thinks about one answer.
GROWTH = 16
MOST_TOKENS = 4096
# Words by which servers say that it is the parameter that they mind.
_MINDED = (
    "unsupported", "not support", "unrecognized", "unknown", "unexpected", "extra", "not permitted",
    "not allowed", "deprecated", "only the default", "invalid", "must be", "does not accept",
    "cannot be", "instead",
)  # fmt: skip
_SYSTEM = ("system role", "'system'", '"system"', "role: system", "system message", "alternate")


@dataclass(frozen=True)
class Dialect:
    """One way to ask.

    Attributes:
        max_tokens: length of a reply.
        length_name: the parameter that says so.
        temperature: whether it is sent.
        system_turn: whether the rubric has a turn of its own; else it opens the user's.
        room_helps: whether a reply that was cut is asked for again with more room; not where the
            judge goes on without a verdict however much it has.
    """

    max_tokens: int
    length_name: str = "max_tokens"
    temperature: bool = True
    system_turn: bool = True
    room_helps: bool = True

    def parameters(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        """The arguments of a call."""
        if not self.system_turn:
            text = "\n\n".join(message["content"] for message in messages)
            messages = [{"role": "user", "content": text}]
        length = {self.length_name: self.max_tokens}
        temperature = {"temperature": TEMPERATURE} if self.temperature else {}
        return {"messages": messages, **length, **temperature}

    def adapted(self, about: str) -> Dialect | None:
        """The way that a server seems to ask for; ``None`` if it does not seem to.

        Args:
            about: what it said when it turned a call down, in lower case. It may quote the call,
                so that a parameter's name alone says nothing.
        """
        if not any(word in about for word in _MINDED):
            return None
        if self.length_name == "max_tokens" and "max_completion_tokens" in about:
            return replace(self, length_name="max_completion_tokens")
        if self.temperature and "temperature" in about:
            return replace(self, temperature=False)
        if self.system_turn and any(word in about for word in _SYSTEM):
            return replace(self, system_turn=False)
        return None

    def longer(self, asked: int, *, thinks: bool) -> Dialect | None:
        """The same with more room for a reply; ``None`` at its end.

        Args:
            asked: the length that was asked for at first.
            thinks: the reply that was cut is all thinking. One in plain words gets more room once:
                for the rest of a sentence, not for an essay that each item would be charged for.
        """
        most = MOST_TOKENS if thinks else asked * GROWTH
        if not self.room_helps or self.max_tokens >= min(most, MOST_TOKENS):
            return None
        return replace(self, max_tokens=min(self.max_tokens * GROWTH, MOST_TOKENS))

    def changes(self, plain: Dialect) -> dict[str, Any]:
        """What of this differs from the way that was asked for; goes into records."""
        return {k: v for k, v in asdict(self).items() if v != getattr(plain, k)}

    @classmethod
    def of(cls, plain: Dialect, changes: Any) -> Dialect | None:
        """The reverse of :meth:`changes`; ``None`` if they are none."""
        kinds = {field.name: type(getattr(plain, field.name)) for field in fields(cls)}
        if not isinstance(changes, dict) or not changes.keys() <= kinds.keys():
            return None
        if not all(type(value) is kinds[name] for name, value in changes.items()):
            return None
        return replace(plain, **changes)
