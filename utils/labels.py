"""Names of models as they stand in file names, from whatever a person types for a model."""

import argparse

from utils.errors import UserError
from utils.models import choose_model
from utils.named_models import find_named
from utils.paths import ResultName


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


def last_part(name: str | None) -> str | None:
    """A model's name as it stands in files, from whatever a script that loads it would take."""
    if name is None:
        return None
    named = find_named(name)
    return named.label if named else name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")


def limited_label(label: str, limit: int | None) -> str:
    """A model's name in file names; under ``--limit`` it says so."""
    return label if limit is None else f"{label}_limit={limit}"


def model_of(name: ResultName) -> str | None:
    """The model of a result."""
    if name.model_size is None:
        return name.model
    return choose_model(None, name.model_size, bool(name.use_base_model)).label
