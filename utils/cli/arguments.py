"""The command line: flags that several scripts share, and their checks.

No torch here: ``--help`` and wrong input must answer at once.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from utils.cli.flag_values import (
    NEGATIVE_NUMBER,
    TUNED,
    LayersAction,
    layer_range,
    positive_int,
    tuned_layer_range,
)
from utils.errors import UserError
from utils.files.file_system import check_root
from utils.files.names import BOTH_ORDERS
from utils.files.paths import REPOSITORY, Paths
from utils.models.choice import ModelChoice, ModelShape, check_access, choose_model, read_shape
from utils.text.listing import numbered
from utils.weights.named import BUNDLED, NAMED_MODELS

DATASETS = REPOSITORY / "datasets"


def make_parser(docstring: str) -> argparse.ArgumentParser:
    """A parser whose manual is the script's docstring."""
    parser = argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # its own pattern takes -1e-2 for a flag; there is no public way to say so
    parser._negative_number_matcher = NEGATIVE_NUMBER
    return parser


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--datasets_dir",
        default=os.environ.get("CAA_DATASETS_DIR", str(DATASETS)),
        metavar="DIR",
        help="data folder (default: $CAA_DATASETS_DIR, else datasets/ of the repository)",
    )
    parser.add_argument(
        "--artifacts_dir",
        default=str(REPOSITORY),
        metavar="DIR",
        help="where vectors/, results/, analysis/ ... are read and written "
        "(default: the repository)",
    )


def add_behavior_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--behaviors",
        nargs="+",
        metavar="B",
        help="behaviours, by the names of their data folders (default: all)",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model (default: the bundled SmolLM2-135M-Instruct)")
    names = ", ".join(row.name for row in NAMED_MODELS if row is not BUNDLED)
    group.add_argument(
        "--model",
        metavar="NAME_OR_PATH",
        help=f"{names} (no account needed), a hub id, a local model folder or a .gguf file",
    )
    group.add_argument("--model_size", choices=["7b", "13b", "70b"], help="Llama 2 of this size")
    group.add_argument(
        "--use_base_model",
        action="store_true",
        help="base weights (with --model_size) and the base prompt format "
        "(Input: ... / Response: ...)",
    )
    group.add_argument(
        "--no_model_cache",
        action="store_true",
        help="do not keep a .gguf file's weights as float32 in the cache folder: needs no disk, "
        "but parses the file at every start",
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Where and in which numbers the model runs; the group, for more flags."""
    group = parser.add_argument_group("compute")
    add_device_arguments(group, "weights and activations (auto: float32 on CPU, bfloat16 on GPU)")
    group.add_argument(
        "--load_in",
        choices=["4bit", "8bit"],
        help="quantise the weights while loading (bitsandbytes)",
    )
    group.add_argument(
        "--device_map",
        choices=["auto", "balanced", "sequential"],
        help="spread a model that is larger than one device over all of them (accelerate)",
    )
    return group


def add_compute_arguments(parser: argparse.ArgumentParser) -> None:
    group = add_loading_arguments(parser)
    group.add_argument(
        "--batch_tokens",
        type=positive_int,
        metavar="N",
        help="tokens in one forward pass, all steered copies counted (default: 768 on CPU, "
        "16384 on GPU)",
    )
    group.add_argument(
        "--batch_rows",
        type=positive_int,
        metavar="N",
        help="open-ended answers decoded together (default: 100 on CPU, 512 on GPU)",
    )


def add_device_arguments(group: argparse._ArgumentGroup, dtype_help: str) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    group.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "float32", "bfloat16", "float16"],
        help=dtype_help,
    )


def loading_options(args: argparse.Namespace) -> dict[str, Any]:
    """How the model is to be loaded: the keyword arguments of ``LlamaWrapper.load``."""
    names = ("device", "dtype", "load_in", "device_map")
    return {name: getattr(args, name) for name in names}


def add_overwrite_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that were made from other inputs or came from elsewhere",
    )


def add_redraw_argument(parser: argparse.ArgumentParser) -> None:
    text = "also draw figures again that show what is gone"
    parser.add_argument("--overwrite", action="store_true", help=text)


def add_layers_argument(
    parser: argparse.ArgumentParser, *, default: str, tuned: bool = False
) -> None:
    """``--layers``: a list of layers, or ``None`` for ``all`` and where it is left out.

    Args:
        parser: gets the flag.
        default: which are all, in words.
        tuned: whether ``tuned`` is taken too, and kept as it is.
    """
    own = f", {TUNED} (what tune.py has chosen)" if tuned else ""
    parser.add_argument(
        "--layers",
        nargs="+",
        type=tuned_layer_range if tuned else layer_range,
        action=LayersAction,
        metavar="L",
        help=f"decoder blocks, counted from 0: 13, 0-29, all, or several of these{own} (default: "
        f"{default})",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add_overwrite_argument(parser)
    add_limit_argument(
        parser, "first N items only, for a quick try; it becomes part of the names written"
    )


def add_limit_argument(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--limit", type=positive_int, metavar="N", help=help)


def add_show_tokens_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--show_tokens",
        action="store_true",
        help="print the tokens of one example, which is read and which are steered, and leave",
    )


def get_paths(args: argparse.Namespace) -> Paths:
    """The folders named on the command line, checked.

    Raises:
        UserError: a data folder that is none, or an artefact folder that cannot be written.
    """
    datasets = Path(args.datasets_dir)
    if not datasets.is_dir():
        raise UserError(f"--datasets_dir: no such folder: {datasets}")
    return Paths(check_root(Path(args.artifacts_dir), "--artifacts_dir"), datasets)


def get_model(args: argparse.Namespace) -> tuple[ModelChoice, ModelShape]:
    """The model named on the command line and what is known of it without loading it.

    Raises:
        UserError: see :mod:`utils.models.choice`; or a name that says what only a flag may.
    """
    weights = getattr(args, "override_model_weights_path", None)
    keep = not getattr(args, "no_model_cache", False)
    choice = choose_model(
        args.model, args.model_size, args.use_base_model, weights, keep_converted=keep
    )
    check_access(choice)
    named = {choice.label, *map(str, choice.result_parts().values())}
    if taken := [name for name in named if name.endswith(BOTH_ORDERS)]:
        raise UserError(
            f"{taken[0]}: names that end in {BOTH_ORDERS} are those of what --both_orders makes; "
            "give the folder or file another name"
        )
    return choice, read_shape(choice)


def check_layers(
    layers: list[int] | None, shape: ModelShape, label: str, *, flag: str = "--layers"
) -> list[int]:
    """The layers in ascending order, each once; ``None`` for all that the model has.

    Raises:
        UserError: a layer that the model does not have, or nobody knows how many it has.
    """
    if layers is None:
        if shape.layers is None:
            raise UserError(f"{flag}: how many layers {label} has is not known; name those wanted")
        return list(range(shape.layers))
    last = None if shape.layers is None else shape.layers - 1
    wrong = [n for n in layers if n < 0 or (last is not None and n > last)]
    if wrong:
        has = "0 and above" if last is None else f"0 to {last}"
        raise UserError(f"{flag} {numbered(wrong)}: {label} has layers {has}")
    return sorted(set(layers))
