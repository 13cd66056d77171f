"""``--controls``: which there can be for a vector, what they are made of, and their sweeps."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import behaviors
from utils.cli import commands, flag_values
from utils.data.evaluation import AB
from utils.data.items import ABItem, Items
from utils.data.orders import both_orders
from utils.errors import UserError
from utils.files.contents import sha256_file
from utils.files.paths import Paths
from utils.models.choice import ModelChoice
from utils.plans.vector_choice import check_vectors, vectors_label
from utils.steering.prompt_source import PromptSource, Wanted
from utils.vectors import control_names
from utils.vectors.dose import SteeringVector
from utils.vectors.origin import Origin

if TYPE_CHECKING:
    from torch import Tensor

    from utils.activations.saved import Source
    from utils.sweeps.control_sweep import ControlSweep
    from utils.sweeps.sweep import Sweep
    from utils.vectors.controls import Differences

# Length of the difference between a vector and the mean of its pairs, in lengths of the vector.
ALIKE = 0.01


def add_control_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("controls")
    group.add_argument(
        "--controls",
        nargs="+",
        choices=control_names.KINDS,
        metavar="KIND",
        help="with --type ab: also what other vectors do in its place, in both orders of the "
        "choices: random directions, shuffled labels of the contrast pairs, the letter direction, "
        "others (the other behaviours' vectors)",
    )
    group.add_argument(
        "--control_draws",
        type=flag_values.positive_int,
        metavar="N",
        help=f"random and shuffled controls of each layer (default: {control_names.DRAWS}; fewer "
        "than 19 give no p)",
    )
    group.add_argument("--control_seed", type=int, metavar="N", help="of their draws (default: 0)")


def check_control_flags(args: argparse.Namespace) -> None:
    """Refuse flags that go together with none of the others.

    Raises:
        UserError: says which do.
    """
    if args.controls is None:
        if (args.control_draws, args.control_seed) != (None, None):
            raise UserError("--control_draws and --control_seed go with --controls")
        return
    if args.type != AB.type:
        raise UserError(f"--controls goes with --type {AB.type}")
    if not any(flag_values.strengths(args)[1] or []):
        raise UserError("--controls needs a multiplier or dose other than 0")


def plan_controls(
    args: argparse.Namespace,
    sweeps: Sequence[Sweep],
    source: PromptSource,
    choice: ModelChoice,
    paths: Paths,
) -> list[ControlSweep]:
    """The controls of some sweeps, every input checked; none without ``--controls``.

    Args:
        args: the command line of prompting_with_steering.py.
        sweeps: as they are planned.
        source: where prompts come from.
        choice: the model.
        paths: where everything lies.

    Raises:
        UserError: no controls can be made, or activations of the pairs are missing.
    """
    if args.controls is None:
        return []
    found = [_controls_of(args, sweep, source, choice, paths) for sweep in sweeps]
    for sweep in found:
        sweep.find_pending(paths, overwrite=args.overwrite)
    return found


def _controls_of(
    args: argparse.Namespace,
    sweep: Sweep,
    source: PromptSource,
    choice: ModelChoice,
    paths: Paths,
) -> ControlSweep:
    """The controls of one behaviour."""
    from utils.scores.control_rows import control_content
    from utils.sweeps.control_sweep import ControlSweep

    items = [item for item in sweep.items if isinstance(item, ABItem)]
    turned, kept = both_orders(items)
    asked = Items([item for item in turned if item is not None], sweep.inputs["data"])
    make = functools.partial(AB.prompts, asked)
    wanted = Wanted("ab exchanged", asked, AB.data(paths, sweep.behavior), make)
    system_prompt = behaviors.load(sweep.behavior, paths).system_prompt(args.system_prompt)
    exchanged, _ = source.prompts(wanted, system_prompt)
    now = Origin.of(sweep.inputs | {"template": source.fingerprint()})
    plan = _Plan(args, sweep, now, vectors_label(args, sweep.behavior, choice, paths), paths)
    return ControlSweep(
        sweep=sweep,
        exchanged=exchanged,
        names={layer: plan.names(layer) for layer in sweep.vectors},
        inputs={layer: plan.inputs(layer) for layer in sweep.vectors},
        make=plan.rows,
        content=functools.partial(control_content, sweep.behavior, items, kept),
    )


class _Plan:
    """Which controls there are of one behaviour's vectors, and what each layer's depend on.

    Args:
        args: the command line.
        sweep: steered with those vectors.
        now: the model that is steered.
        label: the model's name in the names of the vectors.
        paths: where everything lies.

    Raises:
        UserError: see :func:`plan_controls`.
    """

    def __init__(
        self, args: argparse.Namespace, sweep: Sweep, now: Origin, label: str, paths: Paths
    ) -> None:
        self.args, self.sweep, self.label, self.paths = args, sweep, label, paths
        self.draws = args.control_draws or control_names.DRAWS
        self.seed = args.control_seed or 0
        wanted = [kind for kind in control_names.KINDS if kind in args.controls]
        layers = sorted({self._made_at(layer) for layer in sweep.vectors})
        self.source: Source | None = None
        lacking = {}
        if (reason := self._without_pairs(wanted, layers)) is not None:
            lacking = dict.fromkeys(control_names.FROM_PAIRS, reason)
        self.others = {n: self._others(n, now) for n in layers if "others" in wanted}
        if not any(self.others.values()):
            lacking["others"] = f"no other behaviour has vectors of {label} there"
        left_out = {kind: lacking[kind] for kind in wanted if kind in lacking}
        self.kinds = [kind for kind in wanted if kind not in left_out]
        told = "; ".join(f"no {kind} controls: {why}" for kind, why in left_out.items())
        if not self.kinds:
            raise UserError(f"{sweep.behavior}: {told}\nAsk for --controls random")
        if told:
            print(f"{sweep.behavior}: {told}")

    def _made_at(self, layer: int) -> int:
        """The layer whose vector is added at a layer."""
        return layer if self.args.override_vector is None else self.args.override_vector

    def _without_pairs(self, wanted: Sequence[str], layers: Sequence[int]) -> str | None:
        """Why there are no controls from the contrast pairs; ``None`` if there are."""
        if not set(wanted) & set(control_names.FROM_PAIRS):
            return None
        # numpy comes with it, and --help does without
        from utils.plans.saved_sources import source_of

        behavior = self.sweep.behavior
        if any(v.origin.weights is None for v in self.sweep.vectors.values()):
            return "no record says which pairs the vectors were made from"
        self.source = source_of(behavior, self.label, layers, self.paths, self._flags())
        letters = [matching for matching, _ in self.source.letters]
        if min(letters.count("A"), letters.count("B")) < 2:
            return (
                f"{letters.count('A')} of {len(letters)} pairs have A as their matching letter "
                f"and {letters.count('B')} have B; it takes two of each"
            )
        return None

    def _flags(self) -> str:
        """Of the command that saves the activations of the vectors' pairs."""
        from utils.plans.saved_sources import model_flags

        folders = commands.folder_flags(self.args)
        if self.args.override_vector_model is not None:
            return model_flags(self.label) + folders
        tried = self.label.endswith(f"_limit={self.args.limit}")
        return commands.model_flags(self.args) + f" --limit {self.args.limit}" * tried + folders

    def _others(self, layer: int, now: Origin) -> dict[str, SteeringVector]:
        """The other behaviours' vectors of a layer."""
        found = {}
        width = next(iter(self.sweep.vectors.values())).stored.width
        for behavior in self.paths.behaviors_with_vectors(normalized=True):
            there = (layer, self.label) in self.paths.vectors_of(behavior, normalized=True)
            if there and behavior != self.sweep.behavior:
                vector = SteeringVector.read(
                    self.paths, behavior, layer, self.label, made_by="", width=width
                )
                check_vectors(self.args, {layer: vector}, now)
                found[behavior] = vector
        return found

    def names(self, layer: int) -> list[str]:
        """Of all controls at a layer, in the order of their kinds."""
        of = {kind: control_names.drawn(kind, self.draws) for kind in control_names.DRAWN}
        of["letter"] = ["letter"]
        others = self.others.get(self._made_at(layer), {})
        of["others"] = [control_names.other(behavior) for behavior in others]
        return [name for kind in self.kinds for name in of[kind]]

    def inputs(self, layer: int) -> dict[str, Any]:
        """What the controls at a layer depend on, beside the vector, the questions, the model."""
        from utils.activations.saved import SIGNS

        made_at = self._made_at(layer)
        found: dict[str, Any] = {"kind": "ab controls", "orders": "both"}
        found["controls"] = " ".join(self.kinds)
        if set(self.kinds) & set(control_names.DRAWN):
            found |= {"draws": self.draws, "seed": self.seed}
        if "shuffled" in self.kinds:
            found["shuffled"] = "at their own length"
        if set(self.kinds) & set(control_names.FROM_PAIRS):
            behavior = self.sweep.behavior
            files = {s: self.paths.activations(behavior, s, made_at, self.label) for s in SIGNS}
            found["activations"] = {sign: sha256_file(path) for sign, path in files.items()}
            found["pairs"] = sha256_file(self.paths.generate_data(behavior))
        if "others" in self.kinds:
            found["others"] = {b: v.sha256 for b, v in self.others.get(made_at, {}).items()}
        return found

    def rows(self, layer: int) -> Tensor:
        """The controls at a layer, in lengths of its vector; shape (controls, width).

        Raises:
            UserError: activations that are damaged, or of other pairs than the vector.
        """
        from utils.vectors.controls import named_controls

        from_pairs = set(self.kinds) & set(control_names.FROM_PAIRS)
        others = self.others.get(self._made_at(layer), {})
        return named_controls(
            self.names(layer),
            self.sweep.behavior,
            layer,
            self.sweep.vectors[layer].stored.width,
            seed=self.seed,
            pairs=self._differences(layer) if from_pairs else None,
            others={behavior: vector.vector for behavior, vector in others.items()},
        )

    def _differences(self, layer: int) -> Differences:
        """What the vector's pairs differ by at its layer.

        Raises:
            UserError: their mean is another vector.
        """
        import torch

        from utils.activations.saved import SIGNS, load_answers
        from utils.vectors.controls import Differences, scaled

        assert self.source is not None
        made_at = self._made_at(layer)
        answers = load_answers(self.source, made_at, self.paths)
        rows = torch.from_numpy(answers.matching - answers.other)
        vector = self.sweep.vectors[layer].vector.double()
        if vector.shape != rows.shape[1:] or bool(
            (scaled(rows.mean(dim=0), 1.0) - scaled(vector, 1.0)).norm() > ALIKE
        ):
            path = self.paths.activations(self.sweep.behavior, SIGNS[0], made_at, self.label)
            command = self.source.remake({made_at}, " --overwrite")
            raise UserError(
                f"{path} and its like are of other pairs than the vector: their mean difference "
                f"is another vector\nMake both again with: {command} && "
                "./normalize_vectors.py --overwrite"
            )
        return Differences(rows, [matching for matching, _ in answers.letters])
