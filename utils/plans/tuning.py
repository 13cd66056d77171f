"""What a choice of layer and strength needs, all found and checked; the test is not opened."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import behaviors
from utils.activations.saved import SIGNS, load_answers
from utils.cli import arguments, commands
from utils.cli.tuning_arguments import tuned_strengths
from utils.data.evaluation import AB
from utils.errors import UserError
from utils.files.artifacts import must_make
from utils.files.contents import sha256_file
from utils.files.paths import Paths
from utils.models.choice import ModelChoice, ModelShape
from utils.models.identity import weights_fingerprint
from utils.plans import vector_choice
from utils.plans.saved_sources import Remake, saved_source
from utils.steering.prompt_source import PromptSource, known_dtype
from utils.tuning.budgets import Budgets
from utils.tuning.chosen import read_choice
from utils.tuning.material import Material, load_neutral, load_pairs
from utils.tuning.run import Job
from utils.tuning.splits import hold_out, without
from utils.vectors.dose import SteeringVector
from utils.vectors.origin import Origin, check_alike, recorded_origin


@dataclass(frozen=True)
class Plan:
    """The choices to be made, and where those lie that are made already.

    Attributes:
        jobs, finished: of the behaviours asked for.
        material: what choices are made on.
        source: of prompts, and of the tokenizer.
        budgets: of damage.
    """

    jobs: list[Job]
    finished: dict[str, Path]
    material: Material
    source: PromptSource
    budgets: Budgets


def plan_tuning(args: argparse.Namespace, choice: ModelChoice, shape: ModelShape) -> Plan:
    """Everything that a choice needs, before the model is loaded.

    Raises:
        UserError: something is missing, damaged or of another model; names the command.
    """
    paths = arguments.get_paths(args)
    unit, strengths = tuned_strengths(args)
    names = [b.id for b in behaviors.load_all(args.behaviors, paths)]
    layers = vector_choice.steered_layers(args, names, choice, shape, paths)
    source = PromptSource(choice, shape.context)
    material = Material(source, paths, load_neutral(paths, args.neutral_prompts))
    budgets = Budgets.of(args.budget)
    weights = functools.cache(lambda: weights_fingerprint(choice))
    inputs = {
        "kind": "tuning",
        "model": choice.label,
        "weights": weights(),
        "dtype": known_dtype(**arguments.loading_options(args)),
        "template": source.fingerprint(),
        "neutral": material.neutral.sha256,
        "knowledge": material.knowledge.sha256,
        "unit": unit,
        "strengths": strengths,
        "direction": args.direction,
        "late_layers": args.late_layers,
        "budgets": budgets.recorded(),
    }
    jobs: list[Job] = []
    finished: dict[str, Path] = {}
    for behavior in names:
        vectors = vector_choice.load_vectors(args, behavior, layers, choice, shape, paths, weights)
        vector_choice.check_vectors(args, vectors, Origin.of(inputs))
        job = _job(args, behavior, choice, material, inputs, vectors)
        made = not must_make(job.place, job.inputs, overwrite=args.overwrite)
        if made and not _other_test(job, paths, overwrite=args.overwrite):
            finished[behavior] = job.place
        else:
            jobs.append(job)
    return Plan(jobs, finished, material, source, budgets)


def _job(
    args: argparse.Namespace,
    behavior: str,
    choice: ModelChoice,
    material: Material,
    inputs: Mapping[str, Any],
    vectors: Mapping[int, SteeringVector],
) -> Job:
    paths = material.paths
    test = paths.test_data(behavior, "ab")
    if not test.exists():
        raise UserError(f"missing data file {test}\n{AB.made_by}")
    remake = Remake(behavior, commands.model_flags(args) + commands.folder_flags(args))
    saved = saved_source(paths, behavior, choice.label, list(vectors), remake)
    files = [paths.activations(behavior, s, n, choice.label) for n in vectors for s in SIGNS]
    origins = {path: recorded_origin(path) for path in files}
    check_alike(origins | {paths.artifacts: Origin.of(inputs)}, "used")
    pairs = load_pairs(paths, behavior)
    split = hold_out(pairs, behavior)
    learnt = {
        layer: without(load_answers(saved, layer, paths), split, vector, layer, saved)
        for layer, vector in vectors.items()
    }
    more = {
        "data": pairs.sha256,
        "vectors": {str(layer): vector.sha256 for layer, vector in vectors.items()},
        "activations": {path.name: sha256_file(path) for path in files},
    }
    unit, strengths = tuned_strengths(args)
    return Job(
        behavior,
        choice.label,
        paths.tuning(behavior, choice.label),
        {**inputs, **more},
        split,
        vectors,
        learnt,
        strengths,
        unit,
        args.direction,
        material.for_choice(behavior, split.questions),
    )


def _other_test(job: Job, paths: Paths, *, overwrite: bool) -> bool:
    """Whether a choice was reported on another test than there is now, and is to be made again.

    The choice does not depend on the test, so neither do its recorded inputs.

    Raises:
        UserError: it was, and is not to be overwritten.
    """
    test = paths.test_data(job.behavior, "ab")
    _, reported = read_choice(job.place)
    if reported in (None, sha256_file(test)):
        return False
    if not overwrite:
        raise UserError(
            f"{job.place} reports another test than {test} holds now\n"
            "Use --overwrite to make it again, or --artifacts_dir to write elsewhere."
        )
    return True
