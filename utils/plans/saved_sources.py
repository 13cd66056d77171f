"""Which saved activations are to be drawn: found, and held against the data they are of.

No torch: what is missing is found at once.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import behaviors
from utils.activations.saved import OTHER_DATA, SIGNS, Source, check_count
from utils.cli import commands
from utils.cli.label_arguments import model_label
from utils.data.items import load_ab_items
from utils.errors import UserError
from utils.files.contents import read_record
from utils.files.paths import Paths
from utils.text.listing import numbered
from utils.vectors.origin import Origin, check_alike, recorded_origin
from utils.weights.named import BUNDLED, find_label

_LIMITED = re.compile(r"(.+)_limit=([1-9][0-9]*)")
_LLAMA = re.compile(r"Llama-2-(7b|13b|70b)(-chat)?-hf")


@dataclass(frozen=True)
class Remake:
    """The command that saves activations, to be shown to the user."""

    behavior: str
    flags: str

    def __call__(self, layers: Collection[int] | None, more: str = "") -> str:
        """With these layers; ``...`` where they are not known."""
        numbers = numbered(sorted(layers)) if layers else "..."
        return (
            f"./generate_vectors.py --behaviors {self.behavior} --layers {numbers} "
            f"--save_activations{self.flags}{more}"
        )


def model_flags(label: str | None) -> str:
    """The flags of generate_vectors.py for a name in file names, as far as the name tells."""
    if label is None:
        return ""
    limited = _LIMITED.fullmatch(label)
    name, limit = (limited[1], f" --limit {limited[2]}") if limited else (label, "")
    llama = _LLAMA.fullmatch(name)
    if llama:
        return f" --model_size {llama[1]}{'' if llama[2] else ' --use_base_model'}{limit}"
    base = " --use_base_model" if name.endswith("_base") else ""
    name = name.removesuffix("_base")
    named = find_label(name)
    # The folder or the hub organisation is not in file names.
    model = f" --model {named.name if named else shlex.quote(f'.../{name}')}"
    model = "" if named is BUNDLED else model
    return f"{model}{base}{limit}"


def find_sources(args: argparse.Namespace, paths: Paths) -> list[Source]:
    """What is to be drawn, model by model; all files are there and belong to the data.

    Args:
        args: ``behaviors``, ``layers`` (``None``: all that are saved), the model flags of
            :func:`utils.models.labels.add_label_arguments` and the folders.
        paths: where to look.

    Raises:
        UserError: nothing saved, a layer that is not saved for all behaviours, half of a pair of
            files, data that are missing or not those that the activations were made from, or files
            of one name that were made with different models.
    """
    if any(n < 0 for n in args.layers or []):
        raise UserError("--layers: layers are counted from 0")
    label = model_label(args)
    saved = paths.saved_activations()
    found: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for behavior in dict.fromkeys(args.behaviors or saved):
        cells = [(n, m) for n, m in saved.get(behavior, []) if label in (None, m)]
        if args.behaviors and not cells:
            raise UserError(_nothing(args, behavior, saved, paths))
        for layer, model in cells:
            found[model][behavior].add(layer)
    if not found:
        raise UserError(_nothing(args, None, saved, paths))
    sources = []
    for model, layers_of in sorted(found.items()):
        wanted = set(args.layers or set().union(*layers_of.values()))
        origins: dict[Path, Origin] = {}
        for behavior, has in layers_of.items():
            remake = Remake(behavior, model_flags(model) + commands.folder_flags(args))
            _check_files(paths, behavior, model, wanted, has, remake)
            for layer in sorted(wanted):
                for sign in SIGNS:
                    path = paths.activations(behavior, sign, layer, model)
                    origins[path] = recorded_origin(path)
            letters = _letters(paths, behavior, model, wanted, remake)
            some = wanted != has
            sources.append(Source(behavior, model, sorted(wanted), some, letters, remake))
        check_alike(origins, "plotted")
    return sources


def source_of(behavior: str, model: str, layers: Sequence[int], paths: Paths, flags: str) -> Source:
    """The saved activations that controls of one behaviour's vectors are made from.

    Args:
        behavior, model, layers: whose, and of which layers.
        paths: where to look.
        flags: of the command that makes them, for the model and the folders.

    Raises:
        UserError: they are not there, or not of the data; says the command that makes them.
    """
    has = {n for n, m in paths.saved_activations().get(behavior, []) if m == model}
    wanted = set(layers)
    remake = Remake(behavior, flags)
    if wanted - has:
        raise UserError(
            f"shuffled and letter controls are made from the activations of the contrast pairs, "
            f"and {behavior} has none saved of {model} at layer {numbered(sorted(wanted - has))}\n"
            f"Make them with: {remake(wanted - has)}\n"
            "or leave them out: --controls random others"
        )
    return saved_source(paths, behavior, model, wanted, remake)


def saved_source(
    paths: Paths, behavior: str, model: str, layers: Collection[int], remake: Remake
) -> Source:
    """The saved activations of one behaviour and model at some layers, all there and of the data.

    Raises:
        UserError: see :func:`find_sources`.
    """
    has = {n for n, m in paths.saved_activations().get(behavior, []) if m == model}
    _check_files(paths, behavior, model, set(layers), has, remake)
    letters = _letters(paths, behavior, model, set(layers), remake)
    return Source(behavior, model, sorted(layers), set(layers) != has, letters, remake)


def _nothing(
    args: argparse.Namespace,
    behavior: str | None,
    saved: Mapping[str, Sequence[tuple[int, str]]],
    paths: Paths,
) -> str:
    """Why there is nothing to draw of a behaviour, or of any; one that does not exist raises."""
    label = model_label(args)
    if behavior is not None and behavior not in saved:
        behaviors.load(behavior, paths)
    looked_at = saved.values() if behavior is None else [saved.get(behavior, [])]
    models = sorted({model for cells in looked_at for _, model in cells})
    of = f" of {label}" if label else ""
    others = f" (those of {', '.join(models)} have)" if models else ""
    remake = Remake(behavior or "...", model_flags(label) + commands.folder_flags(args))
    return (
        f"no activations{of} have been saved{f' for {behavior}' if behavior else ''} in "
        f"{paths.artifacts / 'activations'}{others}\nMake them with: {remake(args.layers)}"
    )


def _check_files(
    paths: Paths, behavior: str, model: str, wanted: set[int], has: set[int], remake: Remake
) -> None:
    if wanted - has:
        lacking = numbered(sorted(wanted - has))
        some = f"\nor take some of those that there are: --layers {numbered(sorted(has))}"
        raise UserError(
            f"{behavior} has no saved activations of {model} at layer {lacking}\n"
            f"Make them with: {remake(wanted - has)}{some if has else ''}"
        )
    for layer in sorted(wanted):
        for sign in SIGNS:
            path = paths.activations(behavior, sign, layer, model)
            if not path.is_file():
                raise UserError(
                    f"missing file {path}: only the other answer's activations are there\n"
                    f"Make it with: {remake({layer})}"
                )


def _letters(
    paths: Paths, behavior: str, model: str, layers: set[int], remake: Remake
) -> list[tuple[str, str]]:
    """The letters of every pair, from the data that the activations were made from."""
    data = paths.generate_data(behavior)
    limited = _LIMITED.fullmatch(model)
    made_by = f"The letters of the saved activations stand in it; {OTHER_DATA}."
    items = load_ab_items(data, made_by=made_by, limit=int(limited[2]) if limited else None)
    for layer in sorted(layers):
        for sign in SIGNS:
            path = paths.activations(behavior, sign, layer, model)
            record = read_record(path)
            inputs: dict[str, Any] = {} if record is None else record["inputs"]
            check_count(path, inputs.get("pairs", len(items)), data, len(items), layer, remake)
            if inputs.get("data", items.sha256) != items.sha256:
                raise UserError(
                    f"{path} was made from other data than {data} holds now, so its letters are "
                    f"not known\n{OTHER_DATA}; or make it again with: "
                    f"{remake({layer}, ' --overwrite')}"
                )
    return [(item.matching, item.other) for item in items]
