"""Special tokens: which a model has, and text in which their names are only text.

A tokenizer finds ``<|im_end|>`` in a rendered prompt whoever wrote it, the template or a person,
and a person's would end the turn. So what a person wrote is hidden from the template behind
stand-ins of the same length, and read by a copy of the tokenizer that knows special tokens by
other stand-ins alone. Offsets stay those of the plain text, and a prompt in which no person wrote
such a name is read by the tokenizer itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokenised = tuple[tuple[int, ...], list[tuple[int, int]]]
"""Token ids, and for each token where its text begins and ends."""

# Characters that Unicode gives to nobody: what a person wrote, and what the template did.
_PERSON, _TEMPLATE = 0x100000, 0xF0000
_SHORTEST = 3


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The tokens that are no text to the model, by id.

    Those that the tokenizer calls special, and those that its chat template names: DeepSeek's
    ``<｜User｜>`` and Qwen's ``</think>`` are added tokens like any other. Gemma's for line breaks
    and HTML are text.
    """
    template = str(tokenizer.chat_template or "")
    return {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip() and (token.special or _is_named(token.content, template))
    }


def _is_named(content: str, template: str) -> bool:
    name = content.strip()
    return len(name) >= _SHORTEST and not name.isalnum() and content in template


class LiteralText:
    """Hides the names of special tokens in what people write, and tokenises what is hidden.

    Args:
        tokenizer: a fast tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.tokens = special_tokens(tokenizer)
        self._names = tuple(self.tokens.values())
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def hide(self, text: str) -> str:
        """The text with a stand-in of the same length for every special token's name in it.

        A text that holds characters like the stand-ins' is left as it is.
        """
        if any(ord(c) >= _TEMPLATE for c in text):
            return text
        return self._pattern.sub(lambda m: self._stand_in(_PERSON, m[0]), text)

    def show(self, text: str) -> str:
        """The plain text again: the inverse of :meth:`hide`, also in a rendered prompt."""
        for number in self._numbers(text):
            name = self._names[number]
            text = text.replace(self._stand_in(_PERSON, name), name)
        return text

    def hidden(self, text: str) -> tuple[str, ...]:
        """The names that are hidden in a text, each once."""
        return tuple(self._names[number] for number in self._numbers(text))

    def encode(self, text: str, *, add_special_tokens: bool) -> Tokenised:
        """Tokenise a rendered prompt: what is hidden in it as text, all else as ever."""
        if not self._numbers(text):
            encoded = self.tokenizer(
                text, add_special_tokens=add_special_tokens, return_offsets_mapping=True
            )
            return tuple(encoded["input_ids"]), [tuple(o) for o in encoded["offset_mapping"]]
        written = self._pattern.sub(lambda m: self._stand_in(_TEMPLATE, m[0]), text)
        reader, meant = _literal_reader(self.tokenizer, tuple(self.tokens.items()))
        found = reader.encode(self.show(written), add_special_tokens=add_special_tokens)
        return tuple(meant.get(i, i) for i in found.ids), list(found.offsets)

    def _stand_in(self, plane: int, name: str) -> str:
        return _stand_in(plane, self._names.index(name), name)

    def _numbers(self, text: str) -> list[int]:
        places = {ord(c) - _PERSON for c in text if ord(c) >= _PERSON}
        known = sorted(places & set(range(len(self._names))))
        return [n for n in known if _stand_in(_PERSON, n, self._names[n]) in text]


def _stand_in(plane: int, number: int, name: str) -> str:
    return chr(plane + number) * len(name)


@lru_cache(maxsize=1)
def _literal_reader(
    tokenizer: PreTrainedTokenizerBase, special: tuple[tuple[int, str], ...]
) -> tuple[Tokenizer, dict[int, int]]:
    """A tokenizer to which special tokens are text, and for its stand-ins what they mean.

    Made at the first prompt that needs it: copying a large vocabulary takes seconds.
    """
    reader: Tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    reader.no_truncation()
    reader.no_padding()
    known = tokenizer.added_tokens_decoder
    # those that only the template names are to be left alone too
    reader.add_special_tokens([known[number] for number, _ in special])
    reader.encode_special_tokens = True
    stand_ins = [_stand_in(_TEMPLATE, place, name) for place, (_, name) in enumerate(special)]
    numbers = [number for number, _ in special]
    reader.add_tokens([_like(known[n], s) for n, s in zip(numbers, stand_ins, strict=True)])
    own = [i for i in map(reader.token_to_id, stand_ins) if i is not None]
    return reader, dict(zip(own, numbers, strict=True))


def _like(token: AddedToken, content: str) -> AddedToken:
    """A token that takes the same white space as another, but is not special."""
    names = ("single_word", "lstrip", "rstrip", "normalized")
    return AddedToken(content, special=False, **{name: getattr(token, name) for name in names})
