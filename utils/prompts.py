"""Prompts and token positions: which token is read, and from which token on one steers.

Positions are found by character offsets in the rendered text, never by a fixed index, so that
any chat template and tokenizer works, or is refused with its tokens shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utils.artifacts import sha256_bytes
from utils.errors import UserError
from utils.templates import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENING = "("


@dataclass(frozen=True)
class LetterPrompt:
    """A prompt that ends right before the letter of an answer.

    Attributes:
        ids: token ids up to and including ``(``.
        steer_from: position of the last token of the instruction; steering begins there.
        letters: token id of each letter asked for, in this very context.
    """

    ids: tuple[int, ...]
    steer_from: int
    letters: dict[str, int]

    @property
    def tail(self) -> int:
        """Number of steered tokens of the prompt: from ``steer_from`` to ``(``."""
        return len(self.ids) - self.steer_from


@dataclass(frozen=True)
class OpenPrompt:
    """A prompt to be answered freely.

    Attributes:
        ids: token ids of the instruction (and of the separator, where that is a token).
        steer_from: position of the last token of the instruction; steering begins there.
    """

    ids: tuple[int, ...]
    steer_from: int

    @property
    def tail(self) -> int:
        """Number of steered tokens of the prompt."""
        return len(self.ids) - self.steer_from


class PromptFormat:
    """Renders questions for one model: its chat template, or the base format.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed).
        base: ``Input: question`` / ``Response: answer`` instead of the chat template.
        system_prompt: text of the system turn, or ``None``. How a template takes it, and how
            thinking is switched off, is in :mod:`utils.templates`.

    Raises:
        UserError: no chat template, one that cannot be used, a slow tokenizer, or a system prompt
            with the base format.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        base: bool = False,
        system_prompt: str | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError("this model has no fast tokenizer, so no character offsets")
        if not base and not tokenizer.chat_template:
            raise UserError(
                "this model has no chat template; give --use_base_model for the base format "
                "(Input: ... / Response: ...)"
            )
        if base and system_prompt is not None:
            raise UserError("base models have no system turn: drop --system_prompt")
        self.tokenizer = tokenizer
        self.base = base
        self.system_prompt = system_prompt
        self.template = None if base else ChatTemplate(tokenizer, system_prompt)

    def fingerprint(self) -> str:
        """Hash of everything that turns a question into a prompt, the tokenizer's words aside."""
        source = "base" if self.template is None else str(self.tokenizer.chat_template)
        parts = [source, self.system_prompt]
        if self.template is not None and self.template.handling():
            parts.append(self.template.handling())
        return sha256_bytes(repr(tuple(parts)).encode())

    def instruction(self, question: str) -> str:
        """Everything up to and including the generation prompt (and its thinking block)."""
        if self.template is None:
            return f"Input: {question.strip()}\nResponse:"
        return self.template.instruction(question)

    def separator(self, question: str) -> str:
        """What the format puts between the instruction and an answer (one space for Llama 2)."""
        return " " if self.template is None else self.template.separator

    def letter_prompt(self, question: str, letters: tuple[str, ...]) -> LetterPrompt:
        """Tokenise ``instruction + ( + letter + )`` and find the positions.

        Args:
            question: the user's turn, choices included.
            letters: the letters whose tokens are wanted, such as ``("A", "B")``.

        Raises:
            UserError: the tokenizer merges or splits ``(`` and a letter; shows the tokens.
        """
        instruction = self.instruction(question)
        stem = instruction + self.separator(question) + OPENING
        prompts = []
        for letter in letters:
            ids, offsets = self._tokenize(stem + letter + ")")
            at = next((i for i, (s, e) in enumerate(offsets) if s <= len(stem) < e), None)
            if at is None or offsets[at] != (len(stem), len(stem) + 1):
                raise UserError(self._merged_message(letter, ids))
            prompts.append((ids[:at], ids[at], offsets))
        if len({ids for ids, _, _ in prompts}) != 1 or len({id for _, id, _ in prompts}) != len(
            letters
        ):
            raise UserError(self._merged_message("/".join(letters), prompts[0][0]))
        ids, _, offsets = prompts[0]
        steer_from = max(i for i, (s, e) in enumerate(offsets) if s < len(instruction) and e > s)
        return LetterPrompt(
            ids=ids,
            steer_from=min(steer_from, len(ids) - 1),
            letters={letter: p[1] for letter, p in zip(letters, prompts, strict=True)},
        )

    def open_prompt(self, question: str) -> OpenPrompt:
        """Tokenise the instruction alone; the model goes on from its last token."""
        instruction = self.instruction(question)
        ids, offsets = self._tokenize(instruction)
        steer_from = max(i for i, (s, e) in enumerate(offsets) if s < len(instruction) and e > s)
        if self.base:
            # some tokenizers end every text with an end token: nothing could follow that
            ids = ids[: steer_from + 1]
        return OpenPrompt(ids, steer_from)

    def _tokenize(self, text: str) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        # A rendered chat template already holds the begin-of-sequence token.
        encoded = self.tokenizer(text, add_special_tokens=self.base, return_offsets_mapping=True)
        return tuple(encoded["input_ids"]), [tuple(o) for o in encoded["offset_mapping"]]

    def _merged_message(self, letter: str, ids: tuple[int, ...]) -> str:
        tokens = self.tokenizer.convert_ids_to_tokens(list(ids[-6:]))
        return (
            f"this tokenizer does not keep the answer letter {letter} after {OPENING!r} as one "
            f"token of its own; the prompt ends in the tokens {tokens}"
        )


def check_lengths(prompts: Sequence[LetterPrompt], context: int | None, path: Path) -> None:
    """Check that every prompt and one letter more fit into the model.

    Raises:
        UserError: naming the file and the item.
    """
    for number, prompt in enumerate(prompts, 1):
        if context is not None and len(prompt.ids) >= context:
            raise UserError(
                f"{path}, item {number} makes a prompt of {len(prompt.ids)} tokens; "
                f"the model takes {context}"
            )


def show_tokens(prompt: LetterPrompt, tokenizer: "PreTrainedTokenizerBase", *, read: str) -> str:
    """One prompt, token by token: which is read and which are steered (``--show_tokens``)."""
    lines = []
    for position, token in enumerate(tokenizer.convert_ids_to_tokens(list(prompt.ids))):
        mark = "steered" if position >= prompt.steer_from else ""
        lines.append(f"{position:5}  {token!r:24} {mark}".rstrip())
    lines.append(f"{len(prompt.ids):5}  {read}")
    for letter, token_id in prompt.letters.items():
        lines.append(f"       {letter} = token {token_id} {tokenizer.decode([token_id])!r}")
    return "\n".join(lines)
