"""The model flags of scripts that read files of a model and never load it."""

from __future__ import annotations

import argparse

from utils.errors import UserError
from utils.models.choice import choose_model
from utils.models.labels import last_part


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """The model flags of a script that reads files of a model and never loads it."""
    group = parser.add_argument_group("model (default: every model found)")
    group.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help="as the other scripts take it, or the name as it stands in the files",
    )
    group.add_argument("--model_size", choices=["7b", "13b", "70b"], help="Llama 2 of this size")
    group.add_argument(
        "--use_base_model", action="store_true", help="the base model, or base prompt format"
    )


def model_label(args: argparse.Namespace) -> str | None:
    """The name in the files of the model that these flags name; ``None`` for every model.

    Raises:
        UserError: they name two.
    """
    if args.model is not None and args.model_size is not None:
        raise UserError("--model and --model_size name two models; give one of them")
    if args.model_size is not None:
        return choose_model(None, args.model_size, args.use_base_model).label
    if args.model is None and args.use_base_model:
        return choose_model(None, None, base=True).label
    label = last_part(args.model)
    return f"{label}_base" if args.use_base_model else label
