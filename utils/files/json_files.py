"""JSON, read and written: whatever is wrong with a text is one error, never a traceback."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from utils.errors import UserError

# What json raises at a text that it cannot read: no JSON, no UTF-8 or a number of 5 000 digits
# (ValueError), or brackets within brackets within brackets.
NOT_JSON = (ValueError, RecursionError)

_DEEPEST = 100


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def check_writable(fields: Mapping[str, Any], where: str) -> None:
    """Check that what was read can be written again, which python's reader does not promise.

    Args:
        fields: values by their names.
        where: file and item, for the message.

    Raises:
        UserError: NaN, an infinite number, half a character, or deep nesting in a field.
    """
    for name, value in fields.items():
        problem = _fault(name) or _fault(value)
        if problem:
            raise UserError(f"{where}: {ascii(name)[1:-1]} {problem}")


def _fault(value: Any) -> str | None:
    try:
        # most values are texts and numbers, and there are many of them
        if isinstance(value, str):
            value.encode()
        elif not isinstance(value, float) or not math.isfinite(value):
            json_bytes(value)
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    except ValueError:
        return "holds NaN or an infinite number, which JSON does not have"
    except RecursionError:
        return "is nested too deeply"
    # what can be written here may be too deep where the stack is higher
    return "is nested too deeply" if _depth(value) > _DEEPEST else None


def _depth(value: Any) -> int:
    """How many lists and objects lie in one another."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, list | dict)]:
        depth += 1
        level = [w for v in level for w in (v.values() if isinstance(v, dict) else v)]
    return depth


def parse_json(data: bytes, where: object) -> Any:
    """The value of a JSON text (UTF-8, with or without a byte order mark).

    Args:
        data: the text.
        where: what the message begins with, usually its path.

    Raises:
        UserError: not JSON, with the place of the fault.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{where} is not JSON: {error.msg} at {place}") from error
    except RecursionError as error:
        raise UserError(f"{where} cannot be read as JSON: it is nested too deeply") from error
    except ValueError as error:
        reason = "a number in it has too many digits"
        raise UserError(f"{where} cannot be read as JSON: {reason}") from error
