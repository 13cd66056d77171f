#!/usr/bin/env python3
"""Give the vectors of all behaviours the same length, layer by layer.

Raw vectors of different behaviours differ in norm, so the same multiplier would mean different
strengths. For each layer and model every behaviour's vector is rescaled to the mean norm over
the behaviours given (paper, section 3). The first normalisation of a model fixes these: a
behaviour that is added later is scaled to the same norm, and nothing changes for the others.
--reference takes the mean over other behaviours, and says which results that makes stale.

Full:   ./normalize_vectors.py
Quick:  ./normalize_vectors.py --behaviors sycophancy refusal --model SmolLM2-135M-Instruct-Q4_1
Own:    ./normalize_vectors.py --behaviors formal-tone

Reads   <artifacts_dir>/vectors/<behavior>/vec_layer_<L>_<model>.pt
Writes  <artifacts_dir>/normalized_vectors/<behavior>/ (same names)
After ./generate_vectors.py --limit N give the same --limit N here and to the next script.
The vectors of --both_orders have a name and a mean norm of their own.
Next: ./prompting_with_steering.py
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from utils.cli import arguments, script, variant_arguments
from utils.cli.label_arguments import add_label_arguments, model_label
from utils.errors import UserError
from utils.files.artifacts import must_make, save, torch_bytes
from utils.files.contents import read_measured
from utils.files.paths import Paths
from utils.models import labels
from utils.text.listing import shortened
from utils.vectors.norm_reference import References, check_known
from utils.vectors.origin import check_alike, recorded_origin


class Made(NamedTuple):
    """A file to write, what goes into it and what into its record."""

    path: Path
    data: bytes
    inputs: dict[str, Any]
    measured: dict[str, Any]
    vector_origin: dict[str, str] | None


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    parser.add_argument(
        "--reference",
        nargs="+",
        metavar="B",
        help="behaviours over which the mean norm is taken (default: those of the first "
        "normalisation of the model)",
    )
    add_label_arguments(parser)
    arguments.add_overwrite_argument(parser)
    arguments.add_limit_argument(
        parser, "the vectors of a quick try with the same --limit (default: all vectors)"
    )
    variant_arguments.add_both_orders_argument(
        parser, "only the vectors that generate_vectors.py --both_orders has made"
    )
    arguments.add_folder_arguments(parser)
    return parser


def find_vectors(
    behaviors: list[str], model: str | None, end: str, paths: Paths
) -> dict[str, list[str]]:
    """The behaviours that have raw vectors, for each model.

    Args:
        behaviors: those that are looked at.
        model: the only one, if one is named.
        end: what the names of its vectors end in.
        paths: where.

    Raises:
        UserError: none at all.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for behavior in behaviors:
        for label in sorted({label for _, label in paths.vectors_of(behavior)}):
            if label.endswith(end) and model in (None, label.removesuffix(end)):
                found[label].append(behavior)
    if not found:
        named = "" if model is None else f" of {model}"
        flags = labels.split_label(f"any{end}").flags
        named += f" under{flags}" if flags else ""
        raise UserError(
            f"no vectors{named} in {paths.artifacts / 'vectors'}\n"
            f"Make them with: ./generate_vectors.py{flags}"
        )
    return dict(found)


def normalize(
    references: References, behavior: str, layer: int, overwrite: bool
) -> tuple[list[Made], float, tuple[str, ...]]:
    """Rescale one vector: the file to write if it is not there, its norm, and whose mean it is.

    Raises:
        UserError: a vector is missing, damaged or zero, or they were made with different models.
    """
    paths, label = references.paths, references.label
    members = references.members(behavior, layer)
    target = references.mean_norm(layer, members)
    read = {b: references.raw(b, layer) for b in sorted({*members, behavior})}
    origins = {b: recorded_origin(references.path(b, layer)) for b in read}
    check_alike({references.path(b, layer): o for b, o in origins.items()}, "normalised")
    own = read[behavior]
    inputs: dict[str, Any] = {
        "kind": "normalized vector",
        "model": label,
        "layer": layer,
        "vectors": {b: read[b].sha256 for b in members},
    }
    if behavior not in members:
        inputs["vector"] = own.sha256
    path = paths.vector(behavior, layer, label, normalized=True)
    # what was measured of a raw vector's layer holds for the normalised one
    known = read_measured(references.path(behavior, layer))
    measured = {k: v for k, v in known.items() if k == "residual_norm"}
    if not must_make(path, inputs, overwrite=overwrite, measures=measured):
        return [], target, members
    data = torch_bytes((own.tensor.double() * (target / own.norm)).float())
    made = Made(path, data, inputs, measured, origins[behavior].recorded())
    return [made], target, members


def normalize_model(
    args: argparse.Namespace, label: str, behaviors: list[str], paths: Paths
) -> tuple[list[Made], list[str]]:
    """Rescale all vectors of one model; the files to write, and lines that say what was done.

    Raises:
        UserError: see :func:`normalize`, and ``--reference`` without ``--overwrite``.
    """
    asked = tuple(sorted(set(args.reference))) if args.reference else None
    references = References(paths, label, asked, tuple(behaviors))
    stale = references.check_asked(behaviors, overwrite=args.overwrite)
    layers = {n for b in behaviors for n, model in paths.vectors_of(b) if model == label}
    made: list[Made] = []
    norms: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
    for layer in sorted(layers):
        for behavior in behaviors:
            if not paths.vector(behavior, layer, label, normalized=False).exists():
                continue
            files, norm, members = normalize(references, behavior, layer, args.overwrite)
            made += files
            norms[members][layer] = norm
    fixed = " (fixed by the first normalisation)" if references.fixed else ""
    lines = [
        f"{label}: {len(of)} layers, norm {min(of.values()):.3g} to {max(of.values()):.3g}, "
        f"mean over {shortened(members)}{fixed}"
        for members, of in norms.items()
    ]
    return made, [*lines, *([stale] if stale else [])]


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    paths = arguments.get_paths(args)
    known = paths.behaviors_with_vectors()
    check_known([*(args.behaviors or []), *(args.reference or [])], known)
    end = labels.limited_label("", args.limit, both_orders=args.both_orders)
    found = find_vectors(args.behaviors or known, model_label(args), end, paths)
    made: list[Made] = []
    lines: list[str] = []
    for label, has in found.items():
        files, said = normalize_model(args, label, has, paths)
        made += files
        lines += said
    # Nothing is written before every layer has been read and checked.
    for file in made:
        save(*file)
    print(*lines, sep="\n")
    script.print_written([file.path for file in made], time.monotonic() - started)
    return 0


if __name__ == "__main__":
    script.run(build_parser(), main)
