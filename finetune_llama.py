#!/usr/bin/env python3
"""Finetune a model towards or away from a behaviour: the baseline that steering is held against.

The model learns the token that holds the letter of one answer of every contrast pair, by
cross-entropy, nothing else. --direction pos is the answer that matches the behaviour, neg the
other. All weights are trained, with --layer one decoder block's, with --lora_rank an adapter.
Weights are float32 while they are trained, and in the file: arithmetic in bfloat16 (--dtype, or a
GPU) rounds none of them, but the model takes 4 bytes a weight. What is then loaded into a bfloat16
model is rounded there: prompting_with_steering.py --dtype float32 keeps all of it.

Full:   ./finetune_llama.py --behaviors sycophancy refusal --direction pos --model_size 7b
        accelerate launch --num_processes 8 finetune_llama.py --behaviors sycophancy ...
Quick:  ./finetune_llama.py --behaviors refusal --direction pos --layer 15 --limit 16

Reads   <datasets_dir>/generate/<behavior>/generate_dataset.json, and the A/B test beside it
Writes  <artifacts_dir>/finetuned_models/<behavior>_<pos|neg>_finetune_<layer or all>.pt
        (an adapter: a folder <behavior>_<pos|neg>_finetune_<layer or all>_lora=<rank>)
        <artifacts_dir>/analysis/<behavior>/finetune_....png and .txt: loss and held-out score;
        finetune_both_...: the same of both directions, once they have been trained alike
A killed run goes on from its last checkpoint. The same --batch_size gives the same loss curve on
any number of processes (DDP or FSDP, as `accelerate config` says).
Next: ./prompting_with_steering.py --override_model_weights_path finetuned_models/....pt
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import behaviors
from utils.cli import arguments, script, training_arguments
from utils.drawing.files import add_format_argument, written_as
from utils.errors import UserError
from utils.files.artifacts import fingerprint
from utils.models.choice import ModelChoice
from utils.plans.finetuning import Job, plan, prepare

if TYPE_CHECKING:
    from accelerate import Accelerator

    from utils.finetuning.checkpoints import HeldOutRow, StepRow

# What a figure says of a run, and its name in the record.
SETTINGS = {
    "model": "model",
    "pairs": "pairs",
    "optimizer": "optimizer",
    "learning rate": "lr",
    "epochs": "epochs",
    "batch size": "batch_size",
}


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    parser.add_argument(
        "--behaviors",
        "--behavior",
        nargs="+",
        required=True,
        metavar="B",
        help="behaviours, by the names of their data folders; each is trained on its own",
    )
    parser.add_argument(
        "--direction",
        required=True,
        choices=["pos", "neg"],
        help="learn the answer that matches the behaviour, or the other",
    )
    parser.add_argument(
        "--layer", type=int, metavar="L", help="train this decoder block only (default: all)"
    )
    training_arguments.add_training_arguments(parser)
    arguments.add_run_arguments(parser)
    arguments.add_model_arguments(parser)
    add_format_argument(parser)
    arguments.add_folder_arguments(parser)
    return parser


def finetune(
    args: argparse.Namespace, choice: ModelChoice, job: Job, accelerator: Accelerator
) -> str:
    """Train, draw and write; goes on from the last checkpoint of a killed run.

    Returns:
        Why no weights were written; empty if they were.
    """
    from utils.files.locks import lock
    from utils.finetuning.checkpoints import Checkpoints
    from utils.finetuning.loop import train
    from utils.finetuning.trained_weights import write_weights
    from utils.finetuning.tuner import Finetuner, Recipe

    started = time.monotonic()
    held = lock(job.lock, "at work on the same weights") if accelerator.is_main_process else None
    names = ("lr", "epochs", "batch_size", "grad_accumulation", "optimizer")
    options = {name: getattr(args, name) for name in (*names, "gradient_checkpointing", "seed")}
    # a model that is to be sharded may be too large for one device
    device = "cpu" if accelerator.distributed_type == "FSDP" else str(accelerator.device)
    model = prepare(args, choice, job, device)
    tuner = Finetuner(model, accelerator, Recipe(**options))
    del model  # the tuner's, which must be able to free it
    try:
        checkpoints = Checkpoints(job.state, fingerprint(job.inputs), accelerator)
        every = {"checkpoint_every": args.checkpoint_every, "eval_every": args.eval_every}
        curve, tests = train(tuner, job.examples, job.held_out, checkpoints, **every)
        weights = tuner.weights()
        if held is not None:
            # The weights say that the run has finished, so they come last.
            with written_as(args.format):
                written = draw(job, curve, tests)
            written += write_weights(tuner, weights, job.target, job.inputs)
            clean_up(job)
            report(curve, tests, written, time.monotonic() - started)
    except ArithmeticError as error:
        kept = f"\n  the last good checkpoint is kept: {job.state}" if job.state.exists() else ""
        advice = "lower --lr, or take --dtype float32"
        return f"{job.title}: {error}: no weights written; {advice}{kept}"
    finally:
        tuner.close()
    return ""


def clean_up(job: Job) -> None:
    """Delete what a run keeps until it has finished."""
    from utils.finetuning.checkpoints import remove_states

    remove_states(job.state)
    job.lock.unlink(missing_ok=True)


def main(args: argparse.Namespace) -> int:
    choice, shape = arguments.get_model(args)
    if args.layer is not None:
        arguments.check_layers([args.layer], shape, choice.label, flag="--layer")
    paths = arguments.get_paths(args)
    chosen = behaviors.load_all(args.behaviors, paths)
    jobs = [plan(args, described, choice, shape, paths) for described in chosen]

    from utils.finetuning.tuner import all_agree, end_processes, start_processes
    from utils.models.device import pick_device

    accelerator = start_processes(pick_device(args.device), jobs[0].precision.mixed)
    for job in jobs:
        if not all_agree(job.finished):
            raise UserError(
                f"{job.target} is finished for some of the processes only: all must write to the "
                "same --artifacts_dir, on a shared file system"
            )
        if job.finished and accelerator.is_main_process:
            clean_up(job)
    unfinished = [job for job in jobs if not job.finished]
    try:
        failed = [finetune(args, choice, job, accelerator) for job in unfinished]
    finally:
        end_processes(accelerator)
    if not unfinished:
        script.print_written([], 0)
    return script.report_failures([failure for failure in failed if failure])


def draw(job: Job, curve: list[StepRow], tests: list[HeldOutRow]) -> list[Path]:
    from utils.figures.training_figures import Run, both_figure, curve_figure, shown_names

    (name,) = shown_names({job.inputs["behavior"]: job.title}).values()
    what = "all weights" if job.inputs["layer"] == "all" else f"layer {job.inputs['layer']}"
    answer = "matching" if job.inputs["direction"] == "pos" else "other"
    title = f"{name}: finetuned on the {answer} answers, {what}"
    run = Run(curve, tests, {name: f"{job.inputs[key]}" for name, key in SETTINGS.items()})
    written = curve_figure(run, title, job.figure)
    return written + both_figure(job.figure, f"{name}: finetuned, {what}")


def report(
    curve: list[StepRow], tests: list[HeldOutRow], written: list[Path], seconds: float
) -> None:
    first, last = curve[0], curve[-1]
    print(f"loss {first['loss']:.4f} at step 1, {last['loss']:.4f} at step {last['step']}")
    rows = [
        [label, f"{r['score']:.3f}", f"[{r['low']:.3f}, {r['high']:.3f}]", f"{r['accuracy']:.2f}"]
        for label, r in (("before", tests[0]), ("after", tests[-1]))
    ]
    script.print_table(["held-out questions", "score", "95 % interval", "accuracy"], rows)
    script.print_written(written, seconds)


if __name__ == "__main__":
    script.run(build_parser(), main)
