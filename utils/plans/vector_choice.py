"""The vectors that a steering run adds: found, read, and held against the model that is steered."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from utils.cli import arguments, commands
from utils.errors import UserError
from utils.files.paths import Paths
from utils.models import labels
from utils.models.choice import ModelChoice, ModelShape
from utils.text.listing import shortened
from utils.vectors.dose import SteeringVector, residual_norm
from utils.vectors.origin import Origin, check_steered


def vectors_label(
    args: argparse.Namespace, behavior: str, choice: ModelChoice, paths: Paths
) -> str:
    """The model's name in the names of the vectors that a behaviour is steered with.

    Under ``--limit`` they are those of the same try, if it has made any.
    """
    if args.override_vector_model is not None:
        return labels.last_part(args.override_vector_model) or choice.label
    tried = labels.limited_label(choice.label, args.limit)
    found = {model for _, model in paths.vectors_of(behavior, normalized=True)}
    return tried if tried in found else choice.label


def steered_layers(
    args: argparse.Namespace,
    behaviors: Sequence[str],
    choice: ModelChoice,
    shape: ModelShape,
    paths: Paths,
) -> list[int]:
    """The layers asked for; where none is named, those that have a vector of any behaviour.

    Where nothing has, or one vector is to be added at every layer, all of the model.

    Raises:
        UserError: a layer that the model does not have.
    """
    layers = args.layers
    if layers is None and args.override_vector is None:
        labels = {b: vectors_label(args, b, choice, paths) for b in behaviors}
        found = {
            layer
            for b, label in labels.items()
            for layer, model in paths.vectors_of(b, normalized=True)
            if model == label
        }
        layers = sorted(found) or None
    return arguments.check_layers(layers, shape, choice.label)


def of_a_try(limit: int, vectors: Mapping[str, Mapping[int, SteeringVector]]) -> str:
    """What a run under ``--limit`` is worth, in a line for people.

    Args:
        limit: how many questions of each test.
        vectors: behaviour -> layer -> vector.
    """
    ending = f"_limit={limit}.pt"
    tried = {
        behavior: all(v.path is not None and v.path.name.endswith(ending) for v in own.values())
        for behavior, own in vectors.items()
        if own
    }
    parts = []
    for which, of in ((True, f"the first {limit} pairs"), (False, "all pairs")):
        names = [behavior for behavior, is_try in tried.items() if is_try is which]
        parts += [f"vectors of {of}: {shortened(names)}"] if names else []
    return "; ".join([f"a try: the first {limit} questions", *parts])


def load_vectors(
    args: argparse.Namespace,
    behavior: str,
    layers: Sequence[int],
    choice: ModelChoice,
    shape: ModelShape,
    paths: Paths,
    weights: Callable[[], str],
) -> dict[int, SteeringVector]:
    """The vector of each layer, every one checked.

    Args:
        args: ``override_vector``, ``override_vector_model``, ``limit``, ``doses`` and the folders.
        behavior, layers: whose vectors, and where they are added.
        choice, shape: the model that is steered.
        paths: where the vectors lie.
        weights: gives the model's fingerprint; asked when all vectors are there, since it may
            have to read all weights.

    Raises:
        UserError: a vector is missing, damaged, of another width or of other weights, or its dose
            is asked for and H of the layer is not known; names the command.
    """
    own = args.override_vector
    if own is not None and (own < 0 or (shape.layers is not None and own >= shape.layers)):
        raise UserError(f"--override_vector {own}: {choice.label} has no such layer")
    label = vectors_label(args, behavior, choice, paths)
    read = {}
    for layer in layers:
        source = layer if own is None else own
        made_by = _command(args, behavior, source, label, paths)
        read[layer] = SteeringVector.read(
            paths, behavior, source, label, made_by=made_by, width=shape.width
        )
    vectors: dict[int, SteeringVector] = {}
    for layer, vector in read.items():
        # under another label: a quick try of the same model (--limit), or a model alike
        h = residual_norm(paths, behavior, layer, (choice.label, label), weights())
        vectors[layer] = replace(vector, residual_norm=h)
    check_vectors(args, vectors, Origin(weights()) if vectors else Origin())
    for layer, vector in vectors.items():
        if args.doses is not None and (vector.residual_norm is None or not vector.norm):
            raise UserError(_no_dose(args, behavior, layer, choice.label, vector.residual_norm))
    return vectors


def check_vectors(
    args: argparse.Namespace, vectors: Mapping[int, SteeringVector], now: Origin
) -> None:
    """Refuse vectors of another origin, unless ``--override_vector_model`` names whose are meant.

    Raises:
        UserError: see :func:`utils.vectors.origin.check_steered`.
    """
    if args.override_vector_model is None:
        for vector in vectors.values():
            if vector.path is not None:
                check_steered(vector.path, vector.origin, now)


def _command(args: argparse.Namespace, behavior: str, source: int, label: str, paths: Paths) -> str:
    """What makes a vector, from what there is."""
    folders = commands.folder_flags(args)
    made = labels.split_label(label)
    flags = made._replace(limit=made.limit if made.limit == args.limit else None).flags
    command = f"./normalize_vectors.py{flags}{folders}"
    if paths.vector(behavior, source, label, normalized=False).exists():
        return command
    model = commands.model_flags(args)
    if args.override_vector_model is not None:
        name = args.override_vector_model
        model = f" --model {made.model if made.both_orders else name}"
    generate = f"./generate_vectors.py --behaviors {behavior} --layers {source}{model}"
    return f"{generate}{flags}{folders} && {command}"


def _no_dose(
    args: argparse.Namespace, behavior: str, layer: int, label: str, h: float | None
) -> str:
    """Why there is no dose at a layer, and what mends it."""
    if h is not None:
        return f"--doses: the vector of {behavior} at layer {layer} is zero"
    model = commands.model_flags(args) + commands.folder_flags(args)
    return (
        f"--doses: nobody has measured the residual stream of {label} at layer {layer}: no record "
        f"of its vectors of {behavior} holds it\nMeasure it with: ./generate_vectors.py "
        f"--behaviors {behavior} --layers {layer}{model}\n(it makes vectors of its own; or give "
        "--multipliers, which need no measurement)"
    )
