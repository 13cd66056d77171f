"""Vectors read from files: plain tensors of this model, and nothing else."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from utils.errors import UserError
from utils.files.artifacts import save, torch_bytes
from utils.vectors.stored import read_vector


def old_format(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


class Trap:
    """A pickled object that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def vector_file(tmp_path: Path) -> Path:
    return tmp_path / "vec_layer_3_tiny.pt"


@pytest.mark.parametrize("write", [torch.save, old_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_plain_vector_is_read_as_float32(
    vector_file: Path, dtype: torch.dtype, write: Callable[[object, Path], None]
) -> None:
    vector = torch.linspace(-2, 2, 9, dtype=dtype)
    write(vector, vector_file)
    found = read_vector(vector_file, made_by="-", width=9).tensor
    assert found.dtype == torch.float32
    assert torch.equal(found, vector.float())


def test_a_missing_vector_names_the_command(vector_file: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_vector(vector_file, made_by="./generate_vectors.py --layers 3")
    assert str(vector_file) in str(caught.value)
    assert "Make it with: ./generate_vectors.py --layers 3" in str(caught.value)


@pytest.mark.parametrize("write", [torch.save, old_format])
def test_a_vector_cut_off_anywhere_is_named(
    vector_file: Path, write: Callable[[object, Path], None]
) -> None:
    write(torch.arange(9.0), vector_file)
    whole = vector_file.read_bytes()
    for length in [*range(60), *range(60, len(whole), 9), len(whole) - 1]:
        vector_file.write_bytes(whole[:length])
        try:
            read_vector(vector_file, made_by="-")
        except UserError as error:
            assert str(vector_file) in str(error), f"cut off at {length}"
        except Exception as error:  # noqa: BLE001 (which byte it was is what one wants to know)
            pytest.fail(f"cut off at byte {length}: {error!r}")
        else:
            pytest.fail(f"cut off at byte {length} and read as if whole")


def test_a_recorded_vector_with_one_changed_byte_is_named(vector_file: Path) -> None:
    save(vector_file, torch_bytes(torch.arange(9.0)), {"kind": "vector"})
    data = bytearray(vector_file.read_bytes())
    data[data.index(struct.pack("<f", 5.0))] ^= 1
    vector_file.write_bytes(data)
    with pytest.raises(UserError, match="not the file that its record describes"):
        read_vector(vector_file, made_by="-")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickled_object_is_refused_and_not_run(vector_file: Path, tmp_path: Path) -> None:
    for write in (torch.save, old_format):
        write(Trap(tmp_path / "sprung"), vector_file)
        with pytest.raises(UserError, match="no plain tensor file"):
            read_vector(vector_file, made_by="-")
    vector_file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match="no plain tensor file"):
        read_vector(vector_file, made_by="-")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"vector": torch.ones(4)}, "does not hold one 1-D floating-point tensor"),
        ([torch.ones(4)], "does not hold one 1-D floating-point tensor"),
        (1.5, "does not hold one 1-D floating-point tensor"),
        (torch.ones(1, 4), "does not hold one 1-D floating-point tensor"),
        (torch.tensor(1.0), "does not hold one 1-D floating-point tensor"),
        (torch.ones(4, dtype=torch.int64), "does not hold one 1-D floating-point tensor"),
        (torch.ones(4, dtype=torch.bool), "does not hold one 1-D floating-point tensor"),
        (torch.ones(4, dtype=torch.complex64), "does not hold one 1-D floating-point tensor"),
        (torch.tensor([1, float("nan"), 0, 0]), "NaN or infinite"),
        (torch.tensor([1, 0, 0, -float("inf")]), "NaN or infinite"),
        (torch.ones(5), "width 5, .* has 4"),
        (torch.ones(0), "width 0, .* has 4"),
    ],
    ids=[
        *("dictionary", "list", "number", "2-D", "0-D", "integers", "booleans", "complex"),
        *("nan", "infinite", "wider", "empty"),
    ],
)
def test_what_is_no_vector_of_this_model_is_refused_by_name(
    vector_file: Path, value: object, wanted: str
) -> None:
    torch.save(value, vector_file)
    with pytest.raises(UserError, match=wanted) as caught:
        read_vector(vector_file, made_by="-", width=4)
    assert str(vector_file) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"r\xae garbage", b"\x80\x02K", b"PK\x03\x04" + bytes(60)])
def test_garbage_is_no_vector(vector_file: Path, data: bytes) -> None:
    vector_file.write_bytes(data)
    with pytest.raises(UserError, match="no plain tensor file"):
        read_vector(vector_file, made_by="-")
