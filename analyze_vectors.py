#!/usr/bin/env python3
"""Compare steering vectors with one another: layers, behaviours, models, norms.

Draws whatever vectors/ holds; behaviours, layers or models may be missing, and it says which.
For each behaviour and model: a heat map of the cosine similarity of all layers' vectors, and the
layers in the plane of their first two principal components. For each model: how alike the
behaviours are (mean over layers, and over layers a panel per behaviour; with --layers a heat map
at each of these layers), and the norms before and after normalising. With several models of one
width (base and chat, say): their cosine over layers, and heat maps if there are more than two.

Full:   ./analyze_vectors.py
Quick:  ./analyze_vectors.py --behaviors sycophancy refusal --layers 12 18

Reads   <artifacts_dir>/vectors/, and normalized_vectors/ where it is there
Writes  <artifacts_dir>/analysis/, every figure as .png with its numbers as .txt
With --layers, figures over layers show these only and bear them in their names.
"""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import behaviors
from utils import arguments, commands, script
from utils.figure_files import add_format_argument, written_as
from utils.paths import Paths

if TYPE_CHECKING:
    from utils.vector_set import VectorSet

LIKE = 0.5


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    parser.add_argument(
        "--behaviors", nargs="+", metavar="B", help="behaviours (default: all that have vectors)"
    )
    arguments.add_layers_argument(parser, required=False)
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="models, by their names as they stand in the files (default: all found)",
    )
    add_format_argument(parser)
    arguments.add_folder_arguments(parser)
    return parser


def names_of(ids: Sequence[str], paths: Paths) -> dict[str, str]:
    """A name for people for each behaviour; its id where the data folder does not describe it."""
    return {b: behaviors.load(b, paths).name if paths.description(b).is_file() else b for b in ids}


def summary(vectors: "VectorSet", model: str) -> list[list[str]]:
    """What the figures of one model come to, a row for each behaviour."""
    import numpy as np

    from utils.heat_maps import signed
    from utils.similarity import cosine_matrix, layers_like, neighbour_mean

    shown = vectors.behaviors_of(model)
    between = vectors.mean_cosines([(model, b) for b in shown], None)
    np.fill_diagonal(between, np.nan)
    rows = []
    for behavior, cosines in zip(shown, between, strict=True):
        layers = vectors.layers(model, behavior)
        matrix = cosine_matrix(vectors.stack(model, behavior, layers))
        middle = layers[len(layers) // 2]
        low, high = layers_like(matrix, layers, middle, LIKE)
        other = "\N{EN DASH}"
        if not np.isnan(cosines).all():
            strongest = int(np.nanargmax(np.abs(cosines)))
            other = f"{shown[strongest]} {signed(cosines[strongest])}"
        run = f"{low}-{high}" if low < high else str(low)
        neighbours = signed(neighbour_mean(matrix, layers))
        rows.append([behavior, neighbours, f"{run} (of {middle})", other])
    return rows


def report(vectors: "VectorSet") -> None:
    for model in vectors.models:
        rows = summary(vectors, model)
        if not rows:
            continue
        print(f"\n{model}\n{'behaviour':28}{'L, L+1':>8}  {'like the middle':18}strongest other")
        for behavior, neighbours, like, other in rows:
            print(f"{behavior:28}{neighbours:>8}  {like:18}{other}")
    print(
        "\nL, L+1: mean cosine of neighbouring layers. Like the middle: layers around the middle "
        f"one whose\ncosine with it is above {LIKE}. Strongest other: the behaviour with the "
        "largest mean cosine over layers."
    )


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    paths = arguments.get_paths(args)

    from tqdm import tqdm

    from utils.vector_set import read, select

    flags = commands.folder_flags(args)
    models = args.models and [arguments.last_part(m) for m in args.models]
    vectors, keys = select(
        paths, behaviors=args.behaviors, layers=args.layers, models=models, flags=flags
    )
    names = names_of(vectors.behaviors, paths)
    read(vectors, keys, paths, flags)

    # After the checks: matplotlib and scikit-learn take seconds to load.
    from utils.fonts import shown_names
    from utils.vector_figures import VectorFigures

    figures = VectorFigures(vectors, shown_names(names), paths, args.layers)
    with written_as(args.format):
        for draw in tqdm(figures.jobs(), desc="figures", unit="figure"):
            draw()
    for note in vectors.notes + figures.notes:
        print(f"note: {note}")
    report(vectors)
    script.print_written(figures.written, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    script.run(build_parser(), main)
