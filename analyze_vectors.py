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
A figure of some layers, behaviours or models says so in its name where there are more, and never
replaces that of all. More or changed vectors draw a figure again; fewer are refused.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import behaviors
from utils.cli import arguments, commands, script
from utils.drawing.files import add_format_argument, written_as
from utils.figures.album import Album, Memory
from utils.files.paths import Paths
from utils.models import labels
from utils.text.numbers import rounded
from utils.text.terminal_tables import plain_table

if TYPE_CHECKING:
    from utils.figures.vector_figures import VectorFigures
    from utils.vectors.vector_set import Key, VectorSet

LIKE = 0.5


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    parser.add_argument(
        "--behaviors", nargs="+", metavar="B", help="behaviours (default: all that have vectors)"
    )
    arguments.add_layers_argument(parser, default="all found")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="models, by their names as they stand in the files (default: all found)",
    )
    arguments.add_redraw_argument(parser)
    add_format_argument(parser)
    arguments.add_folder_arguments(parser)
    return parser


def names_of(ids: Sequence[str], paths: Paths) -> dict[str, str]:
    """A name for people for each behaviour; its id where the data folder does not describe it."""
    return {b: behaviors.load(b, paths).name if paths.description(b).is_file() else b for b in ids}


def summary(vectors: VectorSet, model: str) -> list[list[str]]:
    """What the figures of one model come to, a row for each behaviour."""
    import numpy as np

    from utils.vectors.similarity import cosine_matrix, layers_like, neighbour_mean

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
            other = f"{shown[strongest]} {rounded(cosines[strongest])}"
        run = f"{low}-{high}" if low < high else str(low)
        neighbours = rounded(neighbour_mean(matrix, layers))
        rows.append([behavior, neighbours, f"{run} (of {middle})", other])
    return rows


def report(vectors: VectorSet, notes: Sequence[str]) -> str:
    """Notes on what is missing, and a table for each model."""
    lines = [f"note: {note}" for note in notes]
    for model in vectors.models:
        rows = summary(vectors, model)
        if not rows:
            continue
        header = ["behaviour", "L, L+1", "like the middle", "strongest other"]
        lines.append("\n" + plain_table(header, rows, align="lrll", title=model))
    lines.append(
        "\nL, L+1: mean cosine of neighbouring layers. Like the middle: layers around the middle "
        f"one whose\ncosine with it is above {LIKE}. Strongest other: the behaviour with the "
        "largest mean cosine over layers."
    )
    return "\n".join(lines)


def draw(
    args: argparse.Namespace,
    vectors: VectorSet,
    keys: Sequence[Key],
    hashes: Mapping[Key, str],
    names: Mapping[str, str],
    album: Album[VectorFigures],
) -> str:
    """Read the vectors and draw what is not there yet; the text to be printed."""
    from tqdm import tqdm

    from utils.vectors.vector_set import every_key, read

    read(vectors, keys, album.paths, commands.folder_flags(args))

    # After the checks: matplotlib and scikit-learn take seconds to load.
    from utils.drawing.fonts import shown_names
    from utils.figures.vector_figures import VectorFigures
    from utils.figures.vector_plan import VectorPlan

    plan = VectorPlan(vectors, names, every_key(album.paths), hashes, args.layers)
    pending = tqdm(album.pending(plan.jobs()), desc="figures", unit="figure", delay=1)
    album.draw(pending, lambda aside: VectorFigures(vectors, shown_names(names), aside))
    return report(vectors, vectors.notes + plan.notes)


def plot(args: argparse.Namespace) -> int:
    started = time.monotonic()
    paths = arguments.get_paths(args)

    from utils.vectors.vector_set import every_key, hashes_of, select

    flags = commands.folder_flags(args)
    models = args.models and [labels.last_part(m) for m in args.models]
    vectors, keys = select(
        paths, behaviors=args.behaviors, layers=args.layers, models=models, flags=flags
    )
    names = names_of(vectors.behaviors, paths)
    hashes = hashes_of(keys, paths)
    request = {"names": names, "layers": args.layers, "flags": flags, "notes": vectors.notes}
    every = {"every": {str(tuple(key)): "" for key in every_key(paths)}}
    shown = {"shown": {str(tuple(key)): digest for key, digest in hashes.items()}}
    memory = Memory(paths, "vectors", request, every | shown)
    album: Album[VectorFigures] = Album(paths, overwrite=args.overwrite)
    text = memory.text(album, lambda: draw(args, vectors, keys, hashes, names, album))
    script.print_written(album.written, time.monotonic() - started)
    print(text)
    return 0


def main(args: argparse.Namespace) -> int:
    with written_as(args.format):
        return plot(args)


if __name__ == "__main__":
    script.run(build_parser(), main)
