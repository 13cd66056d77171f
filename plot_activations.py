#!/usr/bin/env python3
"""Plot saved activations: do the two answers of a pair lie apart, and at which layers?

For each behaviour and model: the activations of both answers on their two principal components,
as they are and with each letter's mean removed, a figure per layer and all layers on a page each
(colour: matching or other; marker: the letter); over the layers, what their variance comes from
(letter, matching or other, question, rest: shares that add up to 1), and how well the projection
on the mean difference, the steering vector, tells the answers apart for pairs that it was not made
from (5-fold cross-validation over pairs; leave-one-out below 10 pairs). Where they cannot be told
apart there is little reason to expect that steering works.

The letter is most of the variance at the letter's token. So the AUROC to look at is the one
among answers with the same letter. Paired accuracy is the share of pairs whose matching answer
projects higher, the letters' effect removed; the AUROC with any letter is of the projections as
they are. 0.5 is chance. The intervals are 95 % bootstrap intervals over held-out pairs; the folds'
directions share training pairs, so that in simulations about 85 to 90 % of them hold the truth,
and fewer of the best of many layers. So whether the answers are told apart at all is judged by a p:
the best AUROC over the layers shown, against that of 199 draws in which pairs' labels are turned.

Full:   ./plot_activations.py
Quick:  ./plot_activations.py --behaviors sycophancy refusal --layers 12 18

Reads   <artifacts_dir>/activations/<behavior>/activations_{pos,neg}_<L>_<model>.pt, made by
        ./generate_vectors.py --save_activations; the letters from
        <datasets_dir>/generate/<behavior>/generate_dataset.json
Writes  <artifacts_dir>/analysis/<behavior>/PCA_..., separation_..., variance_... and
        <artifacts_dir>/analysis/SEPARATION_..., each as .png with its numbers as .txt (pairs
        are counted from 1); names of figures over some of the saved layers or behaviours say
        which; of one layer alone there is no line to draw, only the numbers
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import behaviors
from utils.cli import arguments, script
from utils.cli.label_arguments import add_label_arguments
from utils.drawing.files import add_format_argument, written_as
from utils.figures.album import Album, Memory
from utils.files.artifacts import fingerprint
from utils.files.paths import Paths
from utils.text.terminal_tables import plain_table

if TYPE_CHECKING:
    from utils.activations.layer_measures import LayerMeasures
    from utils.activations.saved import Source
    from utils.figures.activation_figures import ActivationFigures

    Shown = list[tuple[Source, dict[int, LayerMeasures]]]

FEW_PAIRS, CHANCE = 50, 0.05
SAME_LETTER = "matching has the same letter in all pairs: not measurable"


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all found")
    add_label_arguments(parser)
    arguments.add_redraw_argument(parser)
    add_format_argument(parser)
    arguments.add_folder_arguments(parser)
    return parser


def measure_all(sources: list[Source], paths: Paths) -> list[dict[int, LayerMeasures]]:
    """Read and measure every layer of every source; a fault stops before anything is drawn."""
    from tqdm import tqdm

    from utils.activations.layer_measures import measure
    from utils.activations.saved import load_answers

    total = sum(len(source.layers) for source in sources)
    measured: list[dict[int, LayerMeasures]] = []
    with tqdm(total=total, desc="measuring", unit="layer", delay=1) as bar:
        for source in sources:
            measured.append({})
            for layer in source.layers:
                measured[-1][layer] = measure(load_answers(source, layer, paths))
                bar.update()
    return measured


def report(model: str, shown: Shown) -> str:
    """Per behaviour: where the answers are told apart best, and whether more than by chance."""
    from utils.activations.label_flips import p_of_best_layer

    rows = []
    notes: dict[str, list[str]] = {}
    for source, measured in shown:
        first = sum(matching == "A" for matching, _ in source.letters)
        known = {n: m.separation.auroc for n, m in measured.items() if m.separation.auroc}
        row = [source.behavior, str(len(source.letters)), str(first)]
        means = {n: estimate.mean for n, estimate in known.items()}
        best = max(means, key=means.__getitem__, default=None)
        if best is None:
            rows.append([*row, "-", "-", "-"])
            notes.setdefault(SAME_LETTER, []).append(source.behavior)
            continue
        e = known[best]
        interval = f" [{e.low:.3f}, {e.high:.3f}]" if e.has_interval else " [-]"
        turned = [measured[n].turned for n in known]
        p = p_of_best_layer([each for each in turned if each is not None])
        rows.append([*row, str(best), f"{e.mean:.3f}{interval}", "-" if p is None else f"{p:.3f}"])
        if len(source.letters) < FEW_PAIRS:
            notes.setdefault("too few pairs to rely on", []).append(source.behavior)
        elif p is None or p > CHANCE:
            notes.setdefault("not told apart from chance", []).append(source.behavior)
    header = ["behaviour", "pairs", "A matches", "best layer", "its AUROC", "p"]
    found = [f"{note}: {', '.join(behaviors)}" for note, behaviors in notes.items()]
    return "\n".join([plain_table(header, rows, title=model), *found])


def draw(
    sources: list[Source],
    names: Mapping[str, str],
    hashes: Mapping[str, Mapping[str, str]],
    album: Album[ActivationFigures],
) -> str:
    """Measure, and draw what is not there yet; the text to be printed."""
    from tqdm import tqdm

    from utils.figures.activation_plan import jobs_of

    paths = album.paths
    measured = measure_all(sources, paths)
    saved = paths.saved_activations()
    shown_of: dict[str, Shown] = {}
    for source, measures in zip(sources, measured, strict=True):
        shown_of.setdefault(source.model, []).append((source, measures))
    pending = []
    for model, shown in shown_of.items():
        every = [b for b, cells in saved.items() if model in {m for _, m in cells}]
        pending.append((model, album.pending(jobs_of(shown, names, hashes, every))))
    for model, jobs in pending:

        def start(aside: Paths, model: str = model) -> ActivationFigures:
            from utils.drawing.fonts import shown_names
            from utils.figures.activation_figures import ActivationFigures

            return ActivationFigures(model, shown_names(names), aside)

        album.draw(tqdm(jobs, desc="drawing", unit="figure", delay=1), start)
    texts = [report(model, shown) for model, shown in shown_of.items()]
    texts.append(
        "(AUROC among answers with the same letter; best of the layers shown, chosen and\n"
        "measured on the same pairs, so that its interval promises too much; p counts the\n"
        "choice in: how often labels of pairs turned at random have a best layer as good)"
    )
    return "\n".join(texts)


def plot(args: argparse.Namespace) -> int:
    started = time.monotonic()
    paths = arguments.get_paths(args)

    from utils.figures.activation_plan import hashes_of
    from utils.plans.saved_sources import find_sources

    sources = find_sources(args, paths)
    names = {s.behavior: behaviors.load(s.behavior, paths).name for s in sources}
    hashes = hashes_of(sources, paths)
    letters = {s.behavior: fingerprint({"letters": s.letters}) for s in sources}
    request = {"names": names, "layers": args.layers, "model": args.model, "letters": letters}
    every = {b: fingerprint({"cells": cells}) for b, cells in paths.saved_activations().items()}
    memory = Memory(paths, "activations", request, hashes | {"every": every})
    album: Album[ActivationFigures] = Album(paths, overwrite=args.overwrite)
    text = memory.text(album, lambda: draw(sources, names, hashes, album))
    script.print_written(album.written, time.monotonic() - started)
    print(text)
    return 0


def main(args: argparse.Namespace) -> int:
    with written_as(args.format):
        return plot(args)


if __name__ == "__main__":
    script.run(build_parser(), main)
