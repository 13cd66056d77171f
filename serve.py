#!/usr/bin/env python3
"""Serve a model that can be steered, request by request, to any client of OpenAI's interface.

  POST /v1/chat/completions, /v1/completions   whole or as a stream; GET /v1/models, /health, /info
  GET /   a page for a browser: one message, three answers side by side, live sliders

What is steered is said by a field of the request, or by the model's id:
  {"steering": {"behavior": "refusal", "layer": 14, "dose": 0.2}}
  {"model": "<id>@refusal:L14:d0.2"}   d for a dose, x for a multiplier
A chat is steered from the last token of the latest instruction on; earlier turns are read
unsteered. Requests are computed together, each with a vector of its own. The reply says what was
added, and from which token. A field or a behaviour that is not known is an error.
docs/server.md has all of it, with examples for curl, openai, Inspect and lm-evaluation-harness.

Full:   ./serve.py --model qwen2.5-coder-0.5b --behaviors refusal sycophancy
Quick:  ./serve.py --open

Reads   <artifacts_dir>/normalized_vectors/<behavior>/vec_layer_<L>_<model>.pt
        <artifacts_dir>/analysis/<behavior>/tune_<model>.json, if ./tune.py has run
Writes  nothing
Only this machine can ask, unless --host says otherwise; then requests must bring a key.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from utils.cli import arguments, flag_values, script

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper
    from utils.plans.serving import Plan
    from utils.serving.app import Desk

CPU_ROWS, GPU_ROWS = 16, 64
CPU_TOKENS, GPU_TOKENS = 32_768, 131_072


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    parser.add_argument(
        "--vectors",
        nargs="+",
        metavar="NAME=FILE",
        help="more vectors (.pt, a plain tensor each), to be asked for by these names",
    )
    add_server_arguments(parser)
    arguments.add_model_arguments(parser)
    arguments.add_loading_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    group.add_argument(
        "--port",
        type=int,
        default=8321,
        metavar="N",
        help="port, 0 for one that is free (default: %(default)s)",
    )
    group.add_argument(
        "--api_key_file",
        metavar="FILE",
        help="a file with the key that requests must bring (Authorization: Bearer ...)",
    )
    group.add_argument(
        "--open", action="store_true", help="open the page at / in this machine's browser"
    )
    counts = {
        "max_rows": (None, "answers decoded together (default: 16 on CPU, 64 on GPU)"),
        "max_tokens": (
            None,
            "tokens of keys and values, rows times the longest (default: 32768 on CPU, 131072 on "
            "GPU)",
        ),
        "max_queue": (128, "answers that may wait; beyond it 429 (default: %(default)s)"),
        "max_new_tokens": (
            256,
            "longest answer of a chat that does not say (default: %(default)s)",
        ),
        "deadline": (600, "seconds after which an answer is given up (default: %(default)s)"),
    }
    for name, (default, text) in counts.items():
        group.add_argument(
            f"--{name}", type=flag_values.positive_int, default=default, metavar="N", help=text
        )


def main(args: argparse.Namespace) -> int:
    choice, shape = arguments.get_model(args)
    # torch comes with it, and --help does without
    from utils.plans.serving import bind, plan_serving, read_key

    key = read_key(args)
    plan = plan_serving(args, choice, shape)
    place = bind(args)
    from llama_wrapper import LlamaWrapper
    from utils.serving.app import Limits
    from utils.serving.server import run_server

    wrapper = LlamaWrapper.load(
        choice, tokenizer=plan.source.tokenizer, **arguments.loading_options(args)
    )
    limits = Limits(key, args.host, args.deadline)
    run_server(desk_of(args, plan, wrapper), place, limits, browse=args.open)
    return 0


def desk_of(args: argparse.Namespace, plan: Plan, wrapper: LlamaWrapper) -> Desk:
    """What takes requests for this model, with the limits of the command line."""
    from utils.batching.engine import Engine
    from utils.serving.app import Desk
    from utils.serving.info import Info
    from utils.serving.planning import Planner
    from utils.serving.steering import Catalogue

    assert wrapper.choice is not None
    catalogue = Catalogue(wrapper.choice.label, wrapper.n_layers, plan.behaviors, plan.named)
    on_cpu = wrapper.device.type == "cpu"
    engine = Engine(
        wrapper,
        max_rows=args.max_rows or (CPU_ROWS if on_cpu else GPU_ROWS),
        max_queue=args.max_queue,
        max_tokens=args.max_tokens or (CPU_TOKENS if on_cpu else GPU_TOKENS),
    )
    planner = Planner(wrapper, catalogue, args.max_new_tokens)
    defaults = {"max_tokens": args.max_new_tokens, "temperature": 1.0, "top_p": 1.0}
    limits = {"rows": engine.max_rows, "queue": args.max_queue, "deadline": args.deadline}
    info = Info(
        catalogue,
        plan.names,
        plan.tuned,
        plan.origin.recorded() or {},
        planner.context,
        defaults,
        limits,
    )
    return Desk(planner, engine, info, args.deadline)


if __name__ == "__main__":
    script.run(build_parser(), main)
