"""What a server needs, found and checked before its model is loaded: vectors, address and key."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import behaviors
from utils.cli import arguments, commands
from utils.errors import UserError
from utils.files.paths import Paths
from utils.models.choice import ModelChoice, ModelShape
from utils.models.identity import weights_fingerprint
from utils.serving.guards import is_loopback
from utils.steering.prompt_source import PromptSource, known_dtype
from utils.tuning.chosen import Chosen, read_choice
from utils.vectors.dose import SteeringVector
from utils.vectors.origin import Origin
from utils.vectors.own import OwnVectors
from utils.vectors.stored import read_vector

_SHORTEST_KEY = 16


@dataclass(frozen=True)
class Plan:
    """Attributes:
    behaviors: behaviour -> layer -> vector.
    named: vectors given by a name.
    names: behaviour -> its name for people.
    tuned: behaviour -> what tune.py has chosen; ``None``: not to steer.
    source: of prompts, and of the tokenizer.
    origin: of the model.
    """

    behaviors: Mapping[str, Mapping[int, SteeringVector]]
    named: Mapping[str, SteeringVector]
    names: Mapping[str, str]
    tuned: Mapping[str, Chosen | None]
    source: PromptSource
    origin: Origin


def plan_serving(args: argparse.Namespace, choice: ModelChoice, shape: ModelShape) -> Plan:
    """The vectors that may be added.

    Raises:
        UserError: a behaviour that is named has none, or one is damaged or of another model.
    """
    paths = arguments.get_paths(args)
    source = PromptSource(choice, shape.context)
    dtype = known_dtype(**arguments.loading_options(args))
    origin = Origin(weights_fingerprint(choice), dtype, source.fingerprint())
    own = OwnVectors(choice, shape.width, origin, paths.artifacts)
    found = {
        behavior: {layer: own.read(behavior, layer) for layer in layers}
        for behavior, layers in _layers(args, choice, paths).items()
    }
    known = set(behaviors.available(paths))
    names = {b: behaviors.load(b, paths).name if b in known else b for b in found}
    tuned = {b: one for b in found for one in _chosen(b, found[b], choice, paths)}
    return Plan(found, _named(args.vectors or [], shape), names, tuned, source, origin)


def read_key(args: argparse.Namespace) -> str | None:
    """The key that requests must bring, ``None`` for none.

    Raises:
        UserError: an address that others can reach without a key, or a file that holds none.
    """
    if args.api_key_file is None:
        if not is_loopback(args.host):
            raise UserError(
                f"--host {args.host}: others can reach that, so requests must bring a key: give "
                "--api_key_file, a file with a line of your own making (openssl rand -hex 32)"
            )
        return None
    path = Path(args.api_key_file)
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--api_key_file: {path} cannot be read as text") from error
    plain = key.isascii() and key.isprintable() and " " not in key
    if len(key) < _SHORTEST_KEY or not plain:
        raise UserError(
            f"--api_key_file: {path} must hold one word of {_SHORTEST_KEY} plain characters at "
            "least (openssl rand -hex 32)"
        )
    return key


def bind(args: argparse.Namespace) -> socket.socket:
    """The server's socket, which takes no connections yet.

    Raises:
        UserError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((args.host, args.port))
    except (OSError, OverflowError) as error:
        found.close()
        raise UserError(
            f"--host {args.host} --port {args.port}: {getattr(error, 'strerror', error)}; give "
            "another --port (0 takes one that is free)"
        ) from error
    return found


def _layers(args: argparse.Namespace, choice: ModelChoice, paths: Paths) -> dict[str, list[int]]:
    there = paths.behaviors_with_vectors(normalized=True)
    layers = {
        b: [n for n, model in paths.vectors_of(b, normalized=True) if model == choice.label]
        for b in dict.fromkeys(args.behaviors or there)
    }
    for behavior in args.behaviors or []:
        if not layers[behavior]:
            flags = commands.model_flags(args) + commands.folder_flags(args)
            raise UserError(
                f"--behaviors {behavior}: {choice.label} has no normalised vectors of it in "
                f"{paths.artifacts}\nMake them with: ./generate_vectors.py --behaviors {behavior}"
                f"{flags} && ./normalize_vectors.py{commands.folder_flags(args)}"
            )
    return {behavior: found for behavior, found in layers.items() if found}


def _chosen(
    behavior: str, vectors: Mapping[int, SteeringVector], choice: ModelChoice, paths: Paths
) -> list[Chosen | None]:
    """What was chosen for a behaviour; empty where nothing was, or for another vector."""
    place = paths.tuning(behavior, choice.label)
    if not place.exists():
        return []
    found, _ = read_choice(place)
    if found is not None and (
        found.layer not in vectors or vectors[found.layer].sha256 != found.vector
    ):
        print(f"{place}: chosen for another vector than there is now; left out", file=sys.stderr)
        return []
    return [found]


def _named(given: list[str], shape: ModelShape) -> dict[str, SteeringVector]:
    found: dict[str, SteeringVector] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not name or not file or name in found:
            raise UserError(f"--vectors {text}: expected NAME=FILE, each name once")
        path = Path(file)
        stored = read_vector(path, made_by="torch.save of a plain tensor", width=shape.width)
        found[name] = SteeringVector(stored, None, path)
    return found
