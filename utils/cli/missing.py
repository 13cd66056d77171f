"""What to say of results that are not there: which others are, and which command makes them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from utils.cli import commands
from utils.cli.variant_arguments import test_type
from utils.files.names import Variant
from utils.files.paths import Paths
from utils.files.subsets import ranges
from utils.models.labels import Label, model_of
from utils.scores.cells import Selection
from utils.text.listing import numbered, shortened
from utils.weights.named import BUNDLED, find_label


def _model_flags(variant: Variant) -> str:
    """The flags that choose the model of results, as far as their names tell, and their try."""
    if variant.model is None:
        flags = f"--model_size {variant.model_size}"
        base = bool(variant.use_base_model)
    else:
        label, base = variant.model.removesuffix("_base"), variant.model.endswith("_base")
        named = find_label(label)
        flags = f"--model {named.name if named else shlex.quote(label)}"
    flags += " --use_base_model" if base else ""
    return flags + Label("", variant.both_orders, variant.limit).flags


def take_only_model(args: argparse.Namespace, ids: Iterable[str], paths: Paths) -> str | None:
    """Where no model is named, and there are results of one only, name that one in ``args``.

    Args:
        args: the command line; changed.
        ids: the behaviours that are looked at.
        paths: where.

    Returns:
        A line that says so; ``None`` if nothing was changed.
    """
    if args.model or args.model_size or args.use_base_model:
        return None
    kind = test_type(args)
    models = {
        Variant(kind, model=v.model, model_size=v.model_size, use_base_model=v.use_base_model)
        for v in _variants(ids, kind, paths)
        if (v.limit, v.both_orders) == (args.limit, args.both_orders)
    }
    if len(models) != 1 or (only := models.pop()).model == BUNDLED.label:
        return None
    if only.model is None:
        args.model_size, args.use_base_model = only.model_size, bool(only.use_base_model)
    else:
        named = find_label(only.model.removesuffix("_base"))
        args.model = named.name if named else only.model.removesuffix("_base")
        args.use_base_model = only.model.endswith("_base")
    return f"(no model named; the only results are of {_model_flags(only)})"


def nothing_message(
    args: argparse.Namespace, base: Variant, label: str, ids: Iterable[str], paths: Paths
) -> str:
    """Why there is nothing to plot: only another model's results, or none at all.

    Args:
        args: the command line.
        base: what was looked for.
        label: the model, for people.
        ids: the behaviours that were looked for.
        paths: where.
    """
    asked = Label("", args.both_orders, args.limit).flags.replace(" --", " and --")
    text = f"no results of type {args.type} for {label}{asked} in {paths.artifacts / 'results'}"
    found = _variants(ids, base.type, paths)
    others = sorted({_model_flags(variant) for variant in found} - {_model_flags(base)})
    if others:
        return f"{text}\nThere are some of another model or try: {shortened(others, '; ')}"
    where = commands.model_flags(args) + commands.folder_flags(args)
    return (
        f"{text}\nMake them with: ./prompting_with_steering.py --type {args.type} --layers ... "
        f"--multipliers -1 0 1{' --both_orders' if args.both_orders else ''}{where}"
    )


def no_page_message(args: argparse.Namespace, label: str, ids: Iterable[str], paths: Paths) -> str:
    """That nothing was measured of a model, which others were, and how to begin."""
    text = f"no results of {label} in {paths.artifacts / 'results'}"
    variants = {replace(n.variant, limit=None) for b in ids for n in paths.results_of(b)}
    others = sorted({_model_flags(replace(v, both_orders=False)) for v in variants})
    if others:
        return f"{text}\nThere are some of: {shortened(others, '; ')}"
    where = commands.model_flags(args) + commands.folder_flags(args)
    return f"{text}\nMake them with: ./prompting_with_steering.py --type ab{where}"


def no_controls_message(args: argparse.Namespace, label: str, paths: Paths) -> str:
    """That no controls were measured of what was asked for, and how to."""
    where = commands.model_flags(args) + commands.folder_flags(args)
    return (
        f"no controls of {label} were measured at such layers and strengths in "
        f"{paths.artifacts / 'results'}\nMeasure them with: ./prompting_with_steering.py --type ab "
        "--controls random shuffled letter others --layers ... --multipliers -1 1"
        f"{_variant_flags(args)}{where}"
    )


def not_these_message(selections: Sequence[Selection], hint: str | None) -> str:
    """There are results, but none at the layers and strengths asked for."""
    there = sorted({cell for s in selections for cell in s.whole})
    layers, strengths = ranges(n for n, _ in there), sorted({s for _, s in there})
    return (
        f"no results at the layers and {selections[0].variant.unit}s asked for; there are layers "
        f"{layers}, {selections[0].variant.unit}s {shortened(f'{s:g}' for s in strengths)}"
        + (f"\n{hint}" if hint else "")
    )


def unjudged_message(args: argparse.Namespace, label: str) -> str:
    return (
        f"the open-ended answers of {label} have not been judged\n"
        f"Judge them with: ./scoring.py{commands.folder_flags(args)}\n"
        "(--summary gives what needs no judge: ends, loops, lengths)"
    )


def missing_hint(
    args: argparse.Namespace, base: Variant, found: Sequence[Selection], paths: Paths
) -> str | None:
    """One line with the command that makes what was asked for and could not be shown.

    Of layers only those that the model is known to have; of behaviours those that were asked for,
    or that there are results of.
    """
    asked = [s for s in found if s.variant.stem() == base.stem()]
    if not args.behaviors:
        asked = [s for s in asked if s.whole]
    has = {n for s in found for n, _ in s.whole} | _layers_with_vectors(asked, paths)
    lacking = [(s, cell) for s in asked for cell in s.missing if cell[0] in has]
    if not lacking:
        return None
    ids = " ".join(dict.fromkeys(s.behavior for s, _ in lacking))
    layers = numbered(sorted({n for _, (n, _) in lacking}))
    strengths = " ".join(f"{x:g}" for x in sorted({x for _, (_, x) in lacking}))
    unit = lacking[0][0].variant.unit
    cells = "1 cell is" if len(lacking) == 1 else f"{len(lacking)} cells are"
    return (
        f"{cells} missing; make what is missing with: ./prompting_with_steering.py "
        f"--type {args.type} --behaviors {ids} --layers {layers} --{unit}s {strengths}"
        f"{_variant_flags(args)}{commands.model_flags(args)}{commands.folder_flags(args)}"
    )


def unjudged_hint(args: argparse.Namespace, counts: dict[str, int]) -> str | None:
    """The same for answers without scores.

    Args:
        args: the command line.
        counts: cells without scores of each behaviour that was asked for.
    """
    lacking = [behavior for behavior, count in counts.items() if count]
    if not lacking:
        return None
    total = sum(counts.values())
    cells = "1 cell has" if total == 1 else f"{total} cells have"
    return (
        f"{cells} not been judged: scores need ./scoring.py --behaviors {' '.join(lacking)}"
        f"{commands.folder_flags(args)}"
    )


def _layers_with_vectors(found: Iterable[Selection], paths: Paths) -> set[int]:
    """Layers at which any behaviour has a vector under a name that the results' model may have."""
    layers: set[int] = set()
    for selection in found:
        label = model_of(selection.variant)
        layers |= {n for n, model in paths.vectors_of(selection.behavior) if model == label}
    return layers


def _variants(ids: Iterable[str], kind: str, paths: Paths) -> set[Variant]:
    """The variants of one type of test that some behaviours have results of."""
    found = {name.variant for behavior in ids for name in paths.results_of(behavior)}
    return {variant for variant in found if variant.type == kind}


def _variant_flags(args: argparse.Namespace) -> str:
    flags = ("system_prompt", "override_vector", "override_vector_model")
    shown = [(f, getattr(args, f)) for f in (*flags, "override_model_weights_path", "limit")]
    full = " --mmlu_full" if args.mmlu_full else ""
    full += " --both_orders" if args.both_orders else ""
    return full + "".join(f" --{flag} {value}" for flag, value in shown if value is not None)
