"""Null controls: of the same pipeline, with as much of the letters in them as there should be."""

from __future__ import annotations

import pytest
import torch

from utils.errors import UserError
from utils.permutation import p_value
from utils.vectors.control_names import drawn
from utils.vectors.controls import (
    Differences,
    couples,
    letter_control,
    named_controls,
    random_controls,
    scaled,
    shuffled_controls,
)

WIDTH = 12


def planted(letters: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """d_i = c_i + s_i l, with l many times as long; also c and l."""
    generator = torch.Generator().manual_seed(0)
    content = torch.randn(len(letters), WIDTH, generator=generator).double()
    content[:, 0] = 0
    letter = torch.zeros(WIDTH).double()
    letter[0] = 500
    signs = torch.tensor([1.0 if x == "A" else -1.0 for x in letters]).double()
    return content + signs[:, None] * letter, content, letter


@pytest.mark.parametrize(
    "letters", [["A", "B"] * 14, ["A"] * 19 + ["B"] * 14, ["B"] * 17 + ["A"] * 16]
)
def test_the_letters_cancel_in_every_draw(letters: list[str]) -> None:
    differences, _, _ = planted(letters)
    vector = differences.mean(0)
    found = shuffled_controls("calm", differences, letters, draws=50)
    assert (found[:, 0] - vector[0]).abs().max() < 1e-6, "as much of the letter as the vector has"
    assert (found[:, 1:] - vector[1:]).norm(dim=1).min() > 0.01, "and other content"
    assert len({tuple(row.tolist()) for row in found}) > 40


def test_the_flips_are_those_of_the_definition_and_the_same_at_every_layer() -> None:
    letters = ["A", "B", "B", "A", "A", "B", "A"]
    differences, _, _ = planted(letters)
    together, left = couples("calm", letters)
    assert sorted([i for c in together for i in c] + left) == list(range(7)) and len(left) == 1
    assert all((letters[a], letters[b]) == ("A", "B") for a, b in together)
    found = shuffled_controls("calm", differences, letters, draws=30)
    possible = []
    for number in range(2 ** len(together)):
        signs = [1 if number >> k & 1 else -1 for k in range(len(together))]
        parts = [
            s * (differences[a] + differences[b]) for s, (a, b) in zip(signs, together, strict=True)
        ]
        possible.append((sum(parts) + differences[left[0]]) / 7)
    which = [[torch.allclose(row, p) for p in possible].index(True) for row in found]
    other_layer = shuffled_controls("calm", 2 * differences, letters, draws=30)
    assert torch.allclose(other_layer, 2 * found), "the same flips"
    assert len(set(which)) > 4


def test_draws_are_seeded_and_a_longer_run_continues_a_shorter_one() -> None:
    few, many = (random_controls("calm", 3, WIDTH, draws=n) for n in (3, 20))
    assert torch.equal(few, many[:3]) and torch.allclose(many.norm(dim=1), torch.ones(20).double())
    for other in (("bold", 3, 0), ("calm", 4, 0), ("calm", 3, 1)):
        again = random_controls(*other[:2], WIDTH, draws=3, seed=other[2])
        assert (again - few).abs().min(dim=1).values.max() > 1e-3
    letters = ["A", "B"] * 6
    differences, _, _ = planted(letters)
    few, many = (shuffled_controls("calm", differences, letters, draws=n) for n in (3, 20))
    assert torch.equal(few, many[:3])


def test_the_letter_vector_is_the_letters_difference() -> None:
    letters = ["A", "B"] * 8
    differences, content, letter = planted(letters)
    signs = torch.tensor([1.0, -1.0] * 8).double()
    assert torch.allclose(letter_control(differences, letters), letter + (signs @ content) / 16)


def test_named_controls_have_the_vectors_length_but_the_shuffled_have_their_own() -> None:
    letters = ["A", "B"] * 50
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(100, WIDTH, generator=generator).double()
    rows[:, 0] += 20
    names = ["random:0", *drawn("shuffled", 99), "letter", "other:bold"]
    pairs = Differences(rows, letters)
    others = {"bold": torch.full((WIDTH,), 7.0)}
    found = named_controls(names, "calm", 3, WIDTH, seed=0, pairs=pairs, others=others)
    lengths = found.norm(dim=1)
    assert torch.allclose(lengths[[0, -2, -1]], torch.ones(3).double())
    made = shuffled_controls("calm", rows, letters, draws=99)
    assert torch.allclose(found[1:100] * rows.mean(0).norm(), made)
    # pairs that agree: drawn out to its length, every draw would be the vector or its opposite
    likeness = torch.cosine_similarity(found[1:100], rows.mean(0)[None]).abs()
    assert likeness.median() > 0.9
    assert p_value(1.0, (found[1:100] @ rows.mean(0) / rows.mean(0).norm()).numpy()) == 0.01


def test_letters_all_alike_cannot_be_turned_and_are_told() -> None:
    differences, _, _ = planted(["A"] * 6)
    with pytest.raises(UserError, match="calm: 6 of 6 pairs have A"):
        shuffled_controls("calm", differences, ["A"] * 6, draws=3)
    with pytest.raises(UserError, match="two of each"):
        couples("calm", ["A"] * 6 + ["B"])


def test_a_length_is_given_and_a_zero_vector_stays_zero() -> None:
    rows = torch.stack([torch.arange(4.0), torch.zeros(4)])
    found = scaled(rows, 2.0)
    assert found[0].norm() == pytest.approx(2) and not found[1].any()
