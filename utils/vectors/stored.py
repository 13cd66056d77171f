"""A vector by its file: width and length without torch, once torch has found them sound.

Which results are finished depends on the hashes of their vectors, and under ``--doses`` on their
lengths; the numbers themselves are wanted by runs that have something to do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.files import remembered
from utils.files.contents import check_width, parse_vector, read_verified

if TYPE_CHECKING:
    from torch import Tensor

_KIND = "vectors"


@dataclass(frozen=True)
class StoredVector:
    """A sound vector.

    Attributes:
        sha256: hash of its file.
        width: how many numbers it has.
        norm: its length.
        parse: reads the numbers.
    """

    sha256: str
    width: int
    norm: float
    parse: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor, sha256: str = "") -> StoredVector:
        return cls(sha256, len(tensor), float(tensor.double().norm()), lambda: tensor)

    @functools.cached_property
    def tensor(self) -> Tensor:
        """Shape (width,), float32."""
        return self.parse()


def read_vector(path: Path, *, made_by: str, width: int | None = None) -> StoredVector:
    """The vector of a file, checked.

    Args:
        path: a file that holds one plain tensor.
        made_by: the command that makes it, for the message if it is missing.
        width: the expected length, if known.

    Raises:
        UserError: missing, truncated, a pickled object, not 1-D, not finite, or of another width.
    """
    if not path.exists():
        raise UserError(f"missing vector {path}\nMake it with: {made_by}")
    contents = read_verified(path)
    key = {"sha256": contents.sha256}
    known = remembered.recall(_KIND, key)
    if known is not None:
        check_width(path, known["width"], width)
        return StoredVector(contents.sha256, **known, parse=lambda: parse_vector(contents))
    found = StoredVector.of(parse_vector(contents, width=width), contents.sha256)
    remembered.keep(_KIND, key, {"width": found.width, "norm": found.norm})
    return found
