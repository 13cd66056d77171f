"""Numbers on the command line: their checks, and how strongly to steer."""

import argparse
import math
import re

from utils.paths import DOSE, MULTIPLIER

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


def add_strength_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``--multipliers`` or, in its place, ``--doses``."""
    group = parser.add_mutually_exclusive_group(required=required)
    default = "" if required else " (default: all found)"
    group.add_argument(
        "--multipliers",
        nargs="+",
        type=finite_float,
        metavar="M",
        help=f"how often the vector is added; 0 is the unsteered model{default}",
    )
    group.add_argument(
        "--doses",
        nargs="+",
        type=finite_float,
        metavar="D",
        help="the same in units of the residual stream's median length, which means the same at "
        "every layer and model: 0.1 is felt, 0.5 is much, 1 breaks most models",
    )


def strengths(args: argparse.Namespace) -> tuple[str, list[float] | None]:
    """The unit of the strengths asked for, and each of them once; ``None`` for all found."""
    unit = MULTIPLIER if args.doses is None else DOSE
    values = args.multipliers if args.doses is None else args.doses
    return unit, None if values is None else list(dict.fromkeys(values))
