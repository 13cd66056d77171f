"""What transformers shows of its own while it loads: progress bars and messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging


@contextlib.contextmanager
def library_output(*, bars: bool) -> Iterator[None]:
    """Errors alone, and progress bars if asked for; afterwards what was set before.

    It is set for the process, so it must not outlast the work: whoever imports the wrapper in a
    notebook has chosen what transformers tells them.
    """
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_shown = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    _show(bars)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        _show(shown)
        if not hub_shown:
            disable_progress_bars()


def _show(bars: bool) -> None:
    """Those of transformers and of the hub's client."""
    if bars:
        logging.enable_progress_bar()
    else:
        logging.disable_progress_bar()
