"""The flags of a choice of layer and strength."""

from __future__ import annotations

import argparse
import math

from utils.cli import flag_values
from utils.errors import UserError
from utils.files.names import DOSE, MULTIPLIER
from utils.tuning.budgets import KINDS
from utils.tuning.chosen import DIRECTIONS

DOSES = (0.05, 0.1, 0.2, 0.4, 0.8)


def add_tuning_arguments(parser: argparse.ArgumentParser) -> None:
    """Strengths, direction, budgets; what the functions of vector_choice ask is set."""
    flag_values.add_strength_arguments(parser, default=None, doses=DOSES)
    parser.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="both",
        help="steer with both signs of each strength and compare them (default), or with one and "
        "compare it with 0",
    )
    parser.add_argument(
        "--budget",
        nargs="+",
        type=budget,
        default=[],
        metavar="NAME=LIMIT",
        help="how much damage is allowed, see above; inf: only reported (default: "
        + " ".join(f"{name}={kind.limit:g}" for name, kind in KINDS.items())
        + ")",
    )
    parser.add_argument(
        "--late_layers", action="store_true", help="also choose among the last 20 %% of the layers"
    )
    parser.add_argument(
        "--neutral_prompts",
        metavar="FILE",
        help='a JSON list of {"question": ...}, of which the last fifth is kept for the report '
        "(default: neutral/neutral_prompts.json of the data folder, or of the project)",
    )
    parser.set_defaults(override_vector=None, override_vector_model=None, limit=None)


def budget(text: str) -> tuple[str, float]:
    """``kl=0.1``.

    Raises:
        argparse.ArgumentTypeError: another name, or no number from 0 on.
    """
    name, _, number = text.partition("=")
    if name not in KINDS:
        raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(KINDS)}, as kl=0.1")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 on, or inf")
    return name, limit


def tuned_strengths(args: argparse.Namespace) -> tuple[str, list[float]]:
    """The unit, and the sizes of the strengths asked for, ascending; ``args.doses`` is filled in.

    Raises:
        UserError: 0 is among them.
    """
    if args.multipliers is None and args.doses is None:
        args.doses = list(DOSES)
    unit, values = (MULTIPLIER, args.multipliers) if args.doses is None else (DOSE, args.doses)
    if 0 in values:
        raise UserError(f"--{unit}s: 0 is the unsteered model, which every cell is compared with")
    return unit, sorted({abs(value) for value in values})
