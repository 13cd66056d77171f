"""Where an answer ends: three places name the tokens, and none of them names all.

A generation config may know the end of a text but not that of a turn, a tokenizer has one end
token, and a chat template shows what it puts after an answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.prompts.special_tokens import special_tokens
from utils.prompts.templates import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG, TOKENIZER, TEMPLATE = "generation config", "tokenizer", "chat template"


@dataclass(frozen=True)
class EndTokens:
    """The tokens at which a model's answers end.

    Attributes:
        places: token id -> the places that name it.
    """

    places: dict[int, list[str]]

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, generation_config: Any, *, base: bool
    ) -> EndTokens:
        """Ask all three places.

        Args:
            tokenizer: with the chat template that the prompts are rendered by.
            generation_config: the model's.
            base: prompts in the base format, whose answers no template ends.

        Raises:
            UserError: the chat template cannot be used.
        """
        ends = generation_config.eos_token_id
        configured = ends if isinstance(ends, list) else [ends]
        from_template = None if base or not tokenizer.chat_template else template_end(tokenizer)
        named = [(end, CONFIG) for end in configured]
        named += [(tokenizer.eos_token_id, TOKENIZER), (from_template, TEMPLATE)]
        places: dict[int, list[str]] = {}
        for end, place in named:
            if end is not None:
                places.setdefault(int(end), []).append(place)
        return cls(places)

    def inputs(self) -> dict[str, list[int]]:
        """What the record of answers says: all of them, where the config leaves out some.

        Nothing for other models, whose answers are those of the time when only that was read.
        """
        left_out = any(CONFIG not in places for places in self.places.values())
        return {"end_tokens": sorted(self.places)} if left_out else {}

    def shown(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """One line for each token (``--show_tokens``)."""
        lines = [
            f"answers end at token {end} {tokenizer.decode([end])!r} ({', '.join(places)})"
            for end, places in self.places.items()
        ]
        return "\n".join(lines or ["answers end at no token"])


def template_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The first special token that a chat template puts after an answer, if it puts one.

    Raises:
        UserError: the chat template cannot be used.
    """
    special = special_tokens(tokenizer)
    closing = ChatTemplate(tokenizer, None).closing
    ids = tokenizer(closing, add_special_tokens=False)["input_ids"]
    return next((i for i in ids if i in special), None)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], ends: Collection[int]
) -> str:
    """An answer as people read it, without the tokens at which it ends and other special ones."""
    # the end of a turn need not be a token that the tokenizer calls special
    own = [token for token in tokens if token not in ends]
    return str(tokenizer.decode(own, skip_special_tokens=True)).strip()
