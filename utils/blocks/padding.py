"""Rows of unlike length in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def left_padded(
    rows: Sequence[Sequence[int]], device: torch.device, *, extra: int = 0
) -> dict[str, Tensor]:
    """Model inputs, each of shape (rows, longest): the last token of every row is at the end.

    Args:
        rows: token ids of each row.
        device: where the inputs go.
        extra: tokens of padding in front of the longest row too.
    """
    longest = max(map(len, rows)) + extra
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {name: value.to(device) for name, value in inputs.items()}
