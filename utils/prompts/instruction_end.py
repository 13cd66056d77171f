"""Where an instruction ends in tokens that came without one, by what a template puts behind it."""

from __future__ import annotations

from collections.abc import Sequence


def end_of_last(marker: Sequence[int], ids: Sequence[int], before: int) -> int | None:
    """Position of the last token of the last occurrence of some tokens in others.

    Args:
        marker: what is looked for, at least one token.
        ids: where.
        before: the occurrence begins before this position.
    """
    size, wanted = len(marker), list(marker)
    for start in range(min(before - 1, len(ids) - size), -1, -1):
        if ids[start] == wanted[0] and list(ids[start : start + size]) == wanted:
            return start + size - 1
    return None
