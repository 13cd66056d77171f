#!/usr/bin/env python3
"""Plot the results of prompting_with_steering.py and scoring.py.

For each behaviour: change and score against multiplier or dose at one layer, a line per variant
(system prompt, another layer's or model's vector, finetuned weights); against layer, a line per
multiplier or dose; change against layer, a line per variant. For all behaviours together: change
against layer (LAYER_SWEEPS...) and against strength (MULTIPLIERS..., DOSES..., CHANGES...). For
tests with categories (TruthfulQA, MMLU): the change of each, by effect, and which got better or
worse; categories of fewer than 5 questions are pooled. Without --layers, figures at one layer are
drawn where steering moves the score most. Changes are counted from the unsteered model, where
strength 0 is missing from the lowest. Intervals are 95 % bootstrap intervals over questions, of
changes paired question by question; fewer than 5 questions have none.

Full:   ./plot_results.py --type ab --summary
Quick:  ./plot_results.py --type ab --behaviors sycophancy --layers 12 --multipliers -1 0 1

Reads   <artifacts_dir>/results/<behavior>/, for --type open_ended results/open_ended_scores/
Writes  <artifacts_dir>/analysis/, every figure as .png with its numbers as .txt (and .tex);
        --summary: summary_....csv and .md (steerability, P(A)+P(B), degeneration ...)
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import behaviors
from utils import arguments, commands, flag_values, script
from utils.errors import UserError
from utils.figure_files import add_format_argument, written_as
from utils.listing import numbered
from utils.models import choose_model
from utils.paths import MULTIPLIER, UNITS, Paths, ResultName

if TYPE_CHECKING:
    from utils.figures import Figures
    from utils.score_tables import ScoreTable
    from utils.stats import Estimate


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, required=False)
    flag_values.add_strength_arguments(parser, required=False)
    arguments.add_type_argument(parser)
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
    arguments.add_variant_arguments(parser)
    parser.add_argument(
        "--limit", type=flag_values.positive_int, metavar="N", help="plot results of --limit N"
    )
    arguments.add_model_arguments(parser)
    add_format_argument(parser)
    arguments.add_folder_arguments(parser)
    return parser


def load_tables(
    args: argparse.Namespace, base: ResultName, behavior: str, paths: Paths
) -> "list[ScoreTable]":
    """The scores of every variant of one behaviour that has results, the plain one first."""
    from utils.evaluation import TESTS
    from utils.score_tables import discover_cells, discover_variants, load_scores

    named = replace(base, behavior=behavior)
    tables = []
    for name in discover_variants(named, paths) or [named]:
        cells = discover_cells(name, paths, args.layers, flag_values.strengths(args)[1])
        test = TESTS[arguments.test_type(args)]
        tables.append(
            load_scores(name, cells, test, paths, without_beyond_ab=args.without_beyond_ab)
        )
    return [t for t in tables if t.scores or t.missing]


def strongest(table: "ScoreTable") -> "tuple[int, Estimate] | None":
    """The layer at which the score differs most between the lowest and highest strength."""
    low, high = table.swept_strengths[0], table.swept_strengths[-1]
    found = [(n, table.change((n, high), (n, low))) for n in table.layers]
    changes = [(n, change) for n, change in found if change is not None]
    if low == high or not changes:
        return None
    return max(changes, key=lambda pair: abs(pair[1].mean))


def print_missing(args: argparse.Namespace, tables: "list[ScoreTable]") -> None:
    """The command that makes the cells that the plots had to do without."""
    for table in tables:
        if not table.missing:
            continue
        if args.type == "open_ended":
            print(
                f"{table.name.behavior}: {len(table.missing)} cells have not been judged; judge "
                f"them with ./scoring.py --behaviors {table.name.behavior}"
                f"{commands.folder_flags(args)}"
            )
            continue
        layers = numbered(sorted({n for n, _ in table.missing}))
        strengths = " ".join(f"{s:g}" for s in sorted({s for _, s in table.missing}))
        sign = f" --system_prompt {table.name.system_prompt}" if table.name.system_prompt else ""
        where = commands.model_flags(args) + commands.folder_flags(args)
        print(
            f"{table.name.behavior}: {len(table.missing)} cells are missing; make them with\n"
            f"  ./prompting_with_steering.py --type {args.type} --behaviors {table.name.behavior} "
            f"--layers {layers} --{table.name.unit}s {strengths}{sign}{where}"
        )


def report(best: "list[tuple[Any, ScoreTable, tuple[int, Estimate]]]") -> None:
    if not best:
        return
    unit = best[0][1].name.unit
    print(f"{'behaviour':28}{'best layer':>11}   score at lowest, 0, highest {unit}; change")
    for behavior, table, (layer, change) in best:
        low, high = table.swept_strengths[0], table.swept_strengths[-1]
        cells = [table.score((layer, m)) for m in (low, 0.0, high)]
        scores = "  ".join("    -" if e is None else f"{e.mean:.3f}" for e in cells)
        interval = f"[{change.low:+.4f}, {change.high:+.4f}]"
        print(f"{behavior.id:28}{layer:11}   {scores}   {change.mean:+.4f} {interval}")
    print("(best of the layers shown, chosen and measured on the same questions)")


def draw(
    figures: "Figures", behavior: Any, tables: "list[ScoreTable]", args: argparse.Namespace
) -> "tuple[int, Estimate] | None":
    """The figures of one behaviour; where steering moves its score most."""
    table = tables[0]
    top = strongest(table)
    if len(table.layers) > 1:
        figures.layers(behavior, table)
    figures.variants(behavior, tables)
    if args.layers is None or len(table.layers) == 1:
        at = top[0] if top is not None else table.layers[0]
        figures.multipliers(behavior, tables, at)
        if table.categories is not None:
            figures.categories(behavior, table, at)
    if table.beyond_ab and not args.without_beyond_ab:
        print(
            f"{behavior.id}: {table.beyond_ab} questions have a matching letter beyond A and B "
            "and count 0 (--without_beyond_ab leaves them out)"
        )
    return top


def write_summary(
    figures: "Figures", shown: "list[tuple[Any, list[ScoreTable]]]", paths: Paths
) -> None:
    from utils.durable import write_bytes
    from utils.summary import as_csv, as_markdown, summary_rows

    rows = [r for b, ts in shown for t in ts for r in summary_rows(b.id, figures.test, t)]
    kind = "summary" if figures.unit == MULTIPLIER else f"summary_{figures.unit}s"
    stem = f"{kind}_{figures.base.stem(without=('layer', 'strength', 'behavior'))}"
    for suffix, data in ((".csv", as_csv(rows)), (".md", as_markdown(rows).encode())):
        path = paths.figure(stem, suffix=suffix)
        write_bytes(path, data)
        figures.written.append(path)
    print(as_markdown(rows))


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    weights = args.override_model_weights_path
    choice = choose_model(args.model, args.model_size, args.use_base_model, weights)
    paths = arguments.get_paths(args)
    chosen = behaviors.load_all(args.behaviors, paths)
    base = ResultName(
        layer=0,
        strength=0.0,
        behavior="",
        **arguments.variant_parts(args),
        **choice.result_parts(),
        limit=args.limit,
    )
    unit, strengths = flag_values.strengths(args)
    loaded = {
        unit: [(b, load_tables(args, replace(base, unit=unit), b.id, paths)) for b in chosen]
        for unit in ([unit] if strengths is not None else UNITS)
    }
    tables = [t for pairs in loaded.values() for _, tables in pairs for t in tables]
    if not any(t.scores for t in tables):
        raise UserError(nothing_message(args, choice.label, paths, judged=bool(tables)))
    written: list[Path] = []
    for unit, pairs in loaded.items():
        if any(t.scores for _, tables in pairs for t in tables):
            with written_as(args.format):
                written += draw_all(args, replace(base, unit=unit), pairs, paths)
    if args.layers is not None or strengths is not None:
        print_missing(args, tables)
    script.print_written(written, time.monotonic() - started)
    return 0


def draw_all(
    args: argparse.Namespace,
    base: ResultName,
    loaded: "list[tuple[behaviors.Behavior, list[ScoreTable]]]",
    paths: Paths,
) -> list[Path]:
    """All figures of one unit; the files written."""
    from utils.evaluation import TESTS
    from utils.figures import Figures
    from utils.fonts import shown_names

    shown = [(b, [t for t in tables if t.scores]) for b, tables in loaded]
    names = shown_names({b.id: b.name for b, tables in shown if tables})
    shown = [(replace(b, name=names[b.id]), tables) for b, tables in shown if tables]
    figures = Figures(TESTS[arguments.test_type(args)], base, paths)
    best = []
    for behavior, tables in shown:
        top = draw(figures, behavior, tables, args)
        if top is not None:
            best.append((behavior, tables[0], top))
    figures.sweeps([(b, tables[0]) for b, tables in shown if len(tables[0].layers) > 1])
    layers = sorted({n for _, tables in shown for n in tables[0].layers})
    for layer in layers if args.layers is not None or len(layers) == 1 else []:
        figures.all_multipliers(shown, layer)
        figures.all_changes([(b, tables[0]) for b, tables in shown], layer)
    if args.summary:
        write_summary(figures, shown, paths)
    report(best)
    return figures.written


def nothing_message(args: argparse.Namespace, label: str, paths: Paths, *, judged: bool) -> str:
    where = commands.model_flags(args) + commands.folder_flags(args)
    if judged and args.type == "open_ended":
        return (
            f"the open-ended answers of {label} have not been judged\n"
            f"Judge them with: ./scoring.py{commands.folder_flags(args)}"
        )
    return (
        f"no results of type {args.type} for {label} in {paths.artifacts / 'results'}\n"
        f"Make them with: ./prompting_with_steering.py --type {args.type} --layers ... "
        f"--multipliers -1 0 1{where}"
    )


if __name__ == "__main__":
    script.run(build_parser(), main)
