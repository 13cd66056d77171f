"""Prompts before a model is loaded: whether they fit, and what they name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError
from utils.prompts.format import LetterPrompt, OpenPrompt

Prompt = LetterPrompt | OpenPrompt


def check_prompts(
    prompts: Sequence[Prompt], context: int | None, path: Path, *, max_new_tokens: int | None = None
) -> dict[str, str]:
    """Check that every prompt and what is to follow it fit into the model.

    Warns once of the items that name special tokens which cannot be read as text.

    Args:
        prompts: one for each item of a file.
        context: the most tokens that the model takes; ``None`` where unknown.
        path: the file.
        max_new_tokens: most tokens of an answer; ``None`` where a letter is read.

    Returns:
        For the record of what is made from these prompts: whether they name special tokens as
        text. Empty for most.

    Raises:
        UserError: naming the file, the item and the longest answer that fits.
    """
    if context is not None:
        _check_lengths(prompts, context, path, max_new_tokens)
    told = [(number, p.named.as_tokens) for number, p in enumerate(prompts, 1) if p.named.as_tokens]
    if told:
        number, names = told[0]
        others = "" if len(told) == 1 else f", and so do {len(told) - 1} more items"
        warnings.warn(
            f"{path}, item {number} names {', '.join(names)}{others}: this tokenizer reads that as "
            "the token itself, not as text",
            stacklevel=2,
        )
    return {"special_tokens_named": "as text"} if any(p.named.as_text for p in prompts) else {}


def _check_lengths(
    prompts: Sequence[Prompt], context: int, path: Path, max_new_tokens: int | None
) -> None:
    lengths = [len(p.ids) for p in prompts]
    for number, length in enumerate(lengths, 1):
        if length >= context:
            raise UserError(
                f"{path}, item {number} makes a prompt of {length} tokens; "
                f"the model takes {context}"
            )
    longest = max(lengths, default=0)
    if max_new_tokens is not None and longest + max_new_tokens > context:
        raise UserError(
            f"{path}, item {lengths.index(longest) + 1} makes a prompt of {longest} tokens, and "
            f"--max_new_tokens {max_new_tokens} more are beyond the {context} that the model "
            f"takes: give --max_new_tokens {context - longest} at most"
        )
