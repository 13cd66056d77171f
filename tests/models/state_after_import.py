"""Run as a process: what importing the wrapper and loading a model change for everybody else."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

# What the libraries do when they are imported is theirs.
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

LIBRARIES = (AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel)
ROOT = Path(__file__).resolve().parent.parent.parent


def state() -> dict[str, Any]:
    found: dict[str, Any] = dict(os.environ)
    found["filters of warnings"] = list(warnings.filters)
    found["progress bars"] = transformers_logging.is_progress_bar_enabled()
    known = logging.root.manager.loggerDict.items()
    for name, logger in [("", logging.root), *known]:
        if isinstance(logger, logging.Logger):
            found[f"level of {name!r}"] = logger.level
            found[f"handlers of {name!r}"] = len(logger.handlers)
    return found


def changed(before: dict[str, Any]) -> list[str]:
    """Of a logger that is new since then: whether it was given a level."""
    after = state()
    return [name for name in after if after[name] != before.get(name, 0)]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    before = state()
    import llama_wrapper  # noqa: F401

    print("import", changed(before))
    from utils.models.choice import choose_model
    from utils.models.loading import load_model, load_tokenizer

    choice = choose_model(sys.argv[1], None, False)
    load_tokenizer(choice)
    load_model(choice, device="cpu")
    print("loading", changed(before))
