"""Prompts and token positions: which token is read, and from which token on one steers.

Positions are found by character offsets in the rendered text, never by a fixed index, so that
any chat template and tokenizer works, or is refused with its tokens shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from utils.errors import UserError
from utils.files.contents import sha256_bytes
from utils.prompts.special_tokens import LiteralText, Tokenised
from utils.prompts.templates import ChatTemplate, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENING = "("
_NEUTRAL = "Is this the question?"


@dataclass(frozen=True)
class Named:
    """Special tokens whose names people wrote into a prompt, each once.

    Attributes:
        as_text: those that are read as text there.
        as_tokens: those that this tokenizer can only read as the tokens themselves.
    """

    as_text: tuple[str, ...] = ()
    as_tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class LetterPrompt:
    """A prompt that ends right before the token that holds the letter of an answer.

    That token is ``A`` where the tokenizer keeps ``(`` apart (Llama 2, Gemma), and ``(A`` where
    it does not (Llama 3, Qwen, DeepSeek): then the prompt ends with the instruction.

    Attributes:
        ids: token ids of everything that the answers share.
        steer_from: position of the last token of the instruction; steering begins there.
        letters: for each letter asked for the id of the token that holds it, in this very context.
        named: special tokens that the question or the system prompt names.
    """

    ids: tuple[int, ...]
    steer_from: int
    letters: dict[str, int]
    named: Named = Named()

    @property
    def tail(self) -> int:
        """Number of steered tokens of the prompt: from ``steer_from`` to its end."""
        return len(self.ids) - self.steer_from


@dataclass(frozen=True)
class OpenPrompt:
    """A prompt to be answered freely.

    Attributes:
        ids: token ids of the instruction (and of the separator, where that is a token).
        steer_from: position of the last token of the instruction; steering begins there.
        named: special tokens that the question or the system prompt names.
    """

    ids: tuple[int, ...]
    steer_from: int
    named: Named = Named()

    @property
    def tail(self) -> int:
        """Number of steered tokens of the prompt."""
        return len(self.ids) - self.steer_from


@dataclass(frozen=True)
class Conversation:
    """A question and its answer as tokens.

    Attributes:
        ids: token ids of both.
        steer_from: position of the last token of the instruction; steering begins there.
        answer_from: position of the first token of the answer.
    """

    ids: tuple[int, ...]
    steer_from: int
    answer_from: int


class PromptFormat:
    """Renders questions for one model: its chat template, or the base format.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed).
        base: ``Input: question`` / ``Response: answer`` instead of the chat template.
        system_prompt: text of the system turn, or ``None``. How a template takes it, and how
            thinking is switched off, is in :mod:`utils.prompts.templates`.

    Raises:
        UserError: no chat template, one that cannot be used, a slow tokenizer, or a system prompt
            with the base format.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
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
        self._text = LiteralText(tokenizer)
        self._hiding, hidden = self.template, self._text.hide(system_prompt or "")
        if self._text.hidden(hidden):
            self._hiding = ChatTemplate(tokenizer, hidden)
        self._beginning = _missing_beginning(tokenizer) if base else None
        self._own: dict[tuple[str, ...], Counter[int]] = {}

    def fingerprint(self) -> str:
        """Hash of everything that turns a question into a prompt, the tokenizer's words aside."""
        source = "base" if self.template is None else str(self.tokenizer.chat_template)
        parts = [source, self.system_prompt]
        if self.template is not None and self.template.handling():
            parts.append(self.template.handling())
        if self._beginning is not None:
            parts.append("begin-of-sequence token")
        return sha256_bytes(repr(tuple(parts)).encode())

    def instruction(self, question: str, history: Sequence[Turn] = ()) -> str:
        """Everything up to and including the generation prompt (and its thinking block).

        Args:
            question: the user's turn.
            history: the turns before it, oldest first.

        Raises:
            UserError: the template fails on them, or earlier turns in the base format.
        """
        return _rendered(self.template, question, history)

    def _hidden(self, question: str, history: Sequence[Turn] = ()) -> str:
        """The instruction with the names of special tokens hidden that a person wrote.

        As it is where a template makes something else of a text in which they are hidden.

        Raises:
            UserError: a person wrote what they are hidden behind.
        """
        plain = self.instruction(question, history)
        if self._text.hidden(plain):
            raise UserError("a text holds a run of one character of Unicode's plane 16: remove it")
        earlier = [(role, self._text.hide(text)) for role, text in history]
        hidden = _rendered(self._hiding, self._text.hide(question), earlier)
        return hidden if self._text.show(hidden) == plain else plain

    def separator(self, question: str) -> str:
        """What the format puts between the instruction and an answer (one space for Llama 2)."""
        return " " if self.template is None else self.template.separator

    def letter_prompt(self, question: str, letters: tuple[str, ...]) -> LetterPrompt:
        """Tokenise the instruction with every answer and find where the answers part.

        The letter's token is the first in which the tokenised answers ``(A)``, ``(B)`` ... differ;
        everything before it is shared.

        Args:
            question: the user's turn, choices included.
            letters: the letters whose tokens are wanted, such as ``("A", "B")``.

        Raises:
            UserError: the token in which the answers differ does not hold the letter, is the same
                for two of them, or begins inside the instruction; shows the tokens.
        """
        instruction = self._hidden(question)
        stem = instruction + self.separator(question) + OPENING
        answers = {letter: self._tokenize(f"{stem}{letter})") for letter in letters}
        columns = zip(*(ids for ids, _ in answers.values()), strict=False)
        at = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
        tokens: dict[str, int] = {}
        for letter, (ids, offsets) in answers.items():
            first, end = offsets[at] if at < len(ids) else (0, 0)
            if not first <= len(stem) < end:
                raise UserError(self._misfit(letter, "does not hold the letter", answers, at))
            if first < len(instruction):
                raise UserError(self._misfit(letter, "begins inside the instruction", answers, at))
            if ids[at] in tokens.values():
                raise UserError(self._misfit(letter, "is another letter's too", answers, at))
            tokens[letter] = ids[at]
        ids, offsets = answers[letters[0]]
        steer_from = _last_token_within(offsets, len(instruction))
        return LetterPrompt(ids[:at], steer_from, tokens, self._named(instruction, ids[:at]))

    def open_prompt(self, question: str, history: Sequence[Turn] = ()) -> OpenPrompt:
        """Tokenise the instruction alone; the model goes on from its last token.

        Steering begins at that token: earlier turns (see :meth:`instruction`) are read unsteered.
        """
        instruction = self._hidden(question, history)
        ids, offsets = self._tokenize(instruction)
        steer_from = _last_token_within(offsets, len(instruction))
        if self.base:
            # some tokenizers end every text with an end token: nothing could follow that
            ids = ids[: steer_from + 1]
        roles = tuple(role for role, _ in history)
        return OpenPrompt(ids, steer_from, self._named(instruction, ids, roles))

    def answered(self, question: str, answer: str) -> Conversation:
        """Tokenise the instruction with an answer that is given, in one text."""
        instruction = self._hidden(question)
        stem = instruction + self.separator(question)
        ids, offsets = self._tokenize(stem + self._text.hide(answer))
        answer_from = min(i for i, (_, e) in enumerate(offsets) if e > len(stem))
        return Conversation(ids, _last_token_within(offsets, len(instruction)), answer_from)

    def _tokenize(self, text: str) -> Tokenised:
        # A rendered chat template already holds the begin-of-sequence token.
        ids, offsets = self._text.encode(text, add_special_tokens=self.base)
        if self._beginning is not None:
            return (self._beginning, *ids), [(0, 0), *offsets]
        return ids, offsets

    def _named(self, instruction: str, ids: Sequence[int], roles: tuple[str, ...] = ()) -> Named:
        """What became of the special tokens that a person named in an instruction."""
        more = Counter(i for i in ids if i in self._text.tokens) - self._own_tokens(roles)
        left = tuple(name for i, name in self._text.tokens.items() if i in more)
        hidden = (name for name in self._text.hidden(instruction) if name not in left)
        return Named(tuple(hidden), left)

    def _own_tokens(self, roles: tuple[str, ...]) -> Counter[int]:
        """The special tokens of a prompt whose texts name none, with their numbers.

        Args:
            roles: who speaks in the turns before the question.
        """
        if roles not in self._own:
            system_prompt = None if self.system_prompt is None else _NEUTRAL
            template = None if self.base else ChatTemplate(self.tokenizer, system_prompt)
            history = [(role, _NEUTRAL) for role in roles]
            ids, _ = self._tokenize(_rendered(template, _NEUTRAL, history))
            self._own = {roles: Counter(i for i in ids if i in self._text.tokens)}
        return self._own[roles]

    def _misfit(self, letter: str, fault: str, answers: Mapping[str, Tokenised], at: int) -> str:
        shown = []
        for name, (ids, _) in answers.items():
            tokens = self.tokenizer.convert_ids_to_tokens(list(ids[max(0, at - 3) : at + 3]))
            shown.append(f"  ({name}): ... {' '.join(map(repr, tokens))}")
        return (
            "this tokenizer does not tell the answers apart by one token: the first in which "
            f"({letter}) differs {fault}; the answers and what stands before them are the tokens\n"
            + "\n".join(shown)
        )


def _rendered(template: ChatTemplate | None, question: str, history: Sequence[Turn] = ()) -> str:
    if template is not None:
        return template.instruction(question, history)
    if history:
        raise UserError("the base format is one question and its answer: no earlier turns")
    return f"Input: {question.strip()}\nResponse:"


def _missing_beginning(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The begin-of-sequence token of a model that wants one and whose tokenizer adds none.

    The files of some tokenizers leave it to the chat template (the first ones of Llama 3) or to a
    setting that transformers 5 passes over where there is a ``tokenizer.json`` (``add_bos_token``
    of DeepSeek V3). A template that writes the token shows that the model's texts begin with it.
    """
    bos = tokenizer.bos_token_id
    if bos is None or "bos_token" not in str(tokenizer.chat_template):
        return None
    return None if tokenizer("a")["input_ids"][:1] == [bos] else bos


def _last_token_within(offsets: Sequence[tuple[int, int]], length: int) -> int:
    """The last token that begins within the first ``length`` characters of a text."""
    return max(i for i, (start, end) in enumerate(offsets) if start < length and end > start)
