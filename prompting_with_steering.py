#!/usr/bin/env python3
"""Measure a model's behaviour under steering, over a grid of layers and multipliers.

multiplier x vector is added to the output of block L at every token from the last token of the
instruction on. All layers and multipliers of a question are computed together, with the numbers
of one pass each. --doses in place of --multipliers gives the strength in units of the residual
stream's median length, which means the same at every layer and model. --layers tuned --doses tuned
takes what ./tune.py has chosen for each behaviour.

  --type ab           the probabilities of the answers (A) and (B)
  --type open_ended   greedy answers, to be judged by scoring.py
  --type truthful_qa, mmlu (with --mmlu_full: all of it)   as ab, right against wrong
  --type bundled_misconceptions, bundled_knowledge   this project's own small stand-ins for them

With --both_orders every question is also asked with its choices exchanged, in the same pass: its
score is the mean of both, and the table tells what answers say from their letters.

Full:   ./prompting_with_steering.py --type ab --layers 0-29 --doses -0.2 0 0.2
Quick:  ./prompting_with_steering.py --type ab --layers 12 --multipliers -1 0 1 \\
            --behaviors sycophancy --limit 8

--controls asks whether an effect is more than chance and letters: what other vectors do in its
place, with every question in both orders of its choices.

Reads   <datasets_dir>/test/<behavior>/test_dataset_ab.json, test_dataset_open_ended.json, ...
        <artifacts_dir>/normalized_vectors/<behavior>/vec_layer_<L>_<model>.pt
Writes  <artifacts_dir>/results/<behavior>/results_layer=<L>_multiplier=<m>_....json (or dose=<d>)
        --type open_ended: <artifacts_dir>/analysis/<behavior>/answers_....md, all of them
        --controls: <artifacts_dir>/results/<behavior>/controls_... beside each result
A killed run goes on where it stood; finished cells are skipped. Next: ./plot_results.py, after
--type open_ended ./scoring.py
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli import arguments, flag_values, script, variant_arguments
from utils.files.paths import Paths
from utils.plans.controls import add_control_arguments, check_control_flags, plan_controls
from utils.plans.sweep import plan
from utils.plans.sweep_closing import report, write_answers
from utils.plans.vector_choice import of_a_try
from utils.prompts.shown import show_tokens
from utils.ranks import Ranks
from utils.sweeps.journal import distinct_cells
from utils.text.progress import ProgressLines, progress

if TYPE_CHECKING:
    from tqdm import tqdm

    from llama_wrapper import LlamaWrapper
    from utils.sweeps.control_sweep import ControlSweep
    from utils.sweeps.runs import Settings
    from utils.sweeps.sweep import Sweep


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all that have vectors", tuned=True)
    flag_values.add_strength_arguments(parser, default=(-1.0, 0.0, 1.0), tuned=True)
    variant_arguments.add_type_argument(parser)
    parser.add_argument(
        "--max_new_tokens",
        type=flag_values.positive_int,
        default=100,
        metavar="N",
        help="longest open-ended answer (default: 100)",
    )
    parser.add_argument(
        "--show_answers",
        type=int,
        default=1,
        metavar="N",
        help="print the open-ended answers to the first N questions side by side (default: 1)",
    )
    variant_arguments.add_variant_arguments(parser)
    add_control_arguments(parser)
    arguments.add_show_tokens_argument(parser)
    arguments.add_run_arguments(parser)
    arguments.add_model_arguments(parser)
    arguments.add_compute_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    check_control_flags(args)
    choice, shape = arguments.get_model(args)
    sweeps, source = plan(args, choice, shape)
    if args.show_tokens:
        print(show_tokens(sweeps[0].prompts[0], source.tokenizer, read="the next token"))
        if sweeps[0].test.free_text:
            print(source.end_tokens().shown(source.tokenizer))
        return 0
    paths = arguments.get_paths(args)
    controls = plan_controls(args, sweeps, source, choice, paths)
    written: list[Path] = []
    failures: list[str] = []
    if any(s.pending for s in sweeps) or any(c.pending for c in controls):
        from llama_wrapper import LlamaWrapper
        from utils.sweeps.runs import Settings

        for each in controls:
            each.prepare()
        ranks = Ranks()
        settings = Settings(args.batch_tokens, args.batch_rows, args.max_new_tokens)
        wrapper = LlamaWrapper.load(
            choice, tokenizer=source.tokenizer, **arguments.loading_options(args)
        )
        done = [measure_sweep(s, wrapper, paths, settings, ranks) for s in sweeps if s.pending]
        done += [
            measure_controls(c, wrapper, paths, settings, ranks) for c in controls if c.pending
        ]
        written += [path for made, _ in done for path in made]
        failures += [line for _, failed in done for line in failed]
        ranks.close()
    if args.limit is not None:
        print(of_a_try(args.limit, {s.behavior: s.vectors for s in sweeps}))
    pages, refused = write_answers(sweeps, paths, overwrite=args.overwrite)
    script.print_written(written + pages, time.monotonic() - started)
    report(sweeps, paths, args.show_answers, written)
    if controls:
        from utils.scores.control_report import controls_table

        print(controls_table(controls, choice.label, paths))
    return script.report_failures(failures + refused)


def measure_sweep(
    sweep: Sweep, wrapper: LlamaWrapper, paths: Paths, settings: Settings, ranks: Ranks
) -> tuple[list[Path], list[str]]:
    """Run one behaviour's sweep; the files written, and what failed."""
    label = f"{sweep.behavior} ({len(sweep.pending)} cells)"
    tokens = sweep.test.free_text
    each = settings.max_new_tokens * len(distinct_cells(sweep.pending)) if tokens else 1
    unit = "token" if tokens else "question"
    with progress(total=each * len(sweep.items), desc=label, unit=unit) as bar:
        advance = functools.partial(update_by, bar, each)
        return sweep.run(wrapper, paths, settings=settings, ranks=ranks, advance=advance)


def measure_controls(
    controls: ControlSweep, wrapper: LlamaWrapper, paths: Paths, settings: Settings, ranks: Ranks
) -> tuple[list[Path], list[str]]:
    """Run one behaviour's controls; the files written, and what failed."""
    label = f"{controls.sweep.behavior} (controls of {len(controls.pending)} cells)"
    with progress(total=controls.work, desc=label, unit="prompt") as bar:
        advance = functools.partial(update_by, bar, 1)
        return controls.run(wrapper, paths, settings=settings, ranks=ranks, advance=advance)


def update_by(bar: tqdm | ProgressLines, each: int, questions: float) -> None:
    bar.update(round(each * questions))


if __name__ == "__main__":
    script.run(build_parser(), main)
