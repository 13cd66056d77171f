"""From the flags of generate_vectors.py to jobs, every input checked; and the files of a job."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import behaviors
from utils.cli import arguments
from utils.data.items import ABItem, load_ab_items
from utils.data.orders import Asked, ask_in_both_orders
from utils.errors import UserError
from utils.files.artifacts import must_make
from utils.files.paths import Paths
from utils.models import labels
from utils.models.choice import ModelChoice, ModelShape
from utils.models.identity import weights_fingerprint
from utils.prompts.format import LetterPrompt, PromptFormat
from utils.steering.prompt_source import PromptSource, Wanted, known_dtype

GET_DATA = "Each behaviour's pairs belong there; --datasets_dir names another data folder."
SIGNS = ("pos", "neg")


@dataclass
class Job:
    """The unfinished part of one behaviour; ``label`` stands for its model in names."""

    behavior: str
    label: str
    prompts: Sequence[LetterPrompt]
    signs: list[int]
    layers: list[int]
    inputs: dict[str, Any]
    told: str = ""
    wanted: set[Path] = field(default_factory=set)


class Target(NamedTuple):
    """A file to make, the inputs it depends on, and what its record must hold beside them."""

    path: Path
    inputs: dict[str, Any]
    measures: tuple[str, ...] = ()


def targets_of(job: Job, layer: int, paths: Paths, keep: bool) -> list[Target]:
    """Every file of one layer, its vector first."""
    inputs = job.inputs | {"layer": layer}
    vector = paths.vector(job.behavior, layer, job.label, normalized=False)
    targets = [Target(vector, inputs, ("residual_norm",))]
    if keep:
        targets += [
            Target(paths.activations(job.behavior, s, layer, job.label), inputs | {"answers": s})
            for s in SIGNS
        ]
    return targets


def unfinished_files(job: Job, paths: Paths, args: argparse.Namespace) -> set[Path]:
    """The files that are to be made; every file is asked about, for its faults."""
    return {
        target.path
        for layer in job.layers
        for target in targets_of(job, layer, paths, args.save_activations)
        if must_make(target.path, target.inputs, overwrite=args.overwrite, measures=target.measures)
    }


def pair_prompts(pairs: Sequence[ABItem], prompt_format: PromptFormat) -> list[LetterPrompt]:
    return [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in pairs]


def plan(
    args: argparse.Namespace,
    choice: ModelChoice,
    shape: ModelShape,
    layers: list[int],
    paths: Paths,
) -> tuple[list[Job], PromptSource]:
    """Check all inputs, the tokens included, and find what is not finished yet."""
    if args.both_orders and args.save_activations:
        raise UserError(
            "--save_activations goes without --both_orders: nothing reads such activations"
        )
    label = labels.limited_label(choice.label, args.limit, both_orders=args.both_orders)
    chosen = [b.id for b in behaviors.load_all(args.behaviors, paths)]
    data = {b: paths.generate_data(b) for b in chosen}
    items = {b: load_ab_items(p, made_by=GET_DATA, limit=args.limit) for b, p in data.items()}

    source = PromptSource(choice, shape.context)
    dtype = known_dtype(**arguments.loading_options(args))
    jobs = []
    for behavior, read in items.items():
        asked = ask_in_both_orders(read) if args.both_orders else Asked(read)
        pairs = asked.items
        inputs = {
            "kind": "vector",
            "behavior": behavior,
            "model": choice.label,
            "weights": weights_fingerprint(choice),
            "dtype": dtype,
            "template": source.fingerprint(),
            "data": pairs.sha256,
            "pairs": len(pairs),
        } | asked.inputs
        make = functools.partial(pair_prompts, pairs)
        wanted = Wanted("pairs", pairs, data[behavior], make, numbers=asked.numbers)
        prompts, said = source.prompts(wanted)
        inputs |= said
        signs = [1 if item.matching < item.other else -1 for item in pairs]
        job = Job(behavior, label, prompts, signs, layers, inputs, asked.told("pairs"))
        job.wanted = unfinished_files(job, paths, args)
        keep = args.save_activations
        job.layers = [
            layer
            for layer in layers
            if any(t.path in job.wanted for t in targets_of(job, layer, paths, keep))
        ]
        jobs.append(job)
    return jobs, source
