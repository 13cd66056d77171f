"""A model and its tokenizer: questions in, answers, probabilities and residual streams out."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils.blocks.greedy import check_room, greedy
from utils.blocks.hooked_model import HookedModel
from utils.blocks.vocabulary import letter_probabilities
from utils.data.items import split_choices
from utils.errors import UserError
from utils.prompts.end_tokens import EndTokens, answer_text
from utils.prompts.format import Conversation, LetterPrompt, OpenPrompt, PromptFormat
from utils.prompts.templates import Turn

Steering = Mapping[int, Tensor]


@dataclass(frozen=True)
class Residuals:
    """The residual stream of one text.

    Attributes:
        tokens: the text of each token, prompt format included.
        steer_from: index of the last token of the instruction; steering begins there.
        at: layer -> the stream after that block, shape (tokens, width).
    """

    tokens: tuple[str, ...]
    steer_from: int
    at: dict[int, Tensor]


class ChatModel(HookedModel):
    """A causal language model that answers questions, steered or not.

    ``steer`` is layer -> what is added to that block's output, shape (width,): a vector times its
    multiplier. It is added at every token from the last of the instruction on, and nowhere before.

    Args:
        model: any decoder-only model of transformers with a list of decoder blocks.
        tokenizer: its tokenizer (fast).
        base: prompts in the base format instead of the chat template.
        system_prompt: of every prompt for which no other is given.

    Raises:
        UserError: the architecture has no list of decoder blocks to hook.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        base: bool = False,
        system_prompt: str | None = None,
    ) -> None:
        super().__init__(model)
        self.tokenizer = tokenizer
        self.base, self.system_prompt = base, system_prompt

    def prompt_format(self, system_prompt: str | None = None) -> PromptFormat:
        """How questions become prompts; ``None`` for the wrapper's own system prompt."""
        chosen = self.system_prompt if system_prompt is None else system_prompt
        return PromptFormat(self.tokenizer, base=self.base, system_prompt=chosen)

    def chat(
        self,
        question: str,
        *,
        steer: Steering | None = None,
        system_prompt: str | None = None,
        history: Sequence[Turn] = (),
        max_new_tokens: int = 100,
    ) -> str:
        """The model's answer, by greedy decoding.

        Args:
            question: the user's latest turn.
            steer: see above; earlier turns are read unsteered.
            system_prompt: of this conversation.
            history: earlier turns, oldest first: ``("user", "..."), ("assistant", "...")``.
            max_new_tokens: most tokens of the answer.

        Raises:
            UserError: no question, no room for the answer, or steering that does not fit.
        """
        prompt = self.prompt_format(system_prompt).open_prompt(_not_empty(question), history)
        with self._steered(prompt, steer, max_new_tokens):
            (tokens,) = self.generate([prompt.ids], max_new_tokens=max_new_tokens)
        return answer_text(self.tokenizer, tokens, self.end_tokens())

    def letter_probabilities(
        self,
        question: str,
        letters: Sequence[str] | None = None,
        *,
        steer: Steering | None = None,
        system_prompt: str | None = None,
    ) -> dict[str, float]:
        """P of each letter as the answer's, out of the whole vocabulary.

        Args:
            question: its choices included, one a line, as ``(A) ...``.
            letters: which; ``None`` for those of the choices.
            steer, system_prompt: as of :meth:`chat`.

        Raises:
            UserError: no choices, or a tokenizer that does not tell the letters apart.
        """
        asked = tuple(letters or (letter for letter, _ in split_choices(question)[1]))
        if not asked:
            raise UserError("no choices in this question: (A) ..., (B) ..., each on its line")
        prompt = self.prompt_format(system_prompt).letter_prompt(question, asked)
        with self._steered(prompt, steer):
            logits = self.next_logits(prompt.ids)
        found = letter_probabilities(logits, list(prompt.letters.values())).tolist()
        return dict(zip(prompt.letters, found, strict=True))

    def residuals(
        self,
        question: str,
        layers: Sequence[int],
        *,
        answer: str | None = None,
        steer: Steering | None = None,
        system_prompt: str | None = None,
    ) -> Residuals:
        """The residual stream of a question, or of a question and an answer that is given.

        Args:
            question: the user's turn.
            layers: after which blocks.
            answer: its text.
            steer: what is steered is contained in the stream.
            system_prompt: as of :meth:`chat`.

        Raises:
            UserError: no question, no layer, or steering that does not fit.
        """
        if not layers:
            raise UserError("no layers: name at least one")
        prompt_format, asked = self.prompt_format(system_prompt), _not_empty(question)
        text: OpenPrompt | Conversation = prompt_format.open_prompt(asked)
        if answer is not None:
            text = prompt_format.answered(asked, answer)
        tokens = torch.tensor([text.ids], device=self.device)
        with self._steered(text, steer), self.record(layers) as kept:
            self.run_until(max(layers), input_ids=tokens, use_cache=False)
        names = tuple(str(self.tokenizer.decode([i])) for i in text.ids)
        return Residuals(names, text.steer_from, {n: kept[n][0].clone() for n in layers})

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, use_cache: bool = True
    ) -> list[list[int]]:
        """Greedy continuations under the steering begun outside, see :func:`.greedy`."""
        eos, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        return greedy(
            self,
            prompts,
            pad=eos if pad is None else pad,
            ends=self.end_tokens(),
            max_new_tokens=max_new_tokens,
            use_cache=use_cache,
        )

    def end_tokens(self) -> set[int]:
        """The tokens at which the model's answers end."""
        config = self.model.generation_config
        return set(EndTokens.of(self.tokenizer, config, base=self.base).places)

    def _steered(
        self, text: OpenPrompt | LetterPrompt | Conversation, steer: Steering | None, more: int = 0
    ) -> contextlib.AbstractContextManager[None]:
        """Steering for one text, to be followed by some new tokens; everything checked before."""
        check_room(self, len(text.ids), more)
        self.check_steering(steer or {})
        named = () if isinstance(text, Conversation) else text.named.as_tokens
        if named:
            warnings.warn(
                f"the question names {', '.join(named)}: this tokenizer reads that as the token "
                "itself, not as text",
                stacklevel=3,
            )
        return self.steer(steer or {}, text.steer_from)


def _not_empty(question: str) -> str:
    if not question.strip():
        raise UserError("the question must be a text that is not empty")
    return question
