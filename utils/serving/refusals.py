"""What a client is told when it does not get what it asked for, in the shape that OpenAI has."""

from __future__ import annotations

from typing import TypedDict

from utils.batching.rows import BROKEN, FULL, LATE, OVERFLOW, STOPPING, TOO_MANY, Unanswered

_STATUS = {FULL: 429, TOO_MANY: 400, LATE: 504, BROKEN: 500, STOPPING: 503, OVERFLOW: 400}
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ErrorText(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    error: ErrorText


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: what was found, what was expected.
        param: the field of the body that is meant.
        code: a word for programs.
        retry_after: seconds after which it may be tried again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    def body(self) -> ErrorBody:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _TYPES.get(self.status, kind)
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        found |= {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        # the rest of a body that was not read is no next request
        return found | ({"Connection": "close"} if self.status in (408, 413) else {})


def unknown_model(message: str, param: str = "model") -> Refusal:
    """What is asked for by a name that nothing here has."""
    return Refusal(404, message, param=param, code="model_not_found")


def unanswered(error: Unanswered) -> Refusal:
    """What a client is told where the engine gives no answer."""
    code = {FULL: "queue_full"}.get(error.why)
    status = _STATUS[error.why]
    return Refusal(
        status, error.message, code=code, retry_after=1 if status in (429, 503) else None
    )
