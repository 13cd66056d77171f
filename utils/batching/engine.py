"""The one thread that runs the model: rows join and leave a running batch between its steps.

A row that comes is read (prefilled) with the others that came with it, and then decodes together
with all that are there; each has its own vector, sampling and budget. So a long answer does not
hold up a short one, and what a row says does not depend on who shares its batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

import torch

from llama_wrapper import LlamaWrapper
from utils.batching.check import rows_agree
from utils.batching.rows import (
    BROKEN,
    FULL,
    LATE,
    STOPPING,
    TOO_MANY,
    Failed,
    Read,
    Row,
    Scored,
    Unanswered,
    scored_tokens,
)
from utils.blocks.block_io import keeps_state
from utils.blocks.branches import length_batches
from utils.blocks.rotary import stretching
from utils.errors import UserError
from utils.steering.one_pass import default_budget
from utils.steering.row_cache import survivors
from utils.steering.rows import Rows, empty_rows, together

GATHER_SECONDS = 0.005
STEPS_OF_ROOM = 128
_logger = logging.getLogger(__name__)


class Engine:
    """Rows in, events out.

    Args:
        wrapper: the model; nobody else may use it while the engine runs.
        max_rows: most rows that decode together; one where they would have other numbers than
            alone (after a warning).
        max_queue: most rows that wait.
        max_tokens: most tokens of keys and values, rows times the longest; one row may have more.
        gather: seconds for which an idle engine waits for rows to come with the first.

    Raises:
        UserError: the model keeps a state between tokens instead of keys and values.
    """

    def __init__(
        self,
        wrapper: LlamaWrapper,
        *,
        max_rows: int,
        max_queue: int,
        max_tokens: int,
        gather: float = GATHER_SECONDS,
    ) -> None:
        if keeps_state(wrapper.model.config):
            raise UserError(
                f"{wrapper.architecture}: some of its blocks are recurrent, so requests cannot "
                "share a batch; such models are not served"
            )
        self.wrapper, self.max_queue = wrapper, max_queue
        self.max_rows = max_rows if rows_agree(wrapper) else 1
        self.max_tokens, self.gather = max_tokens, gather
        self.budget = default_budget(wrapper.device)
        self._regime = stretching(wrapper.model.config).regime
        self._waiting: deque[Row] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._rows: list[Row] = []
        self._batch: Rows | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand; whatever is not answered is refused."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def load(self) -> tuple[int, int]:
        """Rows that decode, and rows that wait."""
        with self._changed:
            return len(self._rows), len(self._waiting)

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue the rows of one request, all or none.

        Raises:
            Unanswered: the queue is full, or will never hold so many, or the engine is stopping.
        """
        if len(rows) > self.max_queue:
            raise Unanswered(
                TOO_MANY, f"{len(rows)} answers in one request: at most {self.max_queue} can wait"
            )
        with self._changed:
            if self._stopping:
                raise _stopped()
            if len(self._waiting) + len(rows) > self.max_queue:
                raise Unanswered(
                    FULL,
                    f"{len(self._waiting)} answers are waiting, and no more than "
                    f"{self.max_queue} may: try again",
                )
            self._waiting.extend(rows)
            self._changed.notify_all()

    def _work(self) -> None:
        while self._wait():
            try:
                self._drop_unwanted()
                self._admit()
                if self._rows:
                    self._step()
            except Exception as error:
                # one batch is lost, and no more than that
                _logger.exception("a batch has failed")
                self._fail(self._rows, error)
                self._batch, self._rows = None, []
        self._refuse_all()

    def _wait(self) -> bool:
        """Wait for work; ``False``: there will be none."""
        with self._changed:
            if not self._rows and not self._waiting and not self._stopping:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                end = time.monotonic() + self.gather
                while len(self._waiting) < self.max_rows and not self._stopping:
                    left = end - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
            return not self._stopping

    def _drop_unwanted(self) -> None:
        """Let go of rows that nobody waits for, and of those whose time is over."""
        now = time.monotonic()
        with self._changed:
            queued = [row for row in self._waiting if not _is_over(row, now)]
            self._waiting = deque(queued)
        self._keep([not _is_over(row, now) for row in self._rows])

    def _admit(self) -> None:
        """Read the prompts of rows that fit, and let them join."""
        with self._changed:
            new = self._fitting()
        costs = [(0, len(row.wanted.prompt)) for row in new]
        for batch in length_batches(costs, extra=0, budget=self.budget):
            self._join([new[i] for i in batch])

    def _fitting(self) -> list[Row]:
        """The next rows of the queue that there is room for, taken from it in their order."""
        new: list[Row] = []
        while self._waiting:
            members = [*self._rows, *new, self._waiting[0]]
            longest = max(row.wanted.most for row in members)
            fits = len(members) <= self.max_rows and len(members) * longest <= self.max_tokens
            alike = len({self._kind(row) for row in members}) == 1
            if len(members) > 1 and not (fits and alike):
                break
            new.append(self._waiting.popleft())
        return new

    def _kind(self, row: Row) -> tuple[int, int]:
        """Rows of one kind may share a batch: their rotary frequencies are the same throughout."""
        start, end = self._regime(len(row.wanted.prompt)), self._regime(row.wanted.most - 1)
        return (start, 0) if start == end else (start, id(row))

    def _join(self, new: Sequence[Row]) -> None:
        try:
            batch, alive = self._prefilled(new)
            if not any(alive):
                return
            parts = [batch] if self._batch is None else [self._batch, batch]
            joined = together(parts, STEPS_OF_ROOM)
        except Exception as error:
            # those that are running have not been touched
            _logger.exception("reading prompts has failed")
            self._fail(new, error)
            return
        running = [True] * len(self._rows) + alive
        self._batch = joined
        self._set_rows([*self._rows, *new])
        self._keep(running)

    def _prefilled(self, new: Sequence[Row]) -> tuple[Rows, list[bool]]:
        """Read prompts, a piece at a time; their batch, and which of them go on."""
        prompts = [row.wanted.prompt for row in new]
        firsts, deltas = [r.wanted.first for r in new], [r.wanted.deltas for r in new]
        batch, (ids, mask, positions) = empty_rows(self.wrapper, prompts, firsts, deltas)
        longest = ids.shape[1]
        told: list[list[Scored]] = [[Scored(prompt[0])] for prompt in prompts]
        every = any(row.wanted.echo for row in new)
        size = max(1, self.budget // len(new))
        for start in range(0, longest, size):
            piece = slice(start, min(start + size, longest))
            width = piece.stop - piece.start
            logits = batch.feed(
                ids[:, piece], mask[:, piece], positions[:, piece], keep=width if every else 1
            )
            for number, row in enumerate(new):
                if row.wanted.echo:
                    skipped = max(0, longest - len(row.wanted.prompt) - piece.start)
                    known = row.wanted.prompt[len(told[number]) :][: max(0, width - skipped)]
                    places = logits[number, skipped : skipped + len(known)]
                    told[number] += scored_tokens(places, list(known), row.wanted.top or 0)
        alive = []
        for number, row in enumerate(new):
            row.deliver(Read(tuple(told[number]) if row.wanted.echo else ()))
            alive.append(row.take(logits[number, -1]))
        return batch, alive

    def _step(self) -> None:
        assert self._batch is not None
        if self._batch.room < 1:
            self._batch = together([self._batch], STEPS_OF_ROOM)
        device = self.wrapper.device
        ids = torch.tensor([[row.next] for row in self._rows], device=device)
        layers = {row.wanted.probe.layer for row in self._rows if row.wanted.probe is not None}
        logits, hidden = self._batch.step(ids, sorted(layers)), self._batch.recorded
        running = []
        for number, row in enumerate(self._rows):
            probe = row.wanted.probe
            at = None if probe is None else hidden[probe.layer][number]
            running.append(row.take(logits[number], at))
        self._keep(running)

    def _keep(self, running: Sequence[bool]) -> None:
        if all(running):
            return
        if not any(running):
            self._batch = None
            self._set_rows([])
            return
        assert self._batch is not None
        keep = survivors(torch.tensor(running))
        self._batch.keep(keep)
        self._set_rows([self._rows[i] for i in keep.tolist()])

    def _set_rows(self, rows: list[Row]) -> None:
        with self._changed:
            self._rows = rows

    def _fail(self, rows: Sequence[Row], error: Exception) -> None:
        what = "out of memory" if isinstance(error, torch.OutOfMemoryError) else "an error"
        for row in rows:
            row.deliver(Failed(Unanswered(BROKEN, f"{what} while the answer was computed")))

    def _refuse_all(self) -> None:
        with self._changed:
            left = [*self._rows, *self._waiting]
            self._waiting.clear()
        self._batch, self._rows = None, []
        for row in left:
            row.deliver(Failed(_stopped()))


def _is_over(row: Row, now: float) -> bool:
    if row.cancelled.is_set():
        return True
    if now < row.deadline:
        return False
    row.deliver(Failed(Unanswered(LATE, "the answer took longer than the server allows")))
    return True


def _stopped() -> Unanswered:
    return Unanswered(STOPPING, "the server is stopping")
