#!/usr/bin/env python3
"""Choose the layer and the strength to steer at, by effect under a budget of damage.

Every layer and dose is tried, in one pass, on contrast pairs that are held out: a fifth of them,
25 at least, each asked in both orders of its choices. The vector that is tried is made without
them, from saved activations. The best cells are looked at more closely. Only then are the test
questions opened, and the chosen cell reported on them, with the vector of all pairs.

Effect  change of the content logit difference (what the answer says, its letter told apart) at
        +m against -m, halved; --direction pos or neg: at one of them against 0
Damage  kl          KL(unsteered || steered) of the next token on neutral prompts, nats (0.1)
        letters     P(A) + P(B) in parts of the unsteered model's, at least (0.5)
        rollout_kl  95th percentile of KL(steered || unsteered) along 48 tokens of 16 answers (1)
        knowledge   loss of P(correct) on this project's knowledge questions (0.02)
        loops       different 3-grams of those answers in parts of the unsteered, at least (0.8)
The last three are measured on at most 20 cells, on the Pareto front of effect and kl or beside it.
Chosen is the largest effect within all budgets, or, within one standard error of it, the least
rollout_kl. Only effects that are sure count: p <= 0.05 with all cells counted in that were tried.
If there is none, or none keeps the budgets: do not steer (status 1).

Full:   ./tune.py --behaviors sycophancy refusal
Quick:  ./tune.py --behaviors refusal --layers 10-14 --doses 0.1 0.2 0.4 --budget kl=0.3

Reads   <datasets_dir>/generate/<behavior>/generate_dataset.json, neutral/neutral_prompts.json
        <artifacts_dir>/normalized_vectors/<behavior>/vec_layer_<L>_<model>.pt, and activations/
        of ./generate_vectors.py --save_activations; last <datasets_dir>/test/<behavior>/
Writes  <artifacts_dir>/analysis/<behavior>/tune_<model>.json, .txt, .tex and .png
A killed run goes on where it stood. Next: ./prompting_with_steering.py --layers tuned --doses tuned

Not here: vectors without contrast pairs of their own (imported ones), and p-values of the effect.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli import arguments, script
from utils.cli.tuning_arguments import add_tuning_arguments, tuned_strengths
from utils.ranks import Ranks
from utils.tuning.chosen import read_choice

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper
    from utils.plans.tuning import Plan
    from utils.tuning.report import Choice


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all that have vectors")
    add_tuning_arguments(parser)
    arguments.add_overwrite_argument(parser)
    arguments.add_model_arguments(parser)
    arguments.add_compute_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    tuned_strengths(args)
    choice, shape = arguments.get_model(args)
    # torch comes with it, and --help does without
    from utils.plans.tuning import plan_tuning

    plan = plan_tuning(args, choice, shape)
    made: list[Choice] = []
    written: list[Path] = []
    if plan.jobs:
        from llama_wrapper import LlamaWrapper

        wrapper = LlamaWrapper.load(
            choice, tokenizer=plan.source.tokenizer, **arguments.loading_options(args)
        )
        made, written = tune(args, plan, wrapper)
    script.print_written(written, time.monotonic() - started)
    status = 0
    for behavior, place in plan.finished.items():
        found, _ = read_choice(place)
        print(f"{behavior}: {'do not steer' if found is None else f'layer {found.layer}'}, {place}")
        status = status or found is None
    for one in made:
        report(one)
        status = status or one.chosen is None
    return int(status)


def tune(
    args: argparse.Namespace, plan: Plan, wrapper: LlamaWrapper
) -> tuple[list[Choice], list[Path]]:
    """Make the choices, and write each on the main rank as soon as it is made."""
    from utils.tuning.choice import Rules, first_late_layer
    from utils.tuning.measuring import Bench
    from utils.tuning.run import make_choice, write

    rules = Rules(plan.budgets, first_late_layer(wrapper.n_layers, late_too=args.late_layers))
    ranks = Ranks()
    made: list[Choice] = []
    written: list[Path] = []
    for job in plan.jobs:
        bench = Bench(
            wrapper,
            plan.material.paths,
            job.behavior,
            job.inputs,
            ranks,
            args.batch_tokens,
            args.batch_rows,
        )
        made.append(make_choice(job, bench, rules, plan.material))
        ranks.wait()
        if ranks.is_main:
            written += write(job, made[-1])
            bench.close()
    ranks.close()
    return made, written


def report(choice: Choice) -> None:
    """The choice, its test and what was near, for people."""
    from utils.tuning.report import said

    header, rows, lines = said(choice)
    print(f"\n{choice.title}")
    if rows:
        script.print_table(header, rows)
    print(*lines, sep="\n")


if __name__ == "__main__":
    script.run(build_parser(), main)
