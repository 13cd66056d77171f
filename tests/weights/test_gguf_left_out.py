"""What transformers' reader of GGUF files leaves out: mended, or refused with its name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from small_gguf import write_gguf

from utils.errors import UserError
from utils.models.choice import choose_model
from utils.models.loading import load_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAA_CACHE_DIR", str(tmp_path / "cache"))


def load(path: Path, *, keep: bool) -> torch.nn.Module:
    return load_model(choose_model(str(path), None, False, keep_converted=keep), device="cpu")


def llama3_divisors(factor: float, base: float = 1_000_000.0, width: int = 16) -> torch.Tensor:
    """As llama.cpp's converter computes them from Llama 3's rule."""
    found = []
    for i in range(0, width, 2):
        wavelength = 2 * math.pi * base ** (i / width)
        smooth = (8192 / wavelength - 1) / 3
        mixed = 1 / ((1 - smooth) / factor + smooth)
        found.append(1.0 if smooth > 1 else factor if smooth < 0 else mixed)
    return torch.tensor(found)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("lost", ["blk.2.", "token_embd", "blk.0.attn_q.bias"])
def test_lost_tensors_are_named(tmp_path: Path, lost: str, keep: bool) -> None:
    path = write_gguf(tmp_path / "x.gguf", lost=lost)
    with pytest.raises(UserError, match="not in its files and would be random: "):
        load(path, keep=keep)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    "name", ["blk.1.attn_q_norm.weight", "blk.3.ffn_sub_norm.weight", "rope_factors_short.weight"]
)
def test_tensors_that_are_passed_over_are_named(tmp_path: Path, name: str, keep: bool) -> None:
    path = write_gguf(tmp_path / "x.gguf", extra={name: torch.ones(16)})
    with pytest.raises(UserError, match=f"passes over 16 numbers .*: {name}$"):
        load(path, keep=keep)
    assert not list((tmp_path / "cache").glob("x-*")), "nothing of it is kept"


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_slower_rotations_of_llama_3_are_kept(
    tmp_path: Path, factor: float, keep: bool
) -> None:
    divisors = llama3_divisors(factor)
    assert divisors.unique().numel() > 2
    path = write_gguf(tmp_path / "x.gguf", extra={"rope_freqs.weight": divisors})
    plain = load(write_gguf(tmp_path / "plain.gguf"), keep=keep)
    model = load(path, keep=keep)
    found, old = (m.get_buffer("model.rotary_emb.inv_freq") for m in (model, plain))
    assert torch.allclose(found * divisors, old, rtol=1e-5, atol=0)
    ids = torch.arange(4, 60)[None]
    assert not torch.allclose(model(ids).logits, plain(ids).logits, atol=1e-4)


def test_other_rotations_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", extra={"rope_freqs.weight": torch.linspace(1, 3, 8)})
    with pytest.raises(UserError, match=r"rope_freqs.weight is not what Llama 3's rule gives"):
        load(path, keep=False)
    path = write_gguf(tmp_path / "y.gguf", scaling="yarn")
    with pytest.raises(UserError, match=r"scaling of its rotary positions \(yarn\)"):
        load(path, keep=False)
