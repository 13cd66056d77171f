#!/usr/bin/env python3
"""Give the vectors of all behaviours the same length, layer by layer.

Raw vectors of different behaviours differ in norm, so the same multiplier would mean different
strengths. For each layer and model every behaviour's vector is rescaled to the mean norm over
the behaviours given (paper, section 3).

Full:   ./normalize_vectors.py
Quick:  ./normalize_vectors.py --behaviors sycophancy refusal --model SmolLM2-135M-Instruct-Q4_1

Reads   <artifacts_dir>/vectors/<behavior>/vec_layer_<L>_<model>.pt
Writes  <artifacts_dir>/normalized_vectors/<behavior>/ (same names)
After ./generate_vectors.py --limit N give the same --limit N here and to the next script.
The result depends on the set of behaviours: normalise all that you want to compare together.
Next: ./prompting_with_steering.py
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from utils import arguments, script
from utils.artifacts import (
    must_make,
    save,
    torch_bytes,
)
from utils.contents import load_vector, read_measured
from utils.errors import UserError
from utils.listing import shortened
from utils.origin import check_alike, recorded_origin
from utils.paths import Paths


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
        "--model",
        metavar="MODEL",
        type=arguments.last_part,
        help="the model's name as it stands in the files (default: every model found)",
    )
    arguments.add_overwrite_argument(parser)
    arguments.add_limit_argument(
        parser, "the vectors of a quick try with the same --limit (default: all vectors)"
    )
    arguments.add_folder_arguments(parser)
    return parser


def find_vectors(
    behaviors: list[str], model: str | None, limit: int | None, paths: Paths
) -> dict[tuple[str, int], list[str]]:
    """The behaviours that have a raw vector, for each (model, layer).

    Raises:
        UserError: none at all, or a behaviour lacks a layer that another has.
    """
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for behavior in behaviors:
        for layer, label in paths.vectors_of(behavior):
            of_model = model is None or label == arguments.limited_label(model, limit)
            if of_model and label.endswith(arguments.limited_label("", limit)):
                found[label, layer].append(behavior)
    if not found:
        named = "" if model is None else f" of {model}"
        named += "" if limit is None else f" under --limit {limit}"
        raise UserError(
            f"no vectors{named} in {paths.artifacts / 'vectors'}\n"
            f"Make them with: ./generate_vectors.py{'' if limit is None else f' --limit {limit}'}"
        )
    by_model: dict[str, set[str]] = defaultdict(set)
    for (label, _), has in found.items():
        by_model[label] |= set(has)
    for (label, layer), has in sorted(found.items()):
        lacking = sorted(by_model[label] - set(has))
        if lacking:
            raise UserError(
                f"layer {layer} of {label} has no vector for {shortened(lacking)}, so the mean "
                "norm would be over other behaviours than at other layers\nMake it with: "
                f"./generate_vectors.py --behaviors {' '.join(lacking)} --layers {layer} ..."
            )
    return dict(found)


def normalize(
    label: str, layer: int, behaviors: list[str], paths: Paths, overwrite: bool
) -> tuple[list[Made], float]:
    """Rescale the vectors of one model and layer; the files to write and the common norm.

    Raises:
        UserError: a vector is damaged or zero, or they were made with different models.
    """
    sources = {b: paths.vector(b, layer, label, normalized=False) for b in behaviors}
    read = {b: load_vector(path, made_by="./generate_vectors.py") for b, path in sources.items()}
    vectors = {b: vector for b, (vector, _) in read.items()}
    origins = {b: recorded_origin(path) for b, path in sources.items()}
    check_alike({sources[b]: origin for b, origin in origins.items()}, "normalised")
    norms = {b: float(v.double().norm()) for b, v in vectors.items()}
    zero = [b for b, norm in norms.items() if norm == 0]
    if zero:
        raise UserError(f"layer {layer} of {label}: the vector of {', '.join(zero)} is zero")
    target = sum(norms.values()) / len(norms)
    inputs = {
        "kind": "normalized vector",
        "model": label,
        "layer": layer,
        "vectors": {b: sha256 for b, (_, sha256) in read.items()},
    }
    made = []
    for behavior, vector in vectors.items():
        path = paths.vector(behavior, layer, label, normalized=True)
        # what was measured of a raw vector's layer holds for the normalised one
        known = read_measured(sources[behavior])
        measured = {k: v for k, v in known.items() if k == "residual_norm"}
        if must_make(path, inputs, overwrite=overwrite, measures=measured):
            scaled = (vector.double() * (target / norms[behavior])).float()
            origin = origins[behavior].recorded()
            made.append(Made(path, torch_bytes(scaled), inputs, measured, origin))
    return made, target


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    paths = arguments.get_paths(args)
    known = paths.behaviors_with_vectors()
    unknown = sorted(set(args.behaviors or []) - set(known))
    if unknown:
        raise UserError(
            f"no vectors for behaviour {shortened(unknown)}; "
            f"there are: {shortened(known)}"
            f"\nMake them with: ./generate_vectors.py --behaviors {' '.join(unknown)} --layers ..."
        )
    found = find_vectors(args.behaviors or known, args.model, args.limit, paths)
    made: list[Made] = []
    norms: dict[str, list[float]] = defaultdict(list)
    for (label, layer), has in sorted(found.items()):
        files, norm = normalize(label, layer, has, paths, args.overwrite)
        made += files
        norms[label].append(norm)
    # Nothing is written before every layer has been read and checked.
    for file in made:
        save(*file)
    for label, values in norms.items():
        over = sorted({b for (m, _), has in found.items() if m == label for b in has})
        print(
            f"{label}: {len(values)} layers, norm {min(values):.3g} to {max(values):.3g}, "
            f"mean over {', '.join(over)}"
        )
    script.print_written([file.path for file in made], time.monotonic() - started)
    return 0


if __name__ == "__main__":
    script.run(build_parser(), main)
