"""The files of a figure: a PNG, vector formats where they are asked for, and its numbers.

Which ones is set once, by the script, around everything that it draws: no matplotlib here.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from utils.files.durable import write_bytes

PNG = "png"
FORMATS = (PNG, "pdf", "svg")
# What matplotlib would write into a file that differs from run to run, by format.
UNDATED: dict[str, Any] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}
_formats: ContextVar[tuple[str, ...]] = ContextVar("formats", default=(PNG,))


def add_format_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=[PNG],
        metavar="FORMAT",
        help="png, pdf, svg: vector formats to be written beside each PNG (default: png alone)",
    )


@contextlib.contextmanager
def written_as(formats: Sequence[str]) -> Iterator[None]:
    """Figures that are saved in this block have files of these formats, a PNG in any case."""
    token = _formats.set((PNG, *(f for f in FORMATS if f in formats and f != PNG)))
    try:
        yield
    finally:
        _formats.reset(token)


def pictures(path: Path) -> list[Path]:
    """The files of the figure whose PNG is ``path``, that first."""
    return [path.with_suffix(f".{name}") for name in _formats.get()]


def write_numbers(picture: Path, txt: bytes, tex: bytes | None = None) -> list[Path]:
    """Put the numbers of a figure beside it.

    Args:
        picture: its PNG, which is there already if it has one.
        txt: all its numbers, tab-separated.
        tex: the table of it that a paper would have.

    Returns:
        All files of the figure.
    """
    texts = {".txt": txt} | ({} if tex is None else {".tex": tex})
    for suffix, data in texts.items():
        write_bytes(picture.with_suffix(suffix), data)
    return [*pictures(picture), *map(picture.with_suffix, texts)]
