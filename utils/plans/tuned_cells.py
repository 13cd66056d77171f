"""``tuned`` in place of layers and strengths: each behaviour's own, as tune.py has chosen them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence

from utils.cli import commands, flag_values
from utils.cli.flag_values import TUNED
from utils.errors import UserError
from utils.files.names import Cell
from utils.files.paths import Paths
from utils.models.choice import ModelChoice, ModelShape
from utils.plans import vector_choice
from utils.tuning.chosen import Chosen, read_choice
from utils.vectors.dose import SteeringVector


def asked_cells(
    args: argparse.Namespace,
    behaviors: Sequence[str],
    choice: ModelChoice,
    shape: ModelShape,
    paths: Paths,
) -> tuple[dict[str, list[Cell]], dict[str, Chosen]]:
    """The cells asked for of each behaviour, and the choices that they come from.

    Raises:
        UserError: a layer that the model does not have; under ``tuned`` no choice was made, it was
            not to steer, or its dose is not known.
    """
    unit, strengths = flag_values.strengths(args)
    tuned = TUNED in (strengths or [])
    if args.layers != TUNED:
        if tuned:
            raise UserError(f"--{unit}s {TUNED} goes with --layers {TUNED}")
        layers = vector_choice.steered_layers(args, behaviors, choice, shape, paths)
        cells = [(layer, strength) for layer in layers for strength in strengths or []]
        return dict.fromkeys(behaviors, cells), {}
    if args.override_vector is not None or args.override_vector_model is not None:
        raise UserError(f"--layers {TUNED} goes with the model's own vectors, not with others")
    chosen = {behavior: _choice(args, behavior, choice, paths) for behavior in behaviors}
    found: dict[str, list[Cell]] = {}
    for behavior, one in chosen.items():
        own = one.strengths(unit) if tuned else strengths
        if own is None:
            raise UserError(
                f"--doses {TUNED}: the choice of {behavior} has no dose; give --multipliers {TUNED}"
            )
        found[behavior] = [(one.layer, strength) for strength in own]
    return found, chosen


def check_tuned(
    args: argparse.Namespace,
    behavior: str,
    chosen: Mapping[str, Chosen],
    vectors: Mapping[int, SteeringVector],
) -> None:
    """Refuse a choice that was made for another vector than is there now.

    Raises:
        UserError: it was.
    """
    one = chosen.get(behavior)
    if one is not None and one.layer in vectors and vectors[one.layer].sha256 != one.vector:
        raise UserError(
            f"--layers {TUNED}: the choice of {behavior} was made for another vector of layer "
            f"{one.layer} than there is now\nMake it again with: {_command(args, behavior)} "
            "--overwrite"
        )


def _choice(args: argparse.Namespace, behavior: str, choice: ModelChoice, paths: Paths) -> Chosen:
    place = paths.tuning(behavior, choice.label)
    if not place.exists():
        raise UserError(
            f"--layers {TUNED}: no layer has been chosen for {behavior} ({place} is missing)\n"
            f"Choose one with: {_command(args, behavior)}"
        )
    found, _ = read_choice(place)
    if found is None:
        raise UserError(
            f"--layers {TUNED}: {place} says not to steer {behavior}; give --layers and --doses, "
            "or leave it out of --behaviors"
        )
    return found


def _command(args: argparse.Namespace, behavior: str) -> str:
    flags = commands.model_flags(args) + commands.folder_flags(args)
    return f"./tune.py --behaviors {shlex.quote(behavior)}{flags}"
