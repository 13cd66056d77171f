"""What is read of next-token logits: any function of them, in the same packed pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from utils.blocks.vocabulary import kl_divergence, letter_probabilities
from utils.prompts.format import LetterPrompt, OpenPrompt

P_contra = TypeVar("P_contra", contravariant=True)


class Reading(Protocol[P_contra]):
    """A function of the logits of some prompts.

    Attributes:
        compares: whether it holds each cell against the unsteered one.
    """

    compares: bool

    def group(self, prompt: P_contra) -> tuple[int, ...]:
        """Prompts of unlike groups are never read together."""

    def __call__(self, logits: Tensor, prompts: Sequence[P_contra]) -> Tensor:
        """Read the logits of prompts of one group.

        Args:
            logits: shape (prompts, cells, vocabulary); the first cell is unsteered, unless a cell
                comes alone because nothing is compared.
            prompts: one for each row.

        Returns:
            float64 on the CPU, shape (prompts, cells, numbers); NaN where the logits are.
        """


class Letters:
    """P(letter) of every letter of the prompts."""

    compares = False

    def group(self, prompt: LetterPrompt) -> tuple[int, ...]:
        return tuple(prompt.letters.values())

    def __call__(self, logits: Tensor, prompts: Sequence[LetterPrompt]) -> Tensor:
        return letter_probabilities(logits, list(prompts[0].letters.values()))


class Divergence:
    """KL(unsteered || steered) of the next token, one number."""

    compares = True

    def group(self, _prompt: OpenPrompt) -> tuple[int, ...]:
        return ()

    def __call__(self, logits: Tensor, prompts: Sequence[OpenPrompt]) -> Tensor:
        return kl_divergence(logits[:, :1], logits)[..., None].cpu()
