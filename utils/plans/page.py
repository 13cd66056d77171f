"""From flags to a page: what there is, whether the page in place shows it, what was not run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import behaviors
from behaviors import Behavior
from utils.cli import arguments, commands, missing
from utils.errors import UserError
from utils.figures.album import refuse_less
from utils.files.artifacts import State, must_make, state
from utils.files.contents import read_record
from utils.files.paths import Paths
from utils.files.remembered import code_version
from utils.files.subsets import part
from utils.models.choice import ModelChoice
from utils.models.identity import weights_fingerprint
from utils.report.markup import Html, assets_digest
from utils.report.page import Content, page
from utils.report.sweeps import Found, Sweep, find, sources
from utils.report.tokens import TokenPlan, plan_tokens
from utils.steering.prompt_source import known_dtype


@dataclass(frozen=True)
class PagePlan:
    """What a page is to be made from.

    Attributes:
        paths: where everything lies.
        choice: the model.
        behaviors: those that anything was measured of, or that were asked for by name.
        found: their results, unread.
        choices: behaviour -> the file of tune.py's choice.
        place: of the page.
        inputs: what it depends on.
    """

    paths: Paths
    choice: ModelChoice
    behaviors: Sequence[Behavior]
    found: Sequence[Found]
    choices: Mapping[str, Path]
    place: Path
    inputs: dict[str, Any]

    @cached_property
    def sweeps(self) -> list[Sweep]:
        """The results, read.

        Raises:
            UserError: a damaged file, or cells that were measured on different questions.
        """
        return [found.read(self.choice.label, self.paths) for found in self.found]

    @property
    def places(self) -> list[Path]:
        """Every file that the page is made from."""
        return [*(p for f in self.found for p in f.places(self.paths)), *self.choices.values()]


def plan_page(args: argparse.Namespace, choice: ModelChoice, paths: Paths) -> PagePlan:
    """Everything that there is of a model, hashed.

    Raises:
        UserError: an unknown behaviour, or nothing at all of this model.
    """
    asked = behaviors.load_all(args.behaviors, paths)
    found = find(asked, choice.result_parts(), paths)
    places = {b.id: paths.tuning(b.id, choice.label) for b in asked}
    choices = {b: path for b, path in places.items() if path.exists()}
    if not found and not choices:
        ids = [b.id for b in asked]
        raise UserError(missing.no_page_message(args, choice.label, ids, paths))
    there = {f.behavior.id for f in found} | choices.keys()
    shown = [b for b in asked if args.behaviors or b.id in there]
    inputs = {
        "page": choice.label,
        "behaviors": {b.id: [b.name, b.matching] for b in shown},
        "sources": sources(found, choices, paths),
        "options": {"limit_answers": args.limit_answers, "flags": _flags(args)},
        "code": f"{code_version()}.{assets_digest()}",
    }
    place = Path(args.out) if args.out else paths.page(choice.label, _part(shown, choice, paths))
    return PagePlan(paths, choice, shown, found, choices, place, inputs)


def _part(shown: Sequence[Behavior], choice: ModelChoice, paths: Paths) -> str:
    """The end of a page's name: which behaviours it shows, where there are results of more."""
    own = {b.id for b in shown}
    others = [b for b in behaviors.load_all(None, paths) if b.id not in own]
    more = find(others, choice.result_parts(), paths)
    return part(behaviors=",".join(b.id for b in shown)) if more else ""


def must_make_page(place: Path, inputs: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether to make the page: like a figure it follows more and changed results.

    Raises:
        UserError: the page in place shows what is gone, is damaged, or cannot be written.
    """
    if not overwrite and state(place, inputs)[0] is State.CHANGED:
        record = read_record(place)
        assert record is not None
        refuse_less(place, record["inputs"].get("sources", {}), inputs["sources"])
        overwrite = True
    return must_make(place, inputs, overwrite=overwrite)


def plan_token_maps(args: argparse.Namespace, plan: PagePlan) -> dict[str, TokenPlan]:
    """The token heat maps of each behaviour; the page's inputs then name what they are made from.

    Raises:
        UserError: a missing or damaged vector or test, or none that has questions.
    """
    make = f"./generate_vectors.py{_flags(args)}, then ./normalize_vectors.py"
    label = plan.choice.label
    found = plan_tokens(plan.sweeps, args.token_heat_maps, label, plan.paths, make)
    if not found:
        raise UserError(
            "--token_heat_maps: no behaviour of this page has open-ended questions "
            f"(test_dataset_open_ended.json in {plan.paths.datasets / 'test'})"
        )
    model = {
        "weights": weights_fingerprint(plan.choice),
        "dtype": known_dtype(**arguments.loading_options(args)),
    }
    plan.inputs["tokens"] = model | {b: dict(each.inputs) for b, each in found.items()}
    return found


def whole_page(args: argparse.Namespace, plan: PagePlan, maps: Mapping[str, Html]) -> bytes:
    """The page's file.

    Raises:
        UserError: see :attr:`PagePlan.sweeps`, and a record or choice that cannot be read.
    """
    content = Content(
        model=plan.choice.label,
        behaviors=plan.behaviors,
        sweeps=plan.sweeps,
        choices=plan.choices,
        tokens=maps,
        missing=not_run(args, plan),
        places=plan.places,
        limit=args.limit_answers,
    )
    return page(content, plan.paths)


def not_run(args: argparse.Namespace, plan: PagePlan) -> list[tuple[str, str]]:
    """What a page could show beside what it does, each with the command that makes it."""
    flags, steer = _flags(args), "./prompting_with_steering.py --type"
    ids = [b.id for b in plan.behaviors]
    lines = []
    without = [b for b in ids if b not in {f.behavior.id for f in plan.found}]
    if without:
        command = f"{steer} ab --behaviors {' '.join(without)}{flags}"
        lines.append((f"any sweep of {', '.join(without)}", command))
    scored = [s for s in plan.sweeps if s.variant.type == "ab" and not s.variant.overrides]
    lines += _more_of_letters(scored, f"{steer} ab", flags)
    untuned = [b for b in ids if b not in plan.choices]
    if untuned:
        command = f"./tune.py --behaviors {' '.join(untuned)}{flags}"
        lines.append(("the choice of a layer and a strength, with its Pareto picture", command))
    open_ = [s for s in plan.sweeps if s.test.free_text]
    unanswered = [b for b in ids if b not in {s.behavior.id for s in open_}]
    if unanswered:
        cells = _cells(scored[0]) if scored else "--layers ..."
        command = f"{steer} open_ended {cells} --behaviors {' '.join(unanswered)}{flags}"
        lines.append((f"open-ended answers of {', '.join(unanswered)}", command))
    unjudged = list(dict.fromkeys(s.behavior.id for s in open_ if s.table.unjudged))
    if unjudged:
        command = f"./scoring.py --behaviors {' '.join(unjudged)}{commands.folder_flags(args)}"
        lines.append((f"a judge's scores of the answers of {', '.join(unjudged)}", command))
    if not args.token_heat_maps:
        lines.append(("answers token by token", f"./report.py --token_heat_maps 2{flags}"))
    return lines


def _more_of_letters(scored: Sequence[Sweep], steer: str, flags: str) -> list[tuple[str, str]]:
    """What could be measured beside the A/B sweeps that there are."""
    if not scored:
        return []
    ids = " ".join(dict.fromkeys(s.behavior.id for s in scored))
    end, cells = f"--behaviors {ids}{flags}", _cells(scored[0])
    lines = []
    if all(len(s.layers) == 1 for s in scored):
        every = f"--layers all {_strengths(scored[0])}"
        lines.append(("all layers, and so the map of them", f"{steer} {every} {end}"))
    if not any(s.effects for s in scored):
        what = (
            "controls: is the effect more than any vector's? (shuffled and letter need "
            "generate_vectors.py --save_activations)"
        )
        more = "--controls random shuffled letter others"
        lines.append((what, f"{steer} {cells} {more} {end}"))
        if not any(s.variant.both_orders for s in scored):
            what = "both orders of the choices: what answers say, told from their letters"
            lines.append((what, f"{steer} {cells} --both_orders {end}"))
    return lines


def _flags(args: argparse.Namespace) -> str:
    return commands.model_flags(args) + commands.folder_flags(args)


def _cells(sweep: Sweep) -> str:
    """The layer that is shown, and its strengths."""
    return f"--layers {sweep.layer} {_strengths(sweep)}"


def _strengths(sweep: Sweep) -> str:
    return f"--{sweep.variant.unit}s {' '.join(f'{s:g}' for s in sweep.strengths)}"
