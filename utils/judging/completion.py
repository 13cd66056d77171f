"""What a judge's server sent as its reply: the body of a chat completion, read with suspicion."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from utils.judging.errors import ErrorBody, Passing, Rejected, shown, sorted_out
from utils.judging.settings import Judge

_CUT = ("length", "max_tokens", "max_output_tokens")
_FILTERED = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation")


@dataclass(frozen=True)
class Completion:
    """One reply.

    Attributes:
        text: what the judge said; empty if nothing, or if it only thought.
        cut: it ended because it reached the longest length allowed.
    """

    text: str
    cut: bool = False


def read_completion(judge: Judge, body: bytes) -> Completion:
    """The reply in the body of an answer with HTTP status 200.

    A server's thinking in a field of its own is never read: it is not the verdict.

    Raises:
        Passing: no chat completion, or an error that may pass.
        Rejected: the reply was kept back by a filter.
        UserError: an error that holds for every call.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise Passing("the server's answer is not JSON") from None
    choices = content.get("choices") if isinstance(content, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    failed = next((part for part in (content, choice) if _has_error(part)), None)
    if failed is not None:
        raise _error(judge, failed)
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Passing("the server's answer is not JSON of a chat completion")
    text = _text(message.get("content"))
    if text is None:
        raise Passing("the server's answer is not JSON of a chat completion")
    reason = choice.get("finish_reason")
    reason = reason.lower() if isinstance(reason, str) else ""
    if reason in _FILTERED:
        raise Rejected(f"the server kept the reply back ({reason})", reason)
    refusal = message.get("refusal")
    if not text and isinstance(refusal, str):
        text = refusal
    return Completion(text, reason in _CUT)


def _has_error(part: Any) -> bool:
    return isinstance(part, dict) and bool(part.get("error"))


def _error(judge: Judge, part: dict[str, Any]) -> Exception:
    """What an error means that came with HTTP status 200, as some routers send it."""
    code = part["error"].get("code") if isinstance(part["error"], dict) else None
    said = ErrorBody.of(part)
    if isinstance(code, int) and 400 <= code < 600:
        return sorted_out(judge, code, said, {})
    return Passing(shown(judge, f"an error instead of a reply: {said.message}"))


def _text(content: Any) -> str | None:
    """The text of a message's content: a string, nothing, or parts; ``None`` for anything else."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, dict):
            return None
        elif str(part.get("type", "text")) in ("text", "output_text"):
            text = part.get("text")
            # some wrap the text once more
            text = text.get("value") if isinstance(text, dict) else text
            texts.append(text if isinstance(text, str) else "")
    return "".join(texts)
