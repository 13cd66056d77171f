"""Sums over pairs on disk: resumed = uninterrupted, shared out = alone, damage is named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from running import every_file
from torch import Tensor

import generate_vectors
from utils.errors import UserError
from utils.extraction import vector_sums
from utils.extraction.vector_stats import layer_stats
from utils.extraction.vector_sums import AllSums, Kind, VectorSums, remove
from utils.files.artifacts import torch_bytes
from utils.files.durable import write_bytes
from utils.files.paths import Paths
from utils.steering.one_pass import Readings

SHAPE = (2, 5)
SIZES = (3, 1, 4, 2, 2)


Batch = tuple[list[int], Readings, list[int]]


def batch_of(pairs: list[int], letters: Tensor) -> Batch:
    """A batch whose steered tokens are the letters alone."""
    return pairs, Readings(letters, letters.float().norm(dim=-1)), [1 - 2 * (p % 2) for p in pairs]


def batches() -> list[Batch]:
    """Five batches of unlike size, in an order that is not the data file's."""
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(sum(SIZES), generator=generator).split(SIZES)
    return [
        batch_of(n.tolist(), torch.randn(len(n), 2, *SHAPE, generator=generator)) for n in order
    ]


def kind_of(keep: torch.dtype | None, key: str = "key") -> Kind:
    return Kind(key, SHAPE, keep)


def run(path: Path, keep: torch.dtype | None, saved: slice, unsaved: slice = slice(0)) -> None:
    """Add some batches to what is there and save; then add some more and be killed."""
    with VectorSums(path, kind_of(keep)) as sums:
        for batch in batches()[saved]:
            sums.add(*batch)
        sums.save()
        for batch in batches()[unsaved]:
            sums.add(*batch)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path, tmp_path)


@pytest.fixture
def sums_file(paths: Paths) -> Path:
    return paths.vector_progress("calm", "tiny")


@pytest.mark.parametrize("keep", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("saved", [0, 1, 3, 5])
def test_resumed_sums_are_the_uninterrupted_ones_bit_by_bit(
    sums_file: Path, tmp_path: Path, keep: torch.dtype | None, saved: int
) -> None:
    run(tmp_path / ".whole", keep, slice(None))
    whole = AllSums([tmp_path / ".whole"], kind_of(keep))
    run(sums_file, keep, slice(saved), slice(saved, saved + 1))
    expected_order = [pair for pairs, *_ in batches()[:saved] for pair in pairs]
    assert AllSums([sums_file], kind_of(keep)).order == expected_order
    run(sums_file, keep, slice(saved, None))
    resumed = AllSums([sums_file], kind_of(keep))
    assert torch.equal(resumed.moments().vectors(), whole.moments().vectors())
    for layer in range(SHAPE[0]):
        assert layer_stats(resumed.moments(), layer) == layer_stats(whole.moments(), layer)
    assert resumed.order == whole.order
    if keep is not None:
        expected = torch.cat([x.letters for _, x, _ in batches()])[
            torch.tensor(whole.order).argsort()
        ]
        for layer, answer in ((0, 0), (0, 1), (1, 0), (1, 1)):
            found = resumed.activations(layer, answer)
            assert found.dtype == keep
            assert torch.equal(found, whole.activations(layer, answer))
            assert torch.equal(found, expected[:, answer, layer].to(keep))


@pytest.mark.parametrize("keep", [None, torch.float32])
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_sums_of_several_ranks_are_those_of_one(
    paths: Paths, tmp_path: Path, keep: torch.dtype | None, ranks: int
) -> None:
    """Seven ranks for five batches: two of them have nothing to do."""
    run(tmp_path / ".whole", keep, slice(None))
    whole = AllSums([tmp_path / ".whole"], kind_of(keep))
    for rank in range(ranks):
        run(paths.vector_progress("calm", "tiny", rank), keep, slice(rank, None, ranks))
    parts = paths.all_vector_progress("calm", "tiny")
    assert [p.name for p in parts[:2]] == [".progress_tiny", ".progress_tiny_rank=1"]
    shared = AllSums(parts, kind_of(keep))
    assert sorted(shared.order) == list(range(sum(SIZES)))
    assert torch.allclose(shared.moments().vectors(), whole.moments().vectors(), rtol=1e-14, atol=0)
    if keep is not None:
        assert torch.equal(shared.activations(1, 0), whole.activations(1, 0))
    remove(parts)
    (tmp_path / ".whole").unlink()
    assert [n for n in every_file(tmp_path) if "whole" not in n] == []


def test_ranks_are_put_in_order_by_number_and_models_kept_apart(paths: Paths) -> None:
    for name in ("tiny_rank=10", "tiny_rank=2", "tiny", "tiny2", "tiny_rank=1_lock", "tinyrank"):
        write_bytes(paths.vector_progress("calm", name), b"")
    found = [p.name.removeprefix(".progress_") for p in paths.all_vector_progress("calm", "tiny")]
    assert found == ["tiny", "tiny_rank=1", "tiny_rank=2", "tiny_rank=10"]


def test_sums_are_means_of_float64_differences(sums_file: Path) -> None:
    big, small = torch.full((1, 2, *SHAPE), 1e8), torch.zeros(1, 2, *SHAPE)
    small[:, 0] = 1e-3
    big[:, 1] = 0
    with VectorSums(sums_file, kind_of(None)) as sums:
        for number, batch in enumerate((big, small, -big)):
            sums.add(*batch_of([number], batch))
        sums.save()
    means = AllSums([sums_file], kind_of(None)).moments().vectors()
    assert means.dtype == torch.float64
    assert torch.allclose(means, (torch.tensor(1e-3).double() / 3).expand(SHAPE), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_differences_are_taken_in_float64(sums_file: Path, dtype: torch.dtype) -> None:
    outputs = torch.empty(1, 2, *SHAPE, dtype=dtype)
    outputs[:, 0], outputs[:, 1] = 2.0**15, -(2.0**-10)
    with VectorSums(sums_file, kind_of(None)) as sums:
        sums.add(*batch_of([0], outputs))
        assert (sums.state.moments.differences == 2.0**15 + 2.0**-10).all()


def test_activations_are_on_disk_before_the_state_that_counts_them(sums_file: Path) -> None:
    raw = sums_file.with_name(sums_file.name + "_activations")
    with VectorSums(sums_file, kind_of(torch.float32)) as sums:
        for batch in batches()[:3]:
            sums.add(*batch)
            sums.save()
            assert raw.stat().st_size == len(sums.state.order) * 2 * 2 * 5 * 4


def test_the_state_is_saved_as_the_run_goes(
    sums_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_sums, "SAVE_EVERY_SECONDS", -1.0)
    with VectorSums(sums_file, kind_of(None)) as sums:
        for batch in batches()[:2]:
            sums.add(*batch)
    with VectorSums(sums_file, kind_of(None)) as resumed:
        assert resumed.state.order == batches()[0][0] + batches()[1][0]
        assert torch.equal(resumed.state.moments.differences, sums.state.moments.differences)


def test_a_state_cut_off_anywhere_is_named(sums_file: Path) -> None:
    run(sums_file, None, slice(3))
    whole = sums_file.read_bytes()
    for length in range(0, len(whole), 7):
        sums_file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="damaged") as caught:
            VectorSums(sums_file, kind_of(None))
        assert str(sums_file) in str(caught.value)
        assert "delete it" in str(caught.value), "the file is hidden: say what to do with it"


def test_a_state_with_one_changed_byte_is_named(sums_file: Path) -> None:
    run(sums_file, None, slice(3))
    whole = sums_file.read_bytes()
    with VectorSums(sums_file, kind_of(None)) as sums:
        numbers = sums.state.moments.differences.numpy().tobytes()
    place = whole.index(numbers)
    for offset in range(0, len(numbers), 5):
        damaged = bytearray(whole)
        damaged[place + offset] ^= 1
        sums_file.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            VectorSums(sums_file, kind_of(None))


@pytest.mark.parametrize(
    "value",
    [{"key": "key None"}, {"order": [1]}, [1, 2], torch.ones(3)],
    ids=["no_sums", "no_key", "list", "tensor"],
)
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_a_state_of_another_shape_is_named(sums_file: Path, value: object) -> None:
    write_bytes(sums_file, torch_bytes(value))
    with pytest.raises(UserError, match="damaged"):
        VectorSums(sums_file, kind_of(None))


def test_a_state_of_other_inputs_is_not_continued(sums_file: Path, tmp_path: Path) -> None:
    run(sums_file, torch.float32, slice(3), slice(3, 4))
    other = kind_of(torch.float32, key="other inputs")
    assert AllSums([sums_file], other).order == []
    with VectorSums(sums_file, other) as sums:
        assert sums.state.order == []
        assert not sums.state.moments.differences.any()
        sums.add([1, 0], *batches()[4][1:])
        sums.save()
    expected = batches()[4][1].letters[[1, 0], 0, 1]
    assert torch.equal(AllSums([sums_file], other).activations(1, 0), expected)
    remove([sums_file])
    assert every_file(tmp_path) == {}


@pytest.mark.parametrize("lost", [1, 40, 10**9])
def test_a_shortened_file_of_activations_is_named(sums_file: Path, lost: int) -> None:
    run(sums_file, torch.float32, slice(3))
    raw = sums_file.with_name(sums_file.name + "_activations")
    data = raw.read_bytes()
    raw.write_bytes(data[: max(0, len(data) - lost)])
    with pytest.raises(UserError, match="damaged") as caught:
        VectorSums(sums_file, kind_of(torch.float32))
    assert str(raw) in str(caught.value)


def test_two_runs_at_once_on_the_same_vectors_are_refused(sums_file: Path) -> None:
    first = VectorSums(sums_file, kind_of(None))
    with first, pytest.raises(UserError, match="another process"):
        VectorSums(sums_file, kind_of(None))
    with VectorSums(sums_file, kind_of(None)):
        pass


def test_pairs_that_were_summed_twice_make_no_vector(paths: Paths) -> None:
    for rank in range(2):
        run(paths.vector_progress("calm", "tiny", rank), None, slice(None))
    found = AllSums(paths.all_vector_progress("calm", "tiny"), kind_of(None))
    job = generate_vectors.Job("calm", "tiny", cast(Any, [None] * sum(SIZES)), [], [0, 1], {})
    with pytest.raises(UserError, match="summed twice"):
        generate_vectors.write(job, found, paths, argparse.Namespace())
