"""An oracle that knows nothing of this project: transformers, a plain hook, no padding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Oracle:
    """A Llama to which a vector is added at one layer, from a position on.

    Args:
        model: random or real.
        layer: where.
        vector: shape (width,); nothing is added where it is ``None``.
    """

    def __init__(self, model: PreTrainedModel, layer: int, vector: Tensor | None) -> None:
        self.model, self.layer, self.vector = model, layer, vector

    @contextlib.contextmanager
    def _steered(self, first: int) -> Iterator[None]:
        def hook(_module: object, _args: object, output: Tensor) -> Tensor:
            changed = output.clone()
            if self.vector is not None:
                changed[:, first:] += self.vector
            return changed

        handle = self.model.model.layers[self.layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def log_likelihood(self, row: Sequence[int], scored: int, first: int) -> tuple[float, bool]:
        """Of the last ``scored`` tokens of a row, and whether all of them are the likeliest."""
        with torch.no_grad(), self._steered(first):
            logits = self.model(torch.tensor([list(row)])).logits[0, -scored - 1 : -1]
        tokens = torch.tensor(list(row[-scored:]))
        total = logits.log_softmax(-1).gather(1, tokens[:, None]).sum()
        return float(total), bool((logits.argmax(-1) == tokens).all())

    def greedy(self, row: Sequence[int], first: int, most: int, end: int) -> list[int]:
        """The likeliest next tokens, the whole text run anew for each."""
        ids = list(row)
        while len(ids) < len(row) + most and (len(ids) == len(row) or ids[-1] != end):
            with torch.no_grad(), self._steered(first):
                ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
        return ids[len(row) :]
