#!/usr/bin/env python3
"""Make steering vectors from contrast pairs.

For each pair (one question, two answers that differ only in the letter) the residual stream is
read at the token of the answer letter, after every layer asked for, for the matching and for the
other answer. The vector of a layer is the mean over pairs of (matching - other).

Layers are numbered from 0 and mean the output of that decoder block.

Full:   ./generate_vectors.py --behaviors sycophancy refusal --save_activations
Quick:  ./generate_vectors.py --layers 12 --behaviors sycophancy --limit 8

Reads   <datasets_dir>/generate/<behavior>/generate_dataset.json
Writes  <artifacts_dir>/vectors/<behavior>/vec_layer_<L>_<model>.pt
        <artifacts_dir>/activations/<behavior>/activations_{pos,neg}_<L>_<model>.pt
A killed run goes on where it stood; finished vectors are skipped. Next: ./normalize_vectors.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from utils.cli import arguments, script, variant_arguments
from utils.errors import UserError
from utils.extraction.layer_stats import LayerStats, stats_table
from utils.files.artifacts import fingerprint, save, torch_bytes
from utils.files.contents import read_measured
from utils.files.paths import Paths
from utils.plans.vectors import Job, plan, targets_of
from utils.prompts.shown import show_tokens
from utils.ranks import Ranks
from utils.text.progress import progress

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper
    from utils.extraction.vector_sums import AllSums


def build_parser() -> argparse.ArgumentParser:
    parser = arguments.make_parser(__doc__)
    arguments.add_behavior_argument(parser)
    arguments.add_layers_argument(parser, default="all of the model")
    parser.add_argument(
        "--save_activations",
        action="store_true",
        help="also keep every pair's activations (needed by plot_activations.py)",
    )
    variant_arguments.add_both_orders_argument(
        parser,
        "of every pair also with its choices exchanged; the model's name in file names gets "
        "_both_orders, and --override_vector_model steers with what has that name",
    )
    arguments.add_show_tokens_argument(parser)
    arguments.add_run_arguments(parser)
    arguments.add_model_arguments(parser)
    arguments.add_compute_arguments(parser)
    arguments.add_folder_arguments(parser)
    return parser


def compute(
    job: Job, wrapper: LlamaWrapper, paths: Paths, args: argparse.Namespace, ranks: Ranks
) -> list[Path]:
    """This rank's share of one behaviour's pairs, also after a kill; the main rank writes files."""
    from utils.extraction.pairs import PairOutputs
    from utils.extraction.vector_sums import AllSums, Kind, VectorSums, remove

    pairs = PairOutputs(wrapper, job.prompts, job.layers, budget=args.batch_tokens)
    if pairs.rounding is not None:
        print(f"{job.behavior}: {pairs.rounding}")
    key = fingerprint(job.inputs | {"layers": job.layers, "batches": pairs.batches})
    shape = (len(job.layers), wrapper.width)
    kind = Kind(key, shape, wrapper.dtype if args.save_activations else None)

    def parts() -> list[Path]:
        return paths.all_vector_progress(job.behavior, job.label)

    done = ranks.from_main(lambda: frozenset(AllSums(parts(), kind).order))
    left = [batch for batch in pairs.batches if not done.issuperset(batch)]
    with (
        VectorSums(paths.vector_progress(job.behavior, job.label, ranks.index), kind) as sums,
        progress(total=len(job.prompts), initial=len(done), desc=job.behavior, unit="pair") as bar,
    ):
        for batch in ranks.share(left):
            sums.add(batch, pairs.readings(batch), [job.signs[i] for i in batch])
            bar.update(len(batch))
        sums.save()
        ranks.wait()
        if not ranks.is_main:
            return []
        try:
            written = write(job, AllSums(parts(), kind), paths, args)
        except ArithmeticError:
            remove(parts())
            raise
        remove(parts())
        return written


def write(job: Job, found: AllSums, paths: Paths, args: argparse.Namespace) -> list[Path]:
    """Write the files of one behaviour from the sums over all pairs.

    Raises:
        UserError: pairs are missing: the ranks do not see one another's files.
        ArithmeticError: NaN or infinite activations.
    """
    from utils.extraction.vector_stats import layer_stats

    missing = len(set(range(len(job.prompts))) - set(found.order))
    if missing:
        raise UserError(
            f"{missing} of {len(job.prompts)} pairs are missing in {paths.artifacts}: all "
            "processes must write to the same --artifacts_dir, on a shared file system"
        )
    if len(found.order) > len(job.prompts):
        raise UserError(
            f"some pairs of {job.behavior} were summed twice, by two runs at once; delete the "
            f"hidden .progress_ files in {paths.vector_progress(job.behavior, job.label).parent}"
        )
    moments = found.moments()
    means = moments.vectors()
    if not bool(means.isfinite().all() and moments.sizes.isfinite().all()):
        raise ArithmeticError(
            f"{job.behavior}: NaN or infinite activations; nothing was written. "
            "Try --dtype bfloat16 or float32."
        )
    written = []
    for i, layer in enumerate(job.layers):
        contents = [means[i].float().clone()]
        if args.save_activations:
            contents += [found.activations(i, answer) for answer in range(2)]
        targets = targets_of(job, layer, paths, args.save_activations)
        for target, tensor in zip(targets, contents, strict=True):
            if target.path in job.wanted:
                measured = asdict(layer_stats(moments, i)) if target.measures else None
                save(target.path, torch_bytes(tensor), target.inputs, measured)
                written.append(target.path)
    return written


def main(args: argparse.Namespace) -> int:
    started = time.monotonic()
    choice, shape = arguments.get_model(args)
    layers = arguments.check_layers(args.layers, shape, choice.label)
    paths = arguments.get_paths(args)
    jobs, source = plan(args, choice, shape, layers, paths)
    if args.show_tokens:
        print(show_tokens(jobs[0].prompts[0], source.tokenizer, read="the letter's token"))
        return 0
    written: list[Path] = []
    failures: list[str] = []
    unfinished = [job for job in jobs if job.layers]
    if unfinished:
        from llama_wrapper import LlamaWrapper

        ranks = Ranks()
        wrapper = LlamaWrapper.load(
            choice, tokenizer=source.tokenizer, **arguments.loading_options(args)
        )
        for job in unfinished:
            try:
                written += compute(job, wrapper, paths, args, ranks)
            except ArithmeticError as error:
                failures.append(str(error))
        ranks.close()
    report(jobs, layers, paths, args.limit)
    script.print_written(written, time.monotonic() - started)
    return script.report_failures(failures)


def report(jobs: list[Job], layers: list[int], paths: Paths, limit: int | None) -> None:
    """What was made, and for every layer what its vector's record knows."""
    tried = "" if limit is None else " (a try: --limit)"
    for job in jobs:
        kept = len(layers) - len(job.layers)
        pairs = job.inputs["pairs"]
        files = {n: paths.vector(job.behavior, n, job.label, normalized=False) for n in layers}
        measured = {n: read_measured(path) for n, path in files.items()}
        stats = {n: LayerStats(**values) for n, values in measured.items() if values}
        print(f"\n{job.behavior}: {pairs} pairs{tried}, {len(job.layers)} layers made, {kept} kept")
        print(*filter(None, [job.told, stats_table(stats, pairs)]), sep="\n")


if __name__ == "__main__":
    script.run(build_parser(), main)
