"""Prompts before a model is loaded: whether they fit, and what they name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError
from utils.prompts.format import LetterPrompt, OpenPrompt

Prompt = LetterPrompt | OpenPrompt


def check_prompts(
    prompts: Sequence[Prompt],
    context: int | None,
    path: Path,
    *,
    max_new_tokens: int | None = None,
    numbers: Sequence[int] | None = None,
) -> dict[str, str]:
    """Check that every prompt and what is to follow it fit into the model.

    Warns once of the items that name special tokens which cannot be read as text.

    Args:
        prompts: of the items of a file.
        context: the most tokens that the model takes; ``None`` where unknown.
        path: the file.
        max_new_tokens: most tokens of an answer; ``None`` where a letter is read.
        numbers: which item each is of, counted from 1; by default one after another.

    Returns:
        For the record of what is made from these prompts: whether they name special tokens as
        text. Empty for most.

    Raises:
        UserError: naming the file, the item and the longest answer that fits.
    """
    numbers = numbers or range(1, len(prompts) + 1)
    if context is not None:
        _check_lengths(prompts, context, path, max_new_tokens, numbers)
    pairs = zip(numbers, prompts, strict=True)
    told = {number: p.named.as_tokens for number, p in pairs if p.named.as_tokens}
    if told:
        number, names = next(iter(told.items()))
        others = "" if len(told) == 1 else f", and so do {len(told) - 1} more items"
        warnings.warn(
            f"{path}, item {number} names {', '.join(names)}{others}: this tokenizer reads that as "
            "the token itself, not as text",
            stacklevel=2,
        )
    return {"special_tokens_named": "as text"} if any(p.named.as_text for p in prompts) else {}


def _check_lengths(
    prompts: Sequence[Prompt],
    context: int,
    path: Path,
    max_new_tokens: int | None,
    numbers: Sequence[int],
) -> None:
    lengths = [len(p.ids) for p in prompts]
    for number, length in zip(numbers, lengths, strict=True):
        if length >= context:
            raise UserError(
                f"{path}, item {number} makes a prompt of {length} tokens; "
                f"the model takes {context}"
            )
    longest = max(lengths, default=0)
    if max_new_tokens is not None and longest + max_new_tokens > context:
        raise UserError(
            f"{path}, item {numbers[lengths.index(longest)]} makes a prompt of {longest} tokens, "
            f"and --max_new_tokens {max_new_tokens} more are beyond the {context} that the model "
            f"takes: give --max_new_tokens {context - longest} at most"
        )
