"""How the name of a figure says which part of what there is it shows.

A figure of some layers, strengths or behaviours must not replace the one of all; where the part is
the whole, the name says nothing. Names need no quoting in a shell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

LONGEST = 60
_HASH = 8


def part(**shown: str) -> str:
    """The end of a figure's name, ``_layers=0-31_behaviors=sycophancy``; shortened beyond 60.

    Args:
        shown: what is shown of each kind, as text; an empty one is left out.
    """
    text = "".join(f"_{kind}={some}" for kind, some in shown.items() if some)
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    head = text[: LONGEST - _HASH - 1]
    # cut between two members, never inside a number
    last = max(head.rfind(","), head.rfind("_"), head.find("=") + 1)
    return f"{head[:last].rstrip(',=')}-{digest}"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in short: ``0-4,7,9-12``; ascending, each once."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
