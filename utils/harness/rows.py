"""At which position each row of a batch is steered first, found again by the row's tokens.

The harness hands a model batches in an order of its own, without the requests that they are of.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

PAD = 0
"""What the harness fills short rows up with, on the right, when it scores continuations."""


@dataclass
class Round:
    """Requests that can be scored together: rows of the same tokens are steered alike.

    Attributes:
        members: indices of the requests.
        firsts: :func:`key_of` a row -> its first steered position.
    """

    members: list[int] = field(default_factory=list)
    firsts: dict[bytes, int] = field(default_factory=dict)


def input_of(context: Sequence[int], continuation: Sequence[int], longest: int) -> list[int]:
    """The row that the harness runs for a request: without the last token, cut from the left."""
    return [*context, *continuation][-(longest + 1) : -1]


def key_of(row: Sequence[int]) -> bytes:
    """What a row is found again by, however much padding has been put behind it.

    A row that itself ends in the padding token has the key of one without: :func:`rounds` keeps
    the two apart where it matters.
    """
    end = len(row)
    while end and row[end - 1] == PAD:
        end -= 1
    return blake2b(array("q", row[:end]).tobytes(), digest_size=16).digest()


def rounds(rows: Sequence[tuple[bytes, int]]) -> list[Round]:
    """Part requests so that in each part a key has one first position; nearly always one part.

    Two requests may split the same tokens at different places ("a b" + "c d", "a b c" + "d"). The
    harness would run one row for both, but they are steered from different tokens on.

    Args:
        rows: of each request the key of its row and its first steered position.
    """
    found: list[Round] = []
    for index, (key, first) in enumerate(rows):
        fitting = (r for r in found if r.firsts.get(key, first) == first)
        part = next(fitting, None)
        if part is None:
            part = Round()
            found.append(part)
        part.members.append(index)
        part.firsts[key] = first
    return found


def firsts_of(batch: Sequence[Sequence[int]], firsts: Mapping[bytes, int]) -> list[int]:
    """The first steered position of every row of a right-padded batch."""
    return [firsts[key_of(row)] for row in batch]
