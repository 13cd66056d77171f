"""What every script does around its ``main``: status, messages, closing lines."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from utils import ranks
from utils.errors import LostRank, UserError
from utils.text.listing import cut
from utils.text.terminal_tables import plain_table


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table whose first column holds texts and whose others hold numbers."""
    print(plain_table(header, rows))


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
    if failures and ranks.rank() == 0:
        print(f"\n{len(failures)} failed:", *failures, sep="\n  ", file=sys.stderr)
    return 1 if failures else 0


def _parsed(parser: argparse.ArgumentParser, *, passes_on: bool) -> argparse.Namespace:
    parse = (lambda: parser.parse_known_args()[0]) if passes_on else parser.parse_args
    if ranks.speaks():
        return parse()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        return parse()


def run(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], int | None],
    *,
    passes_on: bool = False,
) -> None:
    """Parse, run ``main`` and leave with the right status: 0, 1 (a part failed) or 2 (input).

    Args:
        parser: its manual is the script's.
        main: what the script does.
        passes_on: what the parser does not know is for another program, which ``main`` starts.
    """
    args = _parsed(parser, passes_on=passes_on)
    # the scripts have messages of their own; transformers reads this when it is imported
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    ranks.quiet_all_but_main()
    name = parser.prog if ranks.rank_count() == 1 else f"{parser.prog} [rank {ranks.rank()}]"
    try:
        sys.exit(main(args))
    except UserError as error:
        if ranks.speaks():
            print(f"{name}: error: {cut(str(error))}", file=sys.stderr)
        sys.exit(2)
    except LostRank:
        print(
            f"{name}: another process of this run has died; what was finished is kept, the same "
            "command goes on",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
