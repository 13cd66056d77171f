"""Saved activations: what belongs to them, and reading them with all checks.

Which there are: :mod:`utils.plans.saved_sources`. No torch before a file is read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files.contents import load_torch, read_verified
from utils.files.paths import Paths

Floats = NDArray[np.float64]

SIGNS = ("pos", "neg")
OTHER_DATA = "--datasets_dir names another data folder"


class RemakeCommand(Protocol):
    """Gives the command that saves activations of these layers, to be shown to the user."""

    def __call__(self, layers: Collection[int] | None, more: str = "") -> str: ...


@dataclass(frozen=True)
class Answers:
    """The saved activations of one layer, both answers of every pair.

    Attributes:
        matching, other: shape (pairs, width), row i is pair i.
        letters: of every pair the letter of the matching and of the other answer.
    """

    matching: Floats
    other: Floats
    letters: Sequence[tuple[str, str]]

    @property
    def together(self) -> Floats:
        """All matching answers, then all others; shape (2 * pairs, width)."""
        return np.concatenate([self.matching, self.other])

    @property
    def all_letters(self) -> NDArray[np.str_]:
        """The letters of :attr:`together`."""
        return np.array([m for m, _ in self.letters] + [o for _, o in self.letters])


@dataclass(frozen=True)
class Source:
    """The saved activations of one behaviour and model.

    Attributes:
        behavior: its id.
        model: its name as it stands in the files.
        layers: those to be drawn, ascending.
        some: more layers than those are saved.
        letters: of every pair the letter of the matching and of the other answer.
        remake: the command that makes them, but for the layers.
    """

    behavior: str
    model: str
    layers: list[int]
    some: bool
    letters: list[tuple[str, str]]
    remake: RemakeCommand


def check_count(
    path: Path, pairs: int, data: Path, items: int, layer: int, remake: RemakeCommand
) -> None:
    """Check that activations have a row for every pair of their data.

    Raises:
        UserError: they have not.
    """
    if pairs != items:
        raise UserError(
            f"{path} has {pairs} pairs, {data} has {items}: the letters are not known\n"
            f"{OTHER_DATA}; or make it again with: {remake({layer}, ' --overwrite')}"
        )


def load_answers(source: Source, layer: int, paths: Paths) -> Answers:
    """Read one layer's activations, float64.

    Raises:
        UserError: damaged, of the wrong or of different shapes, not finite, fewer than two pairs,
            or all the same.
    """
    files = [paths.activations(source.behavior, sign, layer, source.model) for sign in SIGNS]
    matching, other = (_load_matrix(path) for path in files)
    if matching.shape != other.shape:
        raise UserError(
            f"{files[0]} has shape {matching.shape}, {files[1].name} has {other.shape}: "
            "they are not of the same pairs"
        )
    data, pairs = paths.generate_data(source.behavior), len(source.letters)
    check_count(files[0], len(matching), data, pairs, layer, source.remake)
    if pairs < 2:
        raise UserError(f"{files[0]} has 1 pair; to hold pairs out, at least 2 are needed")
    answers = Answers(matching, other, source.letters)
    if not np.ptp(answers.together, axis=0).any():
        raise UserError(f"{files[0]} and {files[1].name}: all activations are the same")
    return answers


def _load_matrix(path: Path) -> Floats:
    import torch

    tensor = load_torch(read_verified(path))
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise UserError(f"{path} does not hold one floating-point tensor")
    if tensor.ndim != 2 or tensor.shape[1] < 2:
        raise UserError(f"{path} has shape {tuple(tensor.shape)}; expected pairs x width")
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"{path} holds NaN or infinite values")
    return np.asarray(tensor.double().numpy())
