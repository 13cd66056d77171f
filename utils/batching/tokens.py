"""Tokens as text: each by itself, and those of an answer that grows, up to where it stops."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_LONGEST_BEGINNING = 3


class TokenTexts:
    """What each token of a vocabulary stands for.

    Args:
        tokenizer: a fast tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._added = {i: t.content for i, t in tokenizer.added_tokens_decoder.items()}

    def bytes_of(self, token: int) -> bytes:
        """The bytes of UTF-8 that a token adds to a text."""
        if token in self._added:
            return self._added[token].encode()
        piece = self.tokenizer.convert_ids_to_tokens(token)
        if not isinstance(piece, str):
            return b""
        if self._byte_level:
            return bytes(_BYTES_OF[c] for c in piece if c in _BYTES_OF)
        single = _BYTE.fullmatch(piece)
        return bytes([int(single[1], 16)]) if single else piece.replace("\u2581", " ").encode()

    def text(self, token: int) -> str:
        """A token's text; a part of a character as OpenAI writes it, ``bytes:\\xe2\\x80``.

        So two tokens of one text are rare, and the likeliest tokens can be keys.
        """
        found = self.bytes_of(token)
        try:
            return found.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)

    @cached_property
    def _byte_level(self) -> bool:
        return "ByteLevel" in repr(self.tokenizer.backend_tokenizer.decoder)


def _bytes_of_characters() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes (those of GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    named = {chr(byte): byte for byte in plain}
    return named | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES_OF = _bytes_of_characters()


class GrowingText:
    """The text of an answer, token by token, of which only what will stay is handed out.

    Held back is what may be the beginning of a stop, a character that is not whole, and, where
    answers are stripped, white space at the end.

    Args:
        tokenizer: of the model.
        stops: the text ends before the first of these.
        ends: tokens at which an answer ends, which are no text.
        strip: leave out white space at both ends.
        context: tokens that stand before, where the text is to go on from them.

    Attributes:
        stopped: whether one of the stops has come.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str] = (),
        ends: Collection[int] = (),
        *,
        strip: bool,
        context: Sequence[int] = (),
    ) -> None:
        self._tokenizer, self._stops, self._ends = tokenizer, tuple(stops), ends
        self._strip, self._context = strip, tuple(context)
        self._before = self._text(list(self._context))
        self._tokens: list[int] = []
        self._given = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; the text that is sure now and was not before."""
        if token in self._ends or self.stopped:
            return ""
        self._tokens.append(token)
        whole = self._decoded()
        found = [place for stop in self._stops if (place := whole.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._hand_out(self._stripped(whole[: min(found)]))
        return self._hand_out(self._sure(whole))

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        if self.stopped:
            return ""
        return self._hand_out(self._stripped(self._decoded()))

    def _decoded(self) -> str:
        # some tokenizers drop the blank in front of the first token
        whole = self._text([*self._context, *self._tokens])
        return whole[len(self._before) :]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _sure(self, whole: str) -> str:
        tail = len(whole) - len(whole.rstrip(_UNFINISHED))
        # more than that is no beginning of a character
        end = len(whole) - min(tail, _LONGEST_BEGINNING)
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(whole)), 0, -1):
                if whole.endswith(stop[:length]):
                    end = min(end, len(whole) - length)
                    break
        return self._stripped(whole[:end])

    def _stripped(self, text: str) -> str:
        return text.strip() if self._strip else text

    def _hand_out(self, sure: str) -> str:
        new = sure[len(self._given) :]
        self._given += new
        return new
