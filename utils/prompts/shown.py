"""One prompt as people read it, with marks where it is steered and where it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utils.prompts.checks import Prompt
from utils.prompts.format import LetterPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def show_tokens(prompt: Prompt, tokenizer: PreTrainedTokenizerBase, *, read: str) -> str:
    """A prompt as text, its special tokens visible (``--show_tokens``).

    Args:
        prompt: what is shown.
        tokenizer: its tokenizer.
        read: what is read at its end, in words.

    Returns:
        A line that explains the marks, the text, a line with the ids of all steered tokens, and
        for a letter prompt one with those of the letters.
    """
    at, letters = prompt.steer_from, prompt.letters if isinstance(prompt, LetterPrompt) else {}
    before, first, after = _pieces(tokenizer, prompt.ids, at)
    answers = {name: _text(tokenizer, [number]) for name, number in letters.items()}
    lines = [
        f"{len(prompt.ids)} tokens; ⟦ ⟧: the first that is steered, as is all behind it; ⟪ ⟫: read "
        f"here, {read}",
        f"{before}⟦{_visible(first)}⟧{after}⟪{'|'.join(answers.values()) or '...'}⟫",
        f"steered: {_numbered(tokenizer, prompt.ids, at)}",
    ]
    if letters:
        found = (f"{name} = token {letters[name]} {text!r}" for name, text in answers.items())
        lines.append(f"letters: {', '.join(found)}")
    return "\n".join(lines)


def _pieces(
    tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...], at: int
) -> tuple[str, str, str]:
    """The text before a token, of the token, and behind it."""
    # decoded alone, a token of a sentencepiece tokenizer loses the space before it
    ends = [len(_text(tokenizer, ids[:count])) for count in (at, at + 1)]
    whole = _text(tokenizer, ids)
    return whole[: ends[0]], whole[ends[0] : ends[1]], whole[ends[1] :]


def _numbered(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...], at: int) -> str:
    """The tokens from a position on, each with its position and its id."""
    tokens = tokenizer.convert_ids_to_tokens(list(ids[at:]))
    rows = zip(range(at, len(ids)), tokens, ids[at:], strict=True)
    return ", ".join(f"position {n} {token!r} = token {number}" for n, token, number in rows)


def _text(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...] | list[int]) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


def _visible(text: str) -> str:
    return text if text.strip() else repr(text)[1:-1]
