"""Numbers on the command line: their checks, and how strongly to steer."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import Any

from utils.errors import UserError
from utils.files.names import DOSE, MULTIPLIER

ALL_LAYERS = "all"
TUNED = "tuned"
# A range up to here is a list of layers; beyond it is a slip, and no model's.
_MOST_LAYERS = 100_000
_LAYER, _RANGE = re.compile(r"-?\d+"), re.compile(r"(\d+)-(\d+)")

# An argument that begins so is a value, right or wrong, and never a flag.
NEGATIVE_NUMBER = re.compile(r"-(?:\.?\d|inf\b|infinity\b|nan\b)", re.IGNORECASE)


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text}")
    return value + 0.0


def layer_range(text: str) -> range | None:
    """``13``, ``0-29``, or ``None`` for ``all``.

    Raises:
        argparse.ArgumentTypeError: anything else, or a range whose end comes first.
    """
    if text == ALL_LAYERS:
        return None
    if _LAYER.fullmatch(text) and len(text) < 20:
        return range(int(text), int(text) + 1)
    ends = _RANGE.fullmatch(text)
    if ends is None or len(text) > 20:
        raise argparse.ArgumentTypeError(f"expected layers like 13, 0-29 or all, not {text}")
    first, last = int(ends[1]), int(ends[2])
    if first > last or last > _MOST_LAYERS:
        raise argparse.ArgumentTypeError(f"{text} is no range of layers (0-29, say)")
    return range(first, last + 1)


def tuned_layer_range(text: str) -> range | str | None:
    """The same, or ``tuned``."""
    return TUNED if text == TUNED else layer_range(text)


def tuned_float(text: str) -> float | str:
    """A finite number, or ``tuned``."""
    return TUNED if text == TUNED else finite_float(text)


class LayersAction(argparse.Action):
    """Ranges as one list of layers in ascending order; ``None`` where ``all`` is among them.

    ``tuned`` stands alone and stays what it is.
    """

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        _option: str | None = None,
    ) -> None:
        ranges = list(values or [])
        if TUNED in ranges:
            if len(ranges) > 1:
                raise argparse.ArgumentError(self, f"{TUNED} stands alone")
            setattr(namespace, self.dest, TUNED)
            return
        layers = None if None in ranges else sorted({n for found in ranges for n in found})
        setattr(namespace, self.dest, layers)


def add_strength_arguments(
    parser: argparse.ArgumentParser,
    *,
    default: Sequence[float] | None,
    doses: Sequence[float] | None = None,
    tuned: bool = False,
) -> None:
    """``--multipliers`` or, in its place, ``--doses``.

    Args:
        parser: gets the flags.
        default: the multipliers where neither is given; ``None`` for all that are found.
        doses: what the script takes instead where neither is given.
        tuned: whether ``tuned`` is taken in place of numbers.
    """
    group = parser.add_mutually_exclusive_group()
    shown = "all found" if default is None else " ".join(f"{value:g}" for value in default)
    said = f" (default, without --doses: {shown})" if doses is None else ""
    usual = "" if doses is None else f" (default: {' '.join(f'{dose:g}' for dose in doses)})"
    usual += f"; {TUNED}: minus, 0 and plus what tune.py has chosen" if tuned else ""
    group.add_argument(
        "--multipliers",
        nargs="+",
        type=tuned_float if tuned else finite_float,
        metavar="M",
        default=default,
        help=f"how often the vector is added; 0 is the unsteered model{said}",
    )
    group.add_argument(
        "--doses",
        nargs="+",
        type=tuned_float if tuned else finite_float,
        metavar="D",
        help="the same in units of the residual stream's median length, which means the same at "
        f"every layer and model: 0.1 is felt, 0.5 is much, 1 breaks most models{usual}",
    )


def strengths(args: argparse.Namespace) -> tuple[str, list[float] | None]:
    """The unit of the strengths asked for, and each of them once; ``None`` for all found."""
    unit = MULTIPLIER if args.doses is None else DOSE
    values = args.multipliers if args.doses is None else args.doses
    if values is not None and TUNED in values and len(values) > 1:
        raise UserError(f"--{unit}s: {TUNED} stands alone")
    return unit, None if values is None else list(dict.fromkeys(values))
