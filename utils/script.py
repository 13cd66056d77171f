"""What every script does around its ``main``: status, messages, closing lines."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from utils.errors import UserError


def print_written(paths: list[Path], seconds: float) -> None:
    """The closing lines of a script: what was written and how long it took."""
    if not paths:
        print("nothing to do: everything asked for is finished, from these very inputs")
        return
    for folder in dict.fromkeys(path.parent for path in paths):
        names = [path.name for path in paths if path.parent == folder]
        some = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)} files)"
        print(f"wrote {folder}/{some}")
    print(f"in {seconds:.1f} s")


def report_failures(failures: list[str]) -> int:
    """List what failed, last of all; the exit status of the script."""
    if failures:
        print(f"\n{len(failures)} failed:", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


def run(parser: argparse.ArgumentParser, main: Callable[[argparse.Namespace], int | None]) -> None:
    """Parse, run ``main`` and leave with the right status: 0, 1 (a part failed) or 2 (input)."""
    args = parser.parse_args()
    try:
        sys.exit(main(args))
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
