"""The fields of a JSON body, each checked; a field that nothing here reads is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import NoReturn

from utils.serving.refusals import Refusal
from utils.text.listing import did_you_mean

_SHOWN = 60
_MOST_SEED = 2**63


def read_json_body(body: bytes) -> Mapping[str, object]:
    """The object that a request's body holds.

    Raises:
        Refusal: 400, not one, or numbers or texts in it that are none.
    """
    try:
        found = json.loads(body, parse_constant=_no_number)
        # half of a pair of code units is no text
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refusal(400, "the body holds half of a surrogate pair, which is no text") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {_brief(error)}") from error
    if not isinstance(found, dict):
        raise Refusal(400, f"the body must be a JSON object, not {_shown(found)}")
    return found


class Fields:
    """The fields of one object; what is ``null`` counts as not given.

    Args:
        given: the object.
        known: fields that are read.
        neutral: fields that are accepted as long as they ask for nothing, and what that is.
        where: the field that holds the object, for messages.

    Raises:
        Refusal: 400, naming a field that is not known and those that are.
    """

    def __init__(
        self,
        given: Mapping[str, object],
        known: Collection[str],
        neutral: Mapping[str, tuple[object, ...]] | None = None,
        where: str = "",
    ) -> None:
        self.where = where
        neutral = neutral or {}
        self._given = {name: value for name, value in given.items() if value is not None}
        for name, value in self._given.items():
            if name in known:
                continue
            if name not in neutral:
                near = did_you_mean([name], known)
                place = f" in {where}" if where else ""
                allowed = ", ".join(sorted(known))
                raise self.refusal(
                    name, f"unknown field {name!r}{place}{near}; known are: {allowed}"
                )
            if not any(_same(value, nothing) for nothing in neutral[name]):
                raise self.refusal(name, f"{name} is not served here: leave it out")

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def get(self, name: str) -> object:
        return self._given.get(name)

    def refusal(self, name: str, message: str) -> Refusal:
        """What to raise because of one of the fields."""
        return Refusal(400, message, param=f"{self.where}.{name}" if self.where else name)

    def text(self, name: str, default: str | None = None) -> str | None:
        value = self._given.get(name, default)
        if value is None or isinstance(value, str):
            return value
        raise self.refusal(name, f"{name} must be a text, not {_shown(value)}")

    def flag(self, name: str) -> bool:
        value = self._given.get(name, False)
        if isinstance(value, bool):
            return value
        raise self.refusal(name, f"{name} must be true or false, not {_shown(value)}")

    def whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number within bounds, ``None`` if not given."""
        value = self._given.get(name)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        bounds = f"a whole number from {least} to {most}"
        raise self.refusal(name, f"{name} must be {bounds}, not {_shown(value)}")

    def seed(self) -> int | None:
        return self.whole("seed", -_MOST_SEED, _MOST_SEED - 1)

    def number(self, name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
        """A finite number within bounds, ``None`` if not given."""
        value = self._given.get(name)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = _as_float(value)
            if math.isfinite(number) and least <= number <= most:
                return number + 0.0
        bounds = "a finite number"
        if math.isfinite(least) and math.isfinite(most):
            bounds = f"a number from {least:g} to {most:g}"
        raise self.refusal(name, f"{name} must be {bounds}, not {_shown(value)}")

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self._given.get(name)
        if value is None or (isinstance(value, str) and value in allowed):
            return value
        raise self.refusal(name, f"{name} must be one of {', '.join(allowed)}, not {_shown(value)}")

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A text or a list of texts, none of them empty."""
        value = self._given.get(name, [])
        found = [value] if isinstance(value, str) else value
        if isinstance(found, list) and len(found) <= most:
            texts = tuple(text for text in found if isinstance(text, str) and text)
            if len(texts) == len(found):
                return texts
        raise self.refusal(name, f"{name} must be a text or up to {most} texts, none of them empty")


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _same(value: object, nothing: object) -> bool:
    """Equality that does not take ``True`` for 1."""
    return value == nothing and isinstance(value, bool) == isinstance(nothing, bool)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _brief(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
