"""Flags of commands that are shown to the user: how to make what is missing."""

from __future__ import annotations

import argparse
import shlex

from utils.cli.arguments import DATASETS
from utils.files.paths import REPOSITORY


def model_flags(args: argparse.Namespace) -> str:
    """The model flags of a command, to be repeated in a command that is shown to the user."""
    flags = [
        f" --{flag} {shlex.quote(value)}"
        for flag in ("model", "model_size")
        if (value := getattr(args, flag))
    ]
    return "".join(flags) + (" --use_base_model" if args.use_base_model else "")


def folder_flags(args: argparse.Namespace) -> str:
    """The folder flags of a command that is shown to the user, where they are not the default."""
    flags = []
    for flag, default in (("artifacts_dir", REPOSITORY), ("datasets_dir", DATASETS)):
        value = getattr(args, flag)
        if str(value) != str(default):
            flags.append(f" --{flag} {shlex.quote(str(value))}")
    return "".join(flags)
