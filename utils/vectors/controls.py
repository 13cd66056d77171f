"""Null controls: vectors that should do nothing of the kind, in the place of one that should.

``random`` directions of the same length ask what any vector of this length does. ``shuffled`` ones
went through the same pipeline, with the labels of the contrast pairs turned at random. ``letter``
is the difference between answering (A) and (B), and nothing else.

Shuffled ones keep the length at which they come out. Pairs that agree differ by one direction, and
with their labels turned leave a short piece of it, of either sign: drawn out to the vector's
length that would be the vector itself, and the more the pairs agree, the less the vector could
stand out (measured: ``python -m benchmarks.coverage``, shuffled labels).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from utils.errors import UserError
from utils.vectors.control_names import drawn, kind_of, other


@dataclass(frozen=True)
class Differences:
    """What the contrast pairs of one layer differ by.

    Attributes:
        rows: activation of the matching answer minus that of the other, shape (pairs, width).
        letters: the matching letter of every pair.
    """

    rows: Tensor
    letters: Sequence[str]


def named_controls(
    names: Sequence[str],
    behavior: str,
    layer: int,
    width: int,
    *,
    seed: int,
    pairs: Differences | None = None,
    others: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Controls by their names, in this order, in lengths of the vector; (controls, width).

    All have length 1 (or 0) but the shuffled ones, which have their own.

    Args:
        names: see :mod:`utils.vectors.control_names`; draws numbered from 0 without a gap.
        behavior, layer, seed: of the draws.
        width: of the model.
        pairs: those that the vector was made from, for shuffled and letter controls.
        others: the vectors of other behaviours that are named.

    Raises:
        UserError: see :func:`couples`.
    """
    count = Counter(map(kind_of, names))
    found: list[tuple[str, Tensor]] = []
    if count["random"]:
        draws = random_controls(behavior, layer, width, draws=count["random"], seed=seed)
        found += zip(drawn("random", len(draws)), draws, strict=True)
    if pairs is not None and count["shuffled"]:
        draws = shuffled_controls(
            behavior, pairs.rows, pairs.letters, draws=count["shuffled"], seed=seed
        )
        own = pairs.rows.double().mean(dim=0).norm()
        draws = torch.where(own > 0, draws / own, draws)
        found += zip(drawn("shuffled", len(draws)), draws, strict=True)
    if pairs is not None and count["letter"]:
        found.append(("letter", scaled(letter_control(pairs.rows, pairs.letters), 1.0)))
    found += [(other(name), scaled(row.double(), 1.0)) for name, row in (others or {}).items()]
    rows = dict(found)
    return torch.stack([rows[name] for name in names])


def scaled(vector: Tensor, length: float) -> Tensor:
    """A vector of this length; a zero vector stays zero. Shape (..., width)."""
    norm = vector.norm(dim=-1, keepdim=True)
    return torch.where(norm > 0, vector / norm * length, vector)


def random_controls(behavior: str, layer: int, width: int, *, draws: int, seed: int = 0) -> Tensor:
    """Directions drawn from the unit sphere, each from a seed of its own; shape (draws, width).

    The same whatever the number of draws: draw 17 is draw 17.
    """
    rows = [
        torch.randn(
            width, generator=_generator("random", behavior, layer, r, seed), dtype=torch.float64
        )
        for r in range(draws)
    ]
    return scaled(torch.stack(rows), 1.0) if rows else torch.zeros(0, width, dtype=torch.float64)


def couples(
    behavior: str, letters: Sequence[str], *, seed: int = 0
) -> tuple[list[tuple[int, int]], list[int]]:
    """Contrast pairs put together at random, one whose matching letter is A with one of B.

    Args:
        behavior: names the draw.
        letters: the matching letter of every pair.
        seed: of the draw.

    Returns:
        The couples, and the pairs that are left over.

    Raises:
        UserError: fewer than two couples: no labels could be turned.
    """
    of = {x: [i for i, letter in enumerate(letters) if letter == x] for x in ("A", "B")}
    count = min(map(len, of.values()))
    if count < 2:
        raise UserError(
            f"{behavior}: {len(of['A'])} of {len(letters)} pairs have A as their matching letter "
            f"and {len(of['B'])} have B; shuffled controls need two of each at least"
        )
    order = {
        x: [
            found[i]
            for i in torch.randperm(
                len(found), generator=_generator("couples", behavior, x, seed)
            ).tolist()
        ]
        for x, found in of.items()
    }
    together = list(zip(order["A"][:count], order["B"][:count], strict=True))
    used = {i for couple in together for i in couple}
    return together, [i for i in range(len(letters)) if i not in used]


def shuffled_controls(
    behavior: str, differences: Tensor, letters: Sequence[str], *, draws: int, seed: int = 0
) -> Tensor:
    """Vectors from the same pairs with their labels turned, shape (draws, width), unscaled.

    Plain flips of single pairs would leave the difference between the letters in every draw, and
    that is many times as long as the vector. So the labels of couples are turned together, in
    which the letters cancel: v = (1/n) (sum over couples of +-(d_a + d_b), plus what is left
    over). The flips form a group that contains the vector itself (all +), so a test against them
    is exact for a multiplier that is fixed in advance. The same flips at every layer.

    Args:
        behavior: names the draws.
        differences: activation of the matching answer minus that of the other, shape
            (pairs, width), of one layer.
        letters: the matching letter of every pair.
        draws: how many.
        seed: of the draws.

    Raises:
        UserError: see :func:`couples`.
    """
    together, left = couples(behavior, letters, seed=seed)
    found = differences.double()
    sums = torch.stack([found[a] + found[b] for a, b in together])
    rest = found[left].sum(dim=0)
    signs = [
        torch.randint(0, 2, (len(together),), generator=_generator("shuffled", behavior, r, seed))
        for r in range(draws)
    ]
    flips = torch.stack(signs).double() * 2 - 1 if signs else torch.zeros(0, len(together)).double()
    return (flips @ sums + rest) / len(found)


def letter_control(differences: Tensor, letters: Sequence[str]) -> Tensor:
    """The difference between the letters, (1/n) sum of s_i d_i with s_i = +1 for A; (width,)."""
    signs = torch.tensor([1.0 if letter == "A" else -1.0 for letter in letters]).double()
    return signs @ differences.double() / len(letters)


def _generator(*key: object) -> torch.Generator:
    digest = hashlib.sha256("\0".join(map(str, key)).encode()).digest()
    # 63 bits: what a generator takes
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
