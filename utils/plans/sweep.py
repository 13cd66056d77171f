"""From the flags of prompting_with_steering.py to sweeps, every input checked."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING, Any

import behaviors
from utils.cli import arguments, variant_arguments
from utils.data.evaluation import TESTS
from utils.data.items import ABItem, OpenItem
from utils.data.kinds_of_test import LetterTest, Test
from utils.data.orders import Asked, ask_in_both_orders
from utils.files.paths import Paths
from utils.models.choice import ModelChoice, ModelShape
from utils.models.identity import weights_fingerprint
from utils.plans.tuned_cells import asked_cells, check_tuned
from utils.plans.vector_choice import check_vectors, load_vectors
from utils.steering.prompt_source import PromptSource, Wanted, known_dtype
from utils.vectors.origin import Origin

if TYPE_CHECKING:
    from utils.sweeps.sweep import Sweep


def inputs_of_model(choice: ModelChoice, weights: str, args: argparse.Namespace) -> dict[str, Any]:
    """What the results depend on of the model and how it is loaded."""
    dtype = known_dtype(**arguments.loading_options(args))
    return {"model": choice.label, "weights": weights, "dtype": dtype}


def questions_of(
    args: argparse.Namespace, test: Test, behavior: str, paths: Paths
) -> Asked[ABItem] | Asked[OpenItem]:
    """The questions of a test as they are asked."""
    if isinstance(test, LetterTest):
        items = test.load(paths, behavior, args.limit)
        return ask_in_both_orders(items) if args.both_orders else Asked(items)
    return Asked(test.load(paths, behavior, args.limit))


def plan(
    args: argparse.Namespace, choice: ModelChoice, shape: ModelShape
) -> tuple[list[Sweep], PromptSource]:
    """All sweeps, every input checked before the model is loaded; and where prompts come from."""
    # numpy comes with it, and --help does without
    from utils.sweeps.sweep import Sweep

    paths = arguments.get_paths(args)
    chosen = behaviors.load_all(args.behaviors, paths)
    cells, tuned = asked_cells(args, [b.id for b in chosen], choice, shape, paths)
    system_prompts = {b.id: b.system_prompt(args.system_prompt) for b in chosen}
    variant = variant_arguments.variant_of(args, choice)
    test = TESTS[variant.type]
    asked = {b.id: questions_of(args, test, b.id, paths) for b in chosen}
    steered = {b: list(dict.fromkeys(n for n, s in own if s)) for b, own in cells.items()}
    weights = functools.cache(lambda: weights_fingerprint(choice))
    vectors = {
        b.id: load_vectors(args, b.id, steered[b.id], choice, shape, paths, weights) for b in chosen
    }

    source = PromptSource(choice, shape.context)
    sweeps = []
    model_inputs = inputs_of_model(choice, weights(), args) | {"kind": f"{test.type} results"}
    # the system prompt is what a vector is tried under, not what it was made with
    now = Origin.of(model_inputs | {"template": source.fingerprint()})
    if test.free_text:
        model_inputs["max_new_tokens"] = args.max_new_tokens
        model_inputs |= source.end_inputs()
    answer = args.max_new_tokens if test.free_text else None
    for behavior in (b.id for b in chosen):
        check_vectors(args, vectors[behavior], now)
        check_tuned(args, behavior, tuned, vectors[behavior])
        questions = asked[behavior].items
        make = functools.partial(test.prompts, questions)
        data, numbers = test.data(paths, behavior), asked[behavior].numbers
        wanted = Wanted(test.type, questions, data, make, answer, numbers)
        system_prompt = system_prompts[behavior]
        inputs = model_inputs | {
            "template": source.fingerprint(system_prompt),
            "data": questions.sha256,
            "items": len(questions),
        }
        prompts, said = source.prompts(wanted, system_prompt)
        sweep = Sweep(
            test=test,
            behavior=behavior,
            variant=variant,
            items=questions,
            prompts=prompts,
            vectors=vectors[behavior],
            cells=cells[behavior],
            inputs=inputs | said | asked[behavior].inputs,
            told=asked[behavior].told("questions"),
        )
        sweep.find_pending(paths, overwrite=args.overwrite)
        sweeps.append(sweep)
    return sweeps, source
