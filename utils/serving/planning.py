"""From a request to rows: its prompts as tokens, from where each is steered, and what is drawn."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from llama_wrapper import LlamaWrapper
from utils.batching.rows import Wanted
from utils.batching.sampling import Sampler
from utils.batching.tokens import GrowingText, TokenTexts
from utils.blocks.branches import common_prefix
from utils.errors import UserError
from utils.prompts.format import PromptFormat
from utils.prompts.instruction_end import end_of_last
from utils.serving.refusals import Refusal
from utils.serving.requests import Chat, Common, Completion
from utils.serving.steering import (
    AFTER_INSTRUCTION,
    ALL,
    CONTINUATION,
    Catalogue,
    FirstToken,
    Steering,
    SteeringReport,
)

COMPLETION_TOKENS = 16
_FORMATS = 32
_CONTEXT = 8
_PROBES = ("Is this the question?", "Say that again")


@dataclass(frozen=True)
class Prompt:
    """One prompt of a request.

    Attributes:
        wanted: its row.
        text: of a raw prompt.
        first: where steering begins; ``None`` if unsteered.
    """

    wanted: Wanted
    text: str
    first: FirstToken | None


@dataclass(frozen=True)
class Plan:
    """A request as rows: ``n`` for each of its prompts, in order.

    Attributes:
        common, steering, prompts: what is asked for.
        raw: of prompts that the answers go on from, blanks and all.
        echo: give the prompts back too.
    """

    common: Common
    steering: Steering
    prompts: tuple[Prompt, ...]
    raw: bool = False
    echo: bool = False

    def reports(self) -> list[SteeringReport] | None:
        """What the reply says was added; where it begins is told of the first prompt."""
        first = self.prompts[0].first
        if first is None:
            return None
        scope = self.steering.scope or AFTER_INSTRUCTION
        return [part.report(scope, first) for part in self.steering.parts]


class Planner:
    """Makes plans, one at a time: a tokenizer is not for several threads.

    Args:
        wrapper: the model, of which the engine alone runs anything.
        catalogue: the vectors.
        max_new_tokens: most tokens of a chat's answer where a request does not say.
    """

    def __init__(self, wrapper: LlamaWrapper, catalogue: Catalogue, max_new_tokens: int) -> None:
        self.wrapper, self.catalogue = wrapper, catalogue
        self.max_new_tokens = max_new_tokens
        self.texts = TokenTexts(wrapper.tokenizer)
        self.ends = frozenset(wrapper.end_tokens())
        config = wrapper.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        self.context = limit if isinstance(limit, int) else None
        self.vocabulary = int(wrapper.model.get_input_embeddings().weight.shape[0])
        self._format = functools.lru_cache(_FORMATS)(wrapper.prompt_format)
        self._lock = threading.Lock()

    def chat(self, chat: Chat) -> Plan:
        """The plan of a chat.

        Raises:
            Refusal: 404 or 400; see :class:`Catalogue`; or what does not fit the model.
        """
        steering = self.catalogue.of(chat.common)
        if steering.scope == CONTINUATION:
            raise Refusal(
                400,
                f"scope {CONTINUATION} is of raw prompts; a chat has {AFTER_INSTRUCTION} and {ALL}",
                param="steering.scope",
            )
        with self._lock:
            try:
                prompt_format: PromptFormat = self._format(chat.system_prompt)
                prompt = prompt_format.open_prompt(chat.question, chat.history)
            except UserError as error:
                raise Refusal(400, str(error), param="messages") from error
            first = 0 if steering.scope == ALL else prompt.steer_from
        budget = self._budget(len(prompt.ids), chat.common, self.max_new_tokens)
        return Plan(
            chat.common,
            steering,
            (self._prompt(prompt.ids, first, chat.common, steering, budget, "", echo=False),),
        )

    def completion(self, completion: Completion) -> Plan:
        """The plan of raw prompts.

        Raises:
            Refusal: as of :meth:`chat`; or steering for which no first token is given or found.
        """
        common = completion.common
        steering = self.catalogue.of(common)
        prompts = []
        for given in completion.prompts:
            with self._lock:
                ids = self._ids(given)
                text = given if isinstance(given, str) else self.wrapper.tokenizer.decode(list(ids))
                first = self._first(ids, steering, echo=completion.echo)
            budget = self._budget(len(ids), common, COMPLETION_TOKENS)
            prompts.append(
                self._prompt(ids, first, common, steering, budget, str(text), echo=completion.echo)
            )
        return Plan(common, steering, tuple(prompts), True, completion.echo)

    def draws(self, plan: Plan) -> list[tuple[Wanted, Sampler, GrowingText]]:
        """For every answer of a plan its row, and how its tokens are drawn and read."""
        sampling, tokenizer, found = plan.common.sampling, self.wrapper.tokenizer, []
        for prompt in plan.prompts:
            context = prompt.wanted.prompt[-_CONTEXT:] if plan.raw else ()
            for number in range(sampling.n):
                sampler = Sampler(sampling.temperature, sampling.top_p, sampling.seed, number)
                text = GrowingText(
                    tokenizer, sampling.stops, self.ends, strip=not plan.raw, context=context
                )
                found.append((prompt.wanted, sampler, text))
        return found

    def _prompt(
        self,
        ids: Sequence[int],
        first: int,
        common: Common,
        steering: Steering,
        budget: int,
        text: str,
        *,
        echo: bool,
    ) -> Prompt:
        wanted = Wanted(
            tuple(ids),
            first,
            steering.deltas(),
            budget,
            self.ends,
            common.sampling.top,
            echo and common.sampling.top is not None,
            steering.probe,
        )
        named: FirstToken = {"index": first, "text": self.texts.text(ids[first])}
        return Prompt(wanted, text, named if steering.parts else None)

    def _budget(self, length: int, common: Common, usual: int) -> int:
        asked = common.sampling.max_tokens
        if self.context is None:
            return asked or usual
        room = self.context - length
        if room < 1 or (asked or 1) > room:
            new = f" and {asked} new ones" if asked else ""
            raise Refusal(
                400,
                f"a prompt of {length} tokens{new} is beyond the {self.context} that the model "
                f"takes: max_tokens={max(0, room)} at most",
                param="messages" if room < 1 else "max_tokens",
                code="context_length_exceeded",
            )
        return asked or min(usual, room)

    def _ids(self, given: str | tuple[int, ...]) -> tuple[int, ...]:
        if not isinstance(given, str):
            wrong = [i for i in given if not 0 <= i < self.vocabulary]
            if wrong:
                raise Refusal(
                    400,
                    f"prompt: token {wrong[0]}: this model has tokens 0 to {self.vocabulary - 1}",
                    param="prompt",
                )
            return given
        tokenizer = self.wrapper.tokenizer
        begins = bool(tokenizer.bos_token) and given.startswith(str(tokenizer.bos_token))
        ids = tuple(tokenizer(given, add_special_tokens=not begins)["input_ids"])
        # some tokenizers end every text with an end token: nothing could follow that
        if ids and ids[-1] == tokenizer.eos_token_id and not given.endswith(tokenizer.eos_token):
            ids = ids[:-1]
        if not ids:
            raise Refusal(400, "prompt: a text without a token", param="prompt")
        return ids

    def _first(self, ids: Sequence[int], steering: Steering, *, echo: bool) -> int:
        """The first steered position of a raw prompt."""
        if not steering.parts or steering.scope == ALL:
            return 0
        if steering.scope == CONTINUATION:
            if echo:
                raise Refusal(
                    400,
                    f"scope {CONTINUATION} begins at the last token of the prompt, and echo tells "
                    f"of those before it: give {ALL}",
                    param="steering.scope",
                )
            return len(ids) - 1
        marker = self._generation_prompt
        found = end_of_last(marker, ids, len(ids)) if marker else None
        if found is not None:
            return found
        scopes = ALL if echo else f"{ALL} or {CONTINUATION}"
        raise Refusal(
            400,
            "a raw prompt without the chat template's generation prompt has no instruction whose "
            f"end could be found: give scope {scopes}",
            param="steering.scope",
        )

    @functools.cached_property
    def _generation_prompt(self) -> tuple[int, ...]:
        """The tokens that end every instruction; none in the base format, which has no mark."""
        if self.wrapper.base:
            return ()
        one, other = (self._format(None).open_prompt(question).ids for question in _PROBES)
        same = common_prefix([one[::-1], other[::-1]])
        return one[len(one) - same :]
