#!/usr/bin/env python3
"""Run EleutherAI's lm-evaluation-harness on a steered model: the harness's model type "caa".

The harness is no requirement of this project: pip install lm_eval==0.4.13. Everything behind
./caa_lm_eval.py is the harness's own command line (run, ls, validate), to which this script adds
a model type; its manual is: lm_eval run --help.

Full:   ./caa_lm_eval.py --model caa --tasks hellaswag --batch_size 16 \\
            --model_args model=smollm2-135m,behavior=refusal,layer=15,dose=0.3
Quick:  the same with --limit 20; multiplier=0 instead of the dose is the model unsteered

In --model_args:
  model          what --model of the scripts takes (default: the bundled model)
  behavior       whose normalised vector is added; or
  vector         a file with one plain tensor (.pt)
  layer          after which block
  multiplier     how often it is added; or
  dose           its strength in units of the residual stream's length (needs behavior)
  scope          which tokens are steered:
                   continuation       the context's last token and all later ones (default)
                   after_instruction  from the last token of the instruction on, as the other
                                      scripts do; with --apply_chat_template only
                   all                every token
  artifacts_dir  where normalized_vectors/ lies (default: the repository)
  device, dtype  as of the other scripts; and of the harness's "hf" model batch_size, max_length,
                 truncation, logits_cache, add_bos_token, chat_template_args, ...

From Python: caa_lm_eval.register(), then lm_eval.simple_evaluate(model="caa", model_args={...}).
What is steered, its vector's hash and its multiplier are in the harness's results under "caa".
"""

from __future__ import annotations

import argparse

from utils.cli import arguments, script
from utils.errors import UserError

TRIED = "0.4.13"


def build_parser() -> argparse.ArgumentParser:
    return arguments.make_parser(__doc__)


def register() -> None:
    """Make the model type ``caa`` known to the harness.

    Raises:
        UserError: the harness is not installed, or it is one that does not work here.
    """
    try:
        import lm_eval.models.huggingface  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"lm-evaluation-harness cannot be imported ({error}); it is no requirement of this "
            f"project: pip install lm_eval=={TRIED}"
        ) from error
    import utils.harness.caa_model  # noqa: F401


def main(_args: argparse.Namespace) -> int:
    """Hand the command line over; the harness reads it itself."""
    register()
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
    return 0


if __name__ == "__main__":
    script.run(build_parser(), main, passes_on=True)
