"""The flags that say how a finetuning run trains."""

from __future__ import annotations

import argparse

from utils.cli import arguments, flag_values


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """The group "training"."""
    group = parser.add_argument_group("training")
    number, rate = flag_values.positive_int, flag_values.finite_float
    group.add_argument("--lr", type=rate, default=1e-4, help="learning rate (default: 1e-4)")
    group.add_argument("--epochs", type=number, default=1, metavar="N", help="(default: 1)")
    group.add_argument(
        "--batch_size",
        type=number,
        default=4,
        metavar="N",
        help="pairs of one optimizer step, over all processes (default: 4)",
    )
    group.add_argument(
        "--grad_accumulation",
        type=number,
        default=1,
        metavar="N",
        help="compute each process's share of a step in N parts: less memory, the same numbers",
    )
    group.add_argument(
        "--optimizer",
        choices=["sgd", "adamw"],
        default="sgd",
        help="sgd as in the paper (default), or adamw (twice the memory for its state)",
    )
    group.add_argument(
        "--gradient_checkpointing",
        action="store_true",
        help="keep no activations of blocks, compute them again: less memory, slower",
    )
    group.add_argument(
        "--lora_rank",
        type=number,
        metavar="R",
        help="train a LoRA adapter of this rank; needs a higher --lr, or --optimizer adamw",
    )
    group.add_argument("--seed", type=int, default=0, help="of the order of pairs (default: 0)")
    group.add_argument(
        "--eval_every",
        type=number,
        metavar="N",
        help="also test every N steps (default: before and after only)",
    )
    group.add_argument(
        "--checkpoint_every",
        type=number,
        default=50,
        metavar="N",
        help="steps between checkpoints, of which the last is kept (default: 50)",
    )
    arguments.add_device_arguments(
        group,
        "of arithmetic (auto: float32, bfloat16 on GPU); weights that are trained are float32 in "
        "any case, 4 bytes each, since bfloat16 would lose most steps. With --lora_rank: of the "
        "weights that are not trained",
    )
