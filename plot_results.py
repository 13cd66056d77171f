#!/usr/bin/env python3
"""Plot the results of prompting_with_steering.py.

With --type ab, for each behaviour: (a) score against multiplier at one layer, a line for each
system prompt there are results of; (b) score against layer, a line for each multiplier; and for
all behaviours together (c) the change against the unsteered model, layer by layer. Without
--layers, (a) is drawn at the layer where steering moves the score most. Intervals are 95 %
bootstrap intervals over questions, for changes paired question by question.

Full:   ./plot_results.py --type ab
Quick:  ./plot_results.py --type ab --behaviors sycophancy --layers 12 --multipliers -1 0 1

Reads   <artifacts_dir>/results/<behavior>/
Writes  <artifacts_dir>/analysis/, every figure as .png with its numbers as .txt (and .tex)
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import behaviors
from utils import arguments
from utils.errors import UserError
from utils.models import choose_model
from utils.paths import Paths, ResultName

if TYPE_CHECKING:
    from utils.score_tables import ScoreTable
    from utils.stats import Estimate

SYSTEM_PROMPTS = {None: "no system prompt", "pos": "positive prompt", "neg": "negative prompt"}
NOT_IN_STEM = ("layer", "multiplier", "behavior")


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    parser.add_argument(
        "--layers", nargs="+", type=int, metavar="L", help="(default: all that have results)"
    )
    parser.add_argument(
        "--multipliers",
        nargs="+",
        type=arguments.finite_float,
        metavar="M",
        help="(default: all that have results)",
    )
    arguments.add_type_argument(parser)
    parser.add_argument(
        "--without_beyond_ab",
        action="store_true",
        help="leave out questions whose matching letter is neither A nor B (they count 0)",
    )
    arguments.add_variant_arguments(parser)
    parser.add_argument(
        "--limit", type=arguments.positive_int, metavar="N", help="plot results of --limit N"
    )
    arguments.add_model_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def load_tables(
    args: argparse.Namespace, base: ResultName, chosen: list[Any], paths: Paths
) -> "dict[str, dict[str | None, ScoreTable]]":
    """behaviour -> system prompt -> scores, for all that has results."""
    from utils.evaluation import LETTER_TESTS
    from utils.score_tables import discover_cells, load_scores

    prompts = [args.system_prompt] if args.system_prompt else list(SYSTEM_PROMPTS)
    tables: dict[str, dict[str | None, ScoreTable]] = {}
    for behavior in chosen:
        for sign in prompts:
            name = replace(base, behavior=behavior.id, system_prompt=sign)
            cells = discover_cells(name, paths, args.layers, args.multipliers)
            table = load_scores(
                name,
                cells,
                LETTER_TESTS[arguments.test_type(args)],
                paths,
                without_beyond_ab=args.without_beyond_ab,
            )
            if table.scores:
                tables.setdefault(behavior.id, {})[sign] = table
            elif sign is None and args.behaviors:
                tables.setdefault(behavior.id, {})
    return tables


def strongest(table: "ScoreTable") -> "tuple[int, Estimate] | None":
    """The layer at which the score differs most between the lowest and highest multiplier."""
    low, high = table.swept_multipliers[0], table.swept_multipliers[-1]
    found = [(n, table.change((n, high), (n, low))) for n in table.layers]
    changes = [(n, change) for n, change in found if change is not None]
    if low == high or not changes:
        return None
    return max(changes, key=lambda pair: pair[1].mean)


def signed(multiplier: float) -> str:
    """A multiplier as it is shown: with a sign, and a true minus."""
    return f"{multiplier:+g}".replace("-", "\N{MINUS SIGN}") if multiplier else "0"


class Figures:
    """Draws the figures of one command and keeps the list of what was written."""

    def __init__(self, args: argparse.Namespace, base: ResultName, paths: Paths) -> None:
        from utils.evaluation import LETTER_TESTS

        self.paths, self.base = paths, base
        self.score_name = LETTER_TESTS[arguments.test_type(args)].score_name
        self.written: list[Path] = []

    def _write(self, path: Path, panels: list[Any], header: list[str], rows: list[Any]) -> None:
        from utils.artifacts import write_bytes
        from utils.plotting import line_figure
        from utils.tables import text_table

        line_figure(panels, path)
        write_bytes(path.with_suffix(".txt"), text_table(header, rows))
        self.written += [path, path.with_suffix(".txt")]

    def multipliers(
        self, behavior: Any, tables: "dict[str | None, ScoreTable]", layer: int
    ) -> None:
        """(a) Score against multiplier at one layer, a line per system prompt."""
        from utils.artifacts import write_bytes
        from utils.plotting import Line, Panel
        from utils.tables import tex_table

        lines, rows, tex_rows = [], [], []
        ticks = sorted({m for t in tables.values() for n, m in t.scores if n == layer})
        for sign, table in tables.items():
            points = [(m, table.score((layer, m))) for m in ticks]
            known = [(m, e) for m, e in points if e is not None]
            if not known:
                continue
            lines.append(Line(SYSTEM_PROMPTS[sign], [m for m, _ in known], [e for _, e in known]))
            rows += [([SYSTEM_PROMPTS[sign], f"{m:g}"], e) for m, e in known]
            tex_rows.append((SYSTEM_PROMPTS[sign], [e for _, e in points]))
        name = replace(self.base, layer=layer)
        stem = f"multipliers_{name.stem(without=('multiplier', 'behavior', 'system_prompt'))}"
        path = self.paths.figure(stem, behavior.id)
        panel = Panel(
            lines,
            "multiplier",
            self.score_name,
            f"{behavior.name}, layer {layer}",
            x_ticks=ticks if len(ticks) <= 11 else [],
        )
        self._write(path, [panel], ["system prompt", "multiplier"], rows)
        tex = tex_table("multiplier", [f"${m:g}$" for m in ticks], tex_rows)
        write_bytes(path.with_suffix(".tex"), tex)
        self.written.append(path.with_suffix(".tex"))

    def layers(self, behavior: Any, table: "ScoreTable") -> None:
        """(b) Score against layer, a line per multiplier."""
        from utils.plotting import Line, Panel

        lines, rows = [], []
        for multiplier in table.swept_multipliers:
            points = [(n, table.score((n, multiplier))) for n in table.layers]
            known = [(n, e) for n, e in points if e is not None]
            lines.append(
                Line(
                    f"multiplier {signed(multiplier)}", [n for n, _ in known], [e for _, e in known]
                )
            )
            rows += [([str(n), f"{multiplier:g}"], e) for n, e in known]
        path = self.paths.figure(f"LAYER_SWEEP_{table.name.stem(without=NOT_IN_STEM)}", behavior.id)
        panel = Panel(lines, "layer", self.score_name, behavior.name, whole_x=True)
        self._write(path, [panel], ["layer", "multiplier"], rows)

    def sweeps(self, tables: "list[tuple[Any, ScoreTable]]") -> None:
        """(c) Change against multiplier 0, a panel per behaviour, a line per sign."""
        from utils.plotting import Line, Panel

        panels, rows = [], []
        steered = sorted({m for _, t in tables for m in t.swept_multipliers if m})
        shown = [m for m in (-1.0, 1.0) if m in steered] or [steered[0], steered[-1]]
        for behavior, table in tables:
            lines = []
            for multiplier in dict.fromkeys(shown):
                points = [(n, table.change((n, multiplier), (n, 0.0))) for n in table.layers]
                known = [(n, e) for n, e in points if e is not None]
                if known:
                    label = f"multiplier {signed(multiplier)}"
                    lines.append(Line(label, [n for n, _ in known], [e for _, e in known]))
                rows += [([behavior.id, str(n), f"{multiplier:g}"], e) for n, e in known]
            if lines:
                panel = Panel(lines, "layer", "change in score", behavior.name)
                panels.append(replace(panel, whole_x=True, zero_line=True))
        if panels:
            stem = f"LAYER_SWEEPS_{tables[0][1].name.stem(without=NOT_IN_STEM)}"
            self._write(self.paths.figure(stem), panels, ["behavior", "layer", "multiplier"], rows)


def print_missing(args: argparse.Namespace, tables: "list[ScoreTable]") -> None:
    """The command that makes the cells that the plots had to do without."""
    for table in tables:
        if not table.missing:
            continue
        layers = " ".join(str(n) for n in sorted({n for n, _ in table.missing}))
        multipliers = " ".join(f"{m:g}" for m in sorted({m for _, m in table.missing}))
        sign = f" --system_prompt {table.name.system_prompt}" if table.name.system_prompt else ""
        where = arguments.model_flags(args) + arguments.folder_flags(args)
        print(
            f"{table.name.behavior}: {len(table.missing)} cells are missing; make them with\n"
            f"  ./prompting_with_steering.py --type {args.type} --behaviors {table.name.behavior} "
            f"--layers {layers} --multipliers {multipliers}{sign}{where}"
        )


def report(best: "list[tuple[Any, ScoreTable, tuple[int, Estimate]]]") -> None:
    if not best:
        return
    print(f"{'behaviour':28}{'best layer':>11}   score at lowest, 0, highest multiplier; change")
    for behavior, table, (layer, change) in best:
        low, high = table.swept_multipliers[0], table.swept_multipliers[-1]
        cells = [table.score((layer, m)) for m in (low, 0.0, high)]
        scores = "  ".join("    -" if e is None else f"{e.mean:.3f}" for e in cells)
        interval = f"[{change.low:+.4f}, {change.high:+.4f}]"
        print(f"{behavior.id:28}{layer:11}   {scores}   {change.mean:+.4f} {interval}")
    print("(best of the layers shown, chosen and measured on the same questions)")


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    weights = args.override_model_weights_path
    choice = choose_model(args.model, args.model_size, args.use_base_model, weights)
    paths = arguments.get_paths(args)
    chosen = {b.id: b for b in behaviors.load_all(args.behaviors, paths)}
    base = ResultName(
        layer=0,
        multiplier=0.0,
        behavior="",
        **arguments.variant_parts(args),
        **choice.result_parts(),
        limit=args.limit,
    )
    tables = load_tables(args, base, list(chosen.values()), paths)
    if not any(tables.values()):
        raise UserError(
            f"no results of type {args.type} for {choice.label} in {paths.artifacts / 'results'}\n"
            f"Make them with: ./prompting_with_steering.py --type {args.type} --layers ... "
            f"--multipliers -1 0 1{arguments.model_flags(args)}{arguments.folder_flags(args)}"
        )
    figures = Figures(args, base, paths)
    best, sweeps = [], []
    for behavior_id, by_prompt in tables.items():
        if not by_prompt:
            continue
        behavior, table = chosen[behavior_id], next(iter(by_prompt.values()))
        top = strongest(table)
        if top is not None:
            best.append((behavior, table, top))
        if len(table.layers) > 1:
            figures.layers(behavior, table)
            sweeps.append((behavior, table))
        if args.layers is None or len(table.layers) == 1:
            at = top[0] if top is not None else table.layers[0]
            figures.multipliers(behavior, by_prompt, at)
        if table.beyond_ab and not args.without_beyond_ab:
            print(
                f"{behavior_id}: {table.beyond_ab} questions have a matching letter beyond A and B "
                "and count 0 (--without_beyond_ab leaves them out)"
            )
    if any(m for _, t in sweeps for m in t.swept_multipliers):
        figures.sweeps(sweeps)
    print_missing(args, [t for by_prompt in tables.values() for t in by_prompt.values()])
    report(best)
    arguments.print_written(figures.written, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    arguments.run(build_parser(), main)
