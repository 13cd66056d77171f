"""Lists in messages, however long they are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 300


def shortened(parts: Iterable[object], separator: str = ", ") -> str:
    """The first of some things, as many as a message has room for, and how many more there are."""
    texts = [str(part) for part in parts]
    if not texts:
        return "none"
    count, length = 0, 0
    while count < len(texts) and (not count or length + len(texts[count]) <= _LONGEST):
        length += len(texts[count]) + len(separator)
        count += 1
    shown = separator.join(texts[:count])
    return shown if count == len(texts) else f"{shown} and {len(texts) - count} more"


def did_you_mean(unknown: Iterable[str], known: Iterable[str]) -> str:
    """The known names that were probably meant, as the end of a clause; empty if none is near."""
    names = {name.lower(): name for name in known}
    near = [difflib.get_close_matches(u.lower(), names, n=1, cutoff=0.7) for u in unknown]
    meant = dict.fromkeys(names[match] for found in near for match in found)
    return f" (did you mean {shortened(meant)}?)" if meant else ""


def numbered(numbers: Iterable[int]) -> str:
    """Whole numbers as a shell takes them behind a flag; a long row of them as ``$(seq 3 900)``."""
    found = list(numbers)
    long = len(" ".join(map(str, found))) > _LONGEST
    if long and found == list(range(found[0], found[-1] + 1)):
        return f"$(seq {found[0]} {found[-1]})"
    return shortened(found, " ")


def cut(text: str, most: int = 3000) -> str:
    """A text without the middle of its lines that are longer than any message."""
    lines = [
        line
        if len(line) <= most
        else f"{line[: most // 2]} [... {len(line) - most} characters ...] {line[-most // 2 :]}"
        for line in text.split("\n")
    ]
    return "\n".join(lines)
