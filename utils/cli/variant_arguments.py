"""The flags that say which results of a model are meant: kind of test, variant, both orders."""

from __future__ import annotations

import argparse

from utils.cli.flag_values import strengths
from utils.data.evaluation import LETTER_TESTS, MMLU_FULL, TESTS
from utils.errors import UserError
from utils.files.names import Variant
from utils.models import labels
from utils.models.choice import ModelChoice


def add_both_orders_argument(group: argparse._ActionsContainer, help: str) -> None:
    group.add_argument("--both_orders", action="store_true", help=help)


def add_type_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--type",
        choices=[test.type for test in TESTS.values() if test.full_form_of is None],
        default="ab",
        help="kind of test (default: ab)",
    )
    parser.add_argument(
        "--mmlu_full", action="store_true", help="with --type mmlu: all questions of every subject"
    )


def test_type(args: argparse.Namespace) -> str:
    """The type as it stands in the names of results.

    Raises:
        UserError: --mmlu_full with another type.
    """
    if not args.mmlu_full:
        return str(args.type)
    if args.type != MMLU_FULL.full_form_of:
        raise UserError(f"--mmlu_full goes with --type {MMLU_FULL.full_form_of}")
    return MMLU_FULL.type


def add_variant_arguments(parser: argparse.ArgumentParser) -> None:
    """What tells one set of results from another, the model aside; part of their names."""
    group = parser.add_argument_group("variants")
    group.add_argument(
        "--system_prompt",
        choices=["pos", "neg"],
        help="the behaviour's own positive or negative system prompt",
    )
    group.add_argument(
        "--override_vector",
        type=int,
        metavar="L",
        help="use layer L's vector at every layer",
    )
    group.add_argument(
        "--override_vector_model",
        metavar="NAME",
        help="use the vectors of this model (the name in their files); widths must agree",
    )
    group.add_argument(
        "--override_model_weights_path",
        metavar="FILE",
        help="finetuned weights to load into the model",
    )
    add_both_orders_argument(
        group,
        "every question also with its choices exchanged: scores are the mean of both orders, and "
        "what answers say is told apart from their letters",
    )


def variant_of(args: argparse.Namespace, choice: ModelChoice) -> Variant:
    """What the results of this command line have in common (the weights' part is the model's).

    Raises:
        UserError: both orders of a test that has no choices.
    """
    kind = test_type(args)
    if args.both_orders and TESTS[kind].free_text:
        raise UserError(
            f"--both_orders exchanges the choices (A) and (B); --type {kind} has none. It goes "
            f"with --type {', '.join(LETTER_TESTS)}"
        )
    return Variant(
        type=kind,
        system_prompt=args.system_prompt,
        override_vector=args.override_vector,
        override_vector_model=labels.last_part(args.override_vector_model),
        limit=args.limit,
        both_orders=args.both_orders,
        unit=strengths(args)[0],
        **choice.result_parts(),
    )
