#!/usr/bin/env python3
"""One page of all that was measured of a model: report.html, offline, without any library.

It opens in any browser, with or without JavaScript, and prints. On it: what steering did in one
sentence; every behaviour's change with its interval, beside its controls where there are any; the
curve at each layer, with a slider; layers x strengths as a map; tune.py's choice; open-ended
answers side by side, with the judge's scores; every record. What was not run is named with its
command. The address of the page leads to the layer and strength that are looked at.

Full:   ./report.py --model qwen2.5-coder-1.5b --token_heat_maps 2
Quick:  ./report.py --behaviors refusal --out refusal.html

Reads   <artifacts_dir>/results/, analysis/<behavior>/tune_<model>.json; with --token_heat_maps
        normalized_vectors/, the open-ended questions, and the model
Writes  <artifacts_dir>/analysis/report_<model>.html, or --out; a page of some behaviours has a
        name of its own
More or changed results make the page again; fewer are refused.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from utils.cli import arguments, flag_values, script
from utils.errors import UserError
from utils.files.artifacts import save
from utils.models.choice import choose_model

if TYPE_CHECKING:
    from utils.report.markup import Html
    from utils.report.tokens import TokenPlan

LARGE = 20_000_000


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="the page (default: in analysis/, named after the model)"
    )
    parser.add_argument(
        "--limit_answers",
        type=flag_values.positive_int,
        default=20,
        metavar="N",
        help="open-ended answers to the first N questions of each behaviour (default: 20)",
    )
    parser.add_argument(
        "--token_heat_maps",
        type=int,
        default=0,
        metavar="N",
        help="the first N open-ended questions of each behaviour token by token; loads the model "
        "(default: 0)",
    )
    arguments.add_overwrite_argument(parser)
    arguments.add_model_arguments(parser)
    arguments.add_compute_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> int:
    # numpy comes with it, and --help does without
    from utils.plans.page import must_make_page, plan_page, plan_token_maps, whole_page

    started = time.monotonic()
    if args.token_heat_maps < 0:
        raise UserError("--token_heat_maps takes 0 or a number of questions")
    paths = arguments.get_paths(args)
    choice = choose_model(args.model, args.model_size, args.use_base_model)
    plan = plan_page(args, choice, paths)
    maps = plan_token_maps(args, plan) if args.token_heat_maps else {}
    written = []
    if must_make_page(plan.place, plan.inputs, overwrite=args.overwrite):
        drawn = draw_token_maps(args, maps) if maps else {}
        data = whole_page(args, plan, drawn)
        save(plan.place, data, plan.inputs)
        written.append(plan.place)
        if len(data) > LARGE:
            print(f"the page has {len(data) / 1e6:.0f} MB; --limit_answers makes it smaller")
    script.print_written(written, time.monotonic() - started)
    print(plan.place)
    return 0


def draw_token_maps(args: argparse.Namespace, maps: dict[str, TokenPlan]) -> dict[str, Html]:
    """The model's own answers token by token, behaviour by behaviour."""
    from tqdm import tqdm

    from llama_wrapper import LlamaWrapper
    from utils.report.tokens import token_maps

    choice, _ = arguments.get_model(args)
    wrapper = LlamaWrapper.load(choice, **arguments.loading_options(args))
    bar = tqdm(maps.items(), desc="token heat maps", unit="behaviour", delay=1)
    return {behavior: token_maps(plan, wrapper) for behavior, plan in bar}


if __name__ == "__main__":
    script.run(build_parser(), main)
