"""What a request may hold: of a chat, and of a completion.

A field that has no meaning here is refused by name, unless its value asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from utils.prompts.templates import Turn
from utils.serving.fields import Fields
from utils.serving.refusals import Refusal

MOST_CHOICES, MOST_TOP, MOST_STOPS = 8, 20, 16
HOTTEST = 10.0
_STEERED = ("model", "steering", "token_scores")
_SHARED = ("max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "n")
_SAMPLED = (*_STEERED, *_SHARED, "logprobs", "user")
CHAT_FIELDS = (*_SAMPLED, "messages", "max_completion_tokens", "top_logprobs")
COMPLETION_FIELDS = (*_SAMPLED, "prompt", "echo")
_NOTHING: dict[str, tuple[object, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
_NOTHING_IN_CHAT = _NOTHING | {
    "tools": ([],),
    "response_format": ({"type": "text"},),
    "store": (False,),
}
_NOTHING_IN_COMPLETION = _NOTHING | {"best_of": (1,), "suffix": ("",)}


@dataclass(frozen=True)
class Sampling:
    """How each answer is drawn.

    Attributes:
        max_tokens: most tokens; ``None`` for the server's default.
        temperature: 0 takes the likeliest token.
        top_p: draw from the fewest tokens that have this much probability together.
        seed: ``None`` for another one each time.
        stops: an answer ends before the first of these.
        n: answers to each prompt.
        top: how many of the likeliest tokens are told beside each; ``None``: no log-probabilities.
    """

    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    stops: tuple[str, ...]
    n: int
    top: int | None


@dataclass(frozen=True)
class Common:
    """What both kinds of requests hold.

    Attributes:
        model: the id asked for; ``None`` for the plain model.
        steering, token_scores: as they came, see :mod:`utils.serving.steering`.
        sampling: how to draw.
        stream: piece by piece.
        usage_in_stream: counts of tokens at the end of a stream.
    """

    model: str | None
    steering: object
    token_scores: object
    sampling: Sampling
    stream: bool
    usage_in_stream: bool


@dataclass(frozen=True)
class Chat:
    """A conversation whose latest turn, the user's, is to be answered."""

    common: Common
    question: str
    history: tuple[Turn, ...]
    system_prompt: str | None


@dataclass(frozen=True)
class Completion:
    """Raw prompts, each a text or token ids, that are to be gone on with."""

    common: Common
    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool


def read_chat(body: Mapping[str, object]) -> Chat:
    """A chat request.

    Raises:
        Refusal: 400, naming the field.
    """
    fields = Fields(body, CHAT_FIELDS, _NOTHING_IN_CHAT)
    top = fields.whole("top_logprobs", 0, MOST_TOP)
    asked = fields.flag("logprobs")
    if top is not None and not asked:
        raise fields.refusal("top_logprobs", "top_logprobs goes with logprobs: true")
    if "max_tokens" in fields and "max_completion_tokens" in fields:
        raise fields.refusal("max_tokens", "max_tokens and max_completion_tokens are one")
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    common = _common(fields, (top or 0) if asked else None, fields.whole(name, 1, 2**31))
    system, turns = _turns(fields)
    return Chat(common, turns[-1][1], tuple(turns[:-1]), system)


def read_completion(body: Mapping[str, object]) -> Completion:
    """A completion request.

    Raises:
        Refusal: 400, naming the field.
    """
    fields = Fields(body, COMPLETION_FIELDS, _NOTHING_IN_COMPLETION)
    top = fields.whole("logprobs", 0, MOST_TOP)
    common = _common(fields, top, fields.whole("max_tokens", 1, 2**31))
    return Completion(common, _prompts(fields), fields.flag("echo"))


def _common(fields: Fields, top: int | None, max_tokens: int | None) -> Common:
    temperature = fields.number("temperature", 0, HOTTEST)
    top_p = fields.number("top_p", 0, 1)
    if top_p == 0:
        raise fields.refusal("top_p", "top_p must be above 0")
    fields.text("user")
    options = fields.get("stream_options")
    stream = fields.flag("stream")
    with_usage = False
    if options is not None:
        if not stream or not isinstance(options, dict):
            raise fields.refusal("stream_options", "an object that goes with a stream")
        own = Fields(options, ("include_usage",), where="stream_options")
        with_usage = own.flag("include_usage")
    sampling = Sampling(
        max_tokens,
        1.0 if temperature is None else temperature,
        1.0 if top_p is None else top_p,
        fields.seed(),
        fields.texts("stop", MOST_STOPS),
        fields.whole("n", 1, MOST_CHOICES) or 1,
        top,
    )
    steering, scores = fields.get("steering"), fields.get("token_scores")
    return Common(fields.text("model"), steering, scores, sampling, stream, with_usage)


def _turns(fields: Fields) -> tuple[str | None, list[Turn]]:
    """The system prompt, if there is one, and the turns after it."""
    given = fields.get("messages")
    if not isinstance(given, list) or not given:
        raise fields.refusal("messages", "messages must be a list of turns")
    system: str | None = None
    turns: list[Turn] = []
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise Refusal(400, f"{where} must be an object with role and content", param=where)
        own = Fields(message, ("role", "content"), {"name": (), "refusal": ()}, where)
        role = own.choice("role", ("system", "user", "assistant"))
        if role is None:
            raise own.refusal("role", f"{where} has no role")
        text = _content(own)
        if role == "system":
            if number:
                raise own.refusal("role", f"{where}: a system turn stands first, and there is one")
            system = text
        else:
            turns.append((role, text))
    if not turns or turns[-1][0] != "user" or not turns[-1][1].strip():
        raise fields.refusal("messages", "the last of messages must be a user's, and not empty")
    return system, turns


def _content(own: Fields) -> str:
    """A text, or the joined texts of a list of text parts."""
    given = own.get("content")
    if isinstance(given, str):
        return given
    parts: Sequence[object] = given if isinstance(given, list) and given else [None]
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(text, str):
            raise own.refusal("content", f"{own.where}.content must be a text")
        texts.append(text)
    return "".join(texts)


def _prompts(fields: Fields) -> tuple[str | tuple[int, ...], ...]:
    given = fields.get("prompt")
    one = isinstance(given, str) or (isinstance(given, list) and _ids(given) is not None)
    members = [given] if one else given
    if isinstance(members, list) and members:
        read = [member if isinstance(member, str) else _ids(member) for member in members]
        found = tuple(member for member in read if member)
        if len(found) == len(read):
            return found
    raise fields.refusal(
        "prompt", "prompt must be a text, a list of texts, token ids or lists of them, none empty"
    )


def _ids(given: object) -> tuple[int, ...] | None:
    if not isinstance(given, list) or not given:
        return None
    found = tuple(i for i in given if isinstance(i, int) and not isinstance(i, bool))
    return found if len(found) == len(given) else None
