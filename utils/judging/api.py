"""One question to a judge behind an OpenAI-compatible server, asked until it is answered.

The client's own retries are off: here the waiting honours Retry-After, can be interrupted, and
tells four things apart. Trouble that passes (429, 5xx, time-outs, dropped connections, a body
that is not JSON) is tried again. What no call can overcome (key, permission, model, credit)
stops the run at once. A parameter that the server does not take is left out from then on. A call
that is turned down for another reason may be the item's fault or hold for all: a harmless call
beside it tells which.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from utils.errors import UserError
from utils.judging.completion import Completion, read_completion
from utils.judging.dialect import MOST_TOKENS, Dialect
from utils.judging.errors import (
    CallFailed,
    ErrorBody,
    Passing,
    Rejected,
    TurnedDown,
    shown,
    sorted_out,
)
from utils.judging.reply.verdict import read_reply
from utils.judging.settings import Judge
from utils.prompts.thinking import without_thinking

LONGEST_BACKOFF = 60.0
# A server that asks for a longer pause (a daily quota) is not waited for.
LONGEST_RETRY_AFTER = 600.0
# A judge that does not answer is given up after this many failed items in a row, or as many as
# are asked at once: a thousand items would each wait for minutes.
GIVE_UP_AFTER = 10

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Reply:
    """A judge's reply and the way it was asked for.

    Attributes:
        text: as it came, without the key should it hold it.
        cut: it ended at the longest length allowed.
        dialect: the way of asking.
    """

    text: str
    cut: bool
    dialect: Dialect

    @property
    def lacks_room(self) -> bool:
        """Whether it was cut before it held a score that is whole."""
        return self.cut and read_reply(self.text, cut=True).number is None

    def longer(self, asked: int) -> Dialect | None:
        """The way of asking for more than this; ``None`` if that would not help."""
        return self.dialect.longer(asked, thinks=not without_thinking(self.text).strip())


class JudgeClient:
    """Asks a judge.

    Args:
        judge: who is asked.
        dialect: how, to begin with.
        probing: whether that is still to be found out.

    Attributes:
        dialect: the way of asking that was found to work.
        probing: until the first score has come, the room that one reply needs is given to all
            after it; later a reply gets it for itself alone, so that what is asked does not
            depend on the order in which answers come, nor on a kill in between.
        stopping: set it to let calls on their way come in and to begin nothing new.
    """

    def __init__(self, judge: Judge, dialect: Dialect, *, probing: bool) -> None:
        from utils.judging.transport import make_client

        self.judge, self.dialect = judge, dialect
        self.probing = probing
        self.stopping = asyncio.Event()
        self._backoff = _backoff_seconds()
        self._failed_in_a_row = 0
        self._harmless_at: dict[str, float] = {}
        self._checking = asyncio.Lock()
        self._client = make_client(judge, max(judge.max_tokens, MOST_TOKENS))

    async def __aenter__(self) -> JudgeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(self, messages: Messages, harmless: Messages) -> Reply:
        """The judge's reply; one that was cut is asked for again with more room.

        Args:
            messages: the question.
            harmless: another one with the same rubric, to be asked should this one be turned down.

        Raises:
            CallFailed: no answer after all retries.
            TurnedDown: the server answers others, but not this one.
            UserError: no item can be answered (key, permission, model, credit).
        """
        try:
            reply = await self._adapting(messages, self.dialect)
        except Rejected as rejected:
            await self._tell_apart(harmless)
            raise TurnedDown(str(rejected)) from None
        first = reply.dialect
        while reply.lacks_room and (longer := reply.longer(self.judge.max_tokens)) is not None:
            try:
                reply = await self._adapting(messages, longer)
            except Rejected:
                break  # the model has no more room
        if self.probing and reply.dialect != first:
            found = replace(first, room_helps=False) if reply.lacks_room else reply.dialect
            self.dialect = found
        return reply

    async def _adapting(self, messages: Messages, dialect: Dialect) -> Reply:
        """A reply, in the dialect given or the one that the server asks for instead."""
        found = dialect
        while True:
            try:
                completion = await self._patiently(partial(self._ask_once, messages, found))
            except Rejected as rejected:
                adapted = found.adapted(rejected.about)
                if adapted is None:
                    raise
                found = adapted
                continue
            if found != dialect:
                self.dialect = replace(found, max_tokens=self.dialect.max_tokens)
            return Reply(self.judge.redact(completion.text), completion.cut, found)

    async def _tell_apart(self, harmless: Messages) -> None:
        """Whether a call was turned down for its own sake; returns if so.

        An answer to another item would not tell: it may have been given before the server broke.

        Args:
            harmless: the question that any judge answers.

        Raises:
            UserError: the server turns down whatever it is asked.
        """
        turned_down_at, rubric = time.monotonic(), harmless[0]["content"]
        async with self._checking:
            if self._harmless_at.get(rubric, -math.inf) > turned_down_at:
                return  # asked for another item while this one waited
            sent = time.monotonic()
            try:
                await self._adapting(harmless, self.dialect)
            except Rejected as rejected:
                raise UserError(
                    f"{self.judge.base_url} turns every call down, a harmless one with the same "
                    f"rubric too; nothing more was asked\n{rejected}"
                ) from None
            self._harmless_at[rubric] = sent

    async def _patiently(self, ask: Callable[[], Awaitable[Completion]]) -> Completion:
        """One call, tried again while its trouble may pass."""
        if self._failed_in_a_row >= max(GIVE_UP_AFTER, self.judge.concurrency):
            raise CallFailed(f"not asked, since {self._failed_in_a_row} items before it failed")
        for attempt in range(self.judge.max_retries + 1):
            try:
                completion = await ask()
            except Passing as trouble:
                last = attempt == self.judge.max_retries or self.stopping.is_set()
                if last or (trouble.wait or 0) > LONGEST_RETRY_AFTER:
                    self._failed_in_a_row += 1
                    tries = f"{attempt + 1} {'try' if attempt == 0 else 'tries'}"
                    raise CallFailed(f"{trouble} ({tries})") from None
                await self._pause(attempt, trouble.wait)
            else:
                self._failed_in_a_row = 0
                return completion
        raise AssertionError("unreachable")

    async def _pause(self, attempt: int, asked_for: float | None) -> None:
        """Wait twice as long each time, or as long as the server asked; jitter on top.

        The slot is kept meanwhile, so that a server in trouble is asked less.
        """
        step = min(self._backoff * 2**attempt, LONGEST_BACKOFF)
        if asked_for is None:
            seconds = step * random.uniform(0.5, 1.0)
        else:
            seconds = asked_for + self._backoff * random.uniform(0.0, 1.0)
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
        raise CallFailed("interrupted while waiting to try again")

    async def _ask_once(self, messages: Messages, dialect: Dialect) -> Completion:
        import openai

        from utils.judging.transport import UnreadableBody

        judge = self.judge
        try:
            # The client's time-out is for each read; a server that drips would never meet it.
            async with asyncio.timeout(judge.timeout):
                # raw: what came is read here, and not by the client, which trusts its server
                answer = await self._client.chat.completions.with_raw_response.create(
                    model=judge.model, **dialect.parameters(messages)
                )
        except (TimeoutError, openai.APITimeoutError):
            raise Passing(f"no answer within {judge.timeout:g} s") from None
        except openai.APIConnectionError as error:
            reason = shown(judge, str(error.__cause__ or error))
            raise Passing(f"connection to {judge.base_url} failed: {reason}") from None
        except openai.APIStatusError as error:
            body = ErrorBody.read(error.response.content)
            raise sorted_out(judge, error.status_code, body, error.response.headers) from None
        except UnreadableBody as error:
            raise Passing(str(error)) from None
        except (ValueError, openai.OpenAIError) as error:
            raise Passing(
                f"the server's answer cannot be read: {shown(judge, str(error))}"
            ) from None
        return read_completion(judge, answer.http_response.content)


def _backoff_seconds() -> float:
    """The first pause; ``CAA_BACKOFF_SECONDS`` shortens it for tests."""
    text = os.environ.get("CAA_BACKOFF_SECONDS", "1")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(f"CAA_BACKOFF_SECONDS must be a number of seconds, not {text!r}")
    return seconds
