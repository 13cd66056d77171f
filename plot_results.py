#!/usr/bin/env python3
"""Plot the results of prompting_with_steering.py and scoring.py.

For each behaviour: change and score against multiplier or dose at one layer, a line per variant
(system prompt, another layer's or model's vector, finetuned weights); against layer, a line per
multiplier or dose; change against layer, a line per variant. For all behaviours together: change
against layer (LAYER_SWEEPS...) and against strength (MULTIPLIERS..., DOSES..., CHANGES...). For
tests with categories (TruthfulQA, MMLU): the change of each, by effect, and which got better or
worse; categories of fewer than 5 questions are pooled. With --both_orders, of results
made so, what answers say is told apart from their letters. Without --layers, figures at one layer
are drawn where steering moves the score most; with one layer, at that one. Strength 0 is always
shown where it was measured: changes are counted from it, else from the lowest. Intervals
are 95 % bootstrap intervals over questions, of changes paired question by question; fewer than 5
questions have none.

--controls draws instead what vectors did beside their controls, where those were measured
(prompting_with_steering.py --controls): the effect on content and on the letter against strength
and against layer, before the grey band of the controls, and a table with p-values.

Full:   ./plot_results.py --type ab --summary
Quick:  ./plot_results.py --type ab --behaviors sycophancy --layers 12 --multipliers -1 0 1

Reads   <artifacts_dir>/results/<behavior>/, for --type open_ended results/open_ended_scores/
Writes  <artifacts_dir>/analysis/, every figure as .png with its numbers as .txt (and .tex);
        --summary: summary_....csv and .md (steerability, P(A)+P(B), degeneration ...), of
        open-ended answers also before a judge has run
A figure of some behaviours, layers or strengths says so in its name where there are more, and
never replaces that of all. More or changed results draw a figure again; fewer are refused.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import behaviors
from utils.cli import arguments, flag_values, missing, script, variant_arguments
from utils.data.evaluation import TESTS
from utils.drawing.files import add_format_argument, written_as
from utils.errors import UserError
from utils.figures.album import Album, Memory
from utils.files.artifacts import fingerprint
from utils.files.names import UNITS, Variant
from utils.files.paths import Paths
from utils.models.choice import choose_model
from utils.scores.cells import Selection, select
from utils.scores.tuned import read_tuned, tuned_lines

if TYPE_CHECKING:
    from utils.figures.result_plan import Pen, Plan

Selected = dict[str, list[tuple[behaviors.Behavior, list[Selection]]]]
"""Unit -> what of each behaviour is to be shown."""


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all found")
    flag_values.add_strength_arguments(parser, default=None)
    variant_arguments.add_type_argument(parser)
    parser.add_argument(
        "--without_beyond_ab",
        action="store_true",
        help="leave out questions whose matching letter is neither A nor B (they count 0)",
    )
    parser.add_argument(
        "--summary",
        action="store_true",
        help="also write and print one table of everything that was measured",
    )
    parser.add_argument(
        "--controls",
        action="store_true",
        help="instead: effects beside those of control vectors, with p-values",
    )
    variant_arguments.add_variant_arguments(parser)
    parser.add_argument(
        "--limit", type=flag_values.positive_int, metavar="N", help="plot results of --limit N"
    )
    arguments.add_model_arguments(parser)
    arguments.add_redraw_argument(parser)
    add_format_argument(parser)
    arguments.add_folder_arguments(parser)
    return parser


def find(args: argparse.Namespace, base: Variant, paths: Paths) -> Selected:
    """What is to be shown, unread: in one unit, or in both where no strengths were asked for."""
    chosen = behaviors.load_all(args.behaviors, paths)
    unit, strengths = flag_values.strengths(args)
    return {
        each: [
            (b, select(b.id, replace(base, unit=each), paths, args.layers, strengths))
            for b in chosen
        ]
        for each in ([unit] if strengths is not None else UNITS)
    }


def every_behavior(args: argparse.Namespace, base: Variant, paths: Paths) -> list[str]:
    """Ids of all behaviours with such results, asked for or not."""
    known = behaviors.available(paths)
    return [b for b in known if select(b, base, paths, None, None)[0].whole]


def remembered(
    args: argparse.Namespace,
    base: Variant,
    found: Selected,
    hashes: dict[str, dict[str, str]],
    every: dict[str, list[str]],
    paths: Paths,
) -> Memory:
    """What this very command drew and printed before."""
    selections = [s for pairs in found.values() for _, each in pairs for s in each]
    whole = {s.group: fingerprint({"cells": sorted(s.whole)}) for s in selections}
    names = {b.id: b.name for pairs in found.values() for b, _ in pairs}
    flags = ("layers", "multipliers", "doses", "without_beyond_ab", "summary")
    request = {flag: getattr(args, flag) for flag in flags} | {"names": names}
    there = {"whole": whole, "every": {unit: " ".join(ids) for unit, ids in every.items()}}
    return Memory(paths, base.type, request | {"results": asdict(base)}, hashes | there)


def draw(args: argparse.Namespace, plans: Sequence[Plan], album: Album[Pen]) -> None:
    """The figures that are not there yet; one that would show less stops before all others."""
    from tqdm import tqdm

    pending = [
        (each, album.pending(each.jobs() + ([each.summary()] if args.summary else [])))
        for each in plans
    ]
    for each, jobs in pending:
        bar = tqdm(jobs, desc=f"figures, {each.base.unit}s", unit="figure", delay=1)
        album.draw(bar, each.pen)


def report(args: argparse.Namespace, plans: Sequence[Plan]) -> str:
    """The tables to be printed, and what one must know to read them."""
    from utils.scores.score_report import answers_report, orders_report, score_report

    parts = []
    for each in plans:
        parts.append(score_report(each.test, each.subjects, each.base))
        parts.append(orders_report(each.subjects))
        if args.summary:
            parts.append(answers_report(each.test, each.answered, each.base))
        for subject in each.subjects:
            beyond = subject.tables[0].beyond_ab
            if beyond and not args.without_beyond_ab:
                parts.append(
                    f"{subject.behavior.id}: {beyond} questions have a matching letter beyond A "
                    "and B and count 0\n(--without_beyond_ab leaves them out)"
                )
    return "\n\n".join(part for part in parts if part)


def hints(args: argparse.Namespace, base: Variant, found: Selected, paths: Paths) -> str | None:
    """One line on what was asked for and is not there."""
    from utils.scores.cells import judged_cells

    selections = [s for pairs in found.values() for _, each in pairs for s in each]
    if TESTS[base.type].judged:
        lacking: Counter[str] = Counter()
        for each in selections:
            lacking[each.behavior] += len(set(each.shown) - judged_cells(each, paths))
        if any(lacking.values()):
            return missing.unjudged_hint(args, lacking)
    if args.layers is None and flag_values.strengths(args)[1] is None:
        return None
    return missing.missing_hint(args, base, selections, paths)


def plot(args: argparse.Namespace) -> int:
    started = time.monotonic()
    paths = arguments.get_paths(args)
    ids = [b.id for b in behaviors.load_all(args.behaviors, paths)]
    only = missing.take_only_model(args, ids, paths)
    weights = args.override_model_weights_path
    choice = choose_model(args.model, args.model_size, args.use_base_model, weights)
    base = variant_arguments.variant_of(args, choice)
    if args.controls:
        return plot_controls(args, base, choice.label, paths, started)
    found = find(args, base, paths)
    selections = [s for pairs in found.values() for _, each in pairs for s in each]
    hint = hints(args, base, found, paths)
    if not any(s.shown for s in selections) and any(s.whole for s in selections):
        raise UserError(missing.not_these_message([s for s in selections if s.whole], hint))
    if not any(s.shown for s in selections):
        raise UserError(missing.nothing_message(args, base, choice.label, ids, paths))
    hashes = {s.group: s.sources(paths) for s in selections if s.shown}
    every = {unit: every_behavior(args, replace(base, unit=unit), paths) for unit in found}
    memory = remembered(args, base, found, hashes, every, paths)
    album: Album[Pen] = Album(paths, overwrite=args.overwrite)

    def drawn() -> str:
        from utils.figures.result_plan import plans_of

        plans = plans_of(args, base, found, hashes, every, paths)
        if not args.summary and not any(each.subjects for each in plans):
            raise UserError(missing.unjudged_message(args, choice.label))
        draw(args, plans, album)
        return report(args, plans)

    text = memory.text(album, drawn)
    tuned = tuned_lines(read_tuned(ids, base, choice.label, paths))
    script.print_written(album.written, time.monotonic() - started)
    print(*filter(None, [text, *tuned, only, hint]), sep="\n")
    return 0


def plot_controls(
    args: argparse.Namespace, base: Variant, label: str, paths: Paths, started: float
) -> int:
    """Effects beside those of controls: figures, and a table for each unit."""
    from utils.figures.control_figures import find_controls
    from utils.scores.control_report import controls_report

    unit, strengths = flag_values.strengths(args)
    album: Album[Paths] = Album(paths, overwrite=args.overwrite)
    tables = []
    for each in [unit] if strengths is not None else UNITS:
        variant = replace(base, unit=each)
        chosen = behaviors.load_all(args.behaviors, paths)
        asked = (find_controls(b, variant, paths, args.layers, strengths) for b in chosen)
        plans = [plan for plan in asked if plan is not None]
        album.draw(album.pending([job for plan in plans for job in plan.jobs()]), lambda p: p)
        if plans:
            effects = {p.behavior.id: p.effects for p in plans}
            tuned = read_tuned(effects, variant, label, paths)
            tables.append(controls_report(effects, variant, tuned))
    if not tables:
        raise UserError(missing.no_controls_message(args, label, paths))
    script.print_written(album.written, time.monotonic() - started)
    print(*tables, sep="\n\n")
    return 0


def main(args: argparse.Namespace) -> int:
    with written_as(args.format):
        return plot(args)


if __name__ == "__main__":
    script.run(build_parser(), main)
