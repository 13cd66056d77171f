"""The vocabulary projection part by part = the layer's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from utils.blocks import vocabulary
from utils.blocks.vocabulary import head_in_parts


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("words", [50, 1000, 1007])
def test_parts_give_the_logits_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, words: int, bias: bool
) -> None:
    monkeypatch.setattr(vocabulary, "_PART", 24 * 100)
    torch.manual_seed(0)
    head, hidden = nn.Linear(24, words, bias=bias), torch.randn(5, 1, 24)
    seen: list[int] = []
    head.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    calls: list[int] = []
    product = torch.addmm if bias else torch.mm
    name = "addmm" if bias else "mm"

    def counted(*given: Any, **named: Any) -> torch.Tensor:
        calls.append(1)
        return product(*given, **named)

    monkeypatch.setattr(torch, name, counted)
    with torch.inference_mode():
        whole = head(hidden)
        with head_in_parts(head):
            parts = head(hidden)
        again = head(hidden)
    assert parts.shape == (5, 1, words)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
    assert torch.equal(again, whole)
    assert len(calls) == -(-words // 100), "it was computed in parts, and only inside the block"
    assert seen == [5, 5, 5], "hooks on the layer still run"


def test_the_layer_is_itself_again_after_an_error() -> None:
    head = nn.Linear(4, 6)
    with pytest.raises(KeyError), head_in_parts(head):
        assert "forward" in vars(head)
        raise KeyError
    assert "forward" not in vars(head)


class Adapted(nn.Linear):
    """More than a plain layer."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden) + 1


def test_anything_but_a_plain_layer_is_left_alone() -> None:
    offloaded = nn.Linear(4, 6)
    own = offloaded.forward
    vars(offloaded)["forward"] = own
    half = nn.Linear(4, 6, dtype=torch.bfloat16)
    for head in (Adapted(4, 6), half, None):
        with head_in_parts(head):
            assert head is None or "forward" not in vars(head)
    with head_in_parts(offloaded):
        assert vars(offloaded)["forward"] is own
    assert vars(offloaded)["forward"] is own
