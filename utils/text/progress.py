"""Progress of long work: a bar on a terminal, elsewhere a line for each tenth of the whole."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from tqdm import tqdm


class ProgressLines:
    """What scripts use of a bar, in a file of errors that people read afterwards."""

    def __init__(self, *, total: int, desc: str, unit: str, initial: int = 0) -> None:
        self._total, self._desc, self._unit = total, desc, unit
        self._begun, self._initial = time.monotonic(), initial
        self._done, self._tenth = float(initial), self._tenth_of(initial)
        self._quiet = bool(os.environ.get("TQDM_DISABLE"))

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        pass

    def update(self, count: float = 1) -> None:
        self._done += count
        tenth = self._tenth_of(self._done)
        if tenth <= self._tenth:
            return
        self._tenth = tenth
        if not self._quiet:
            seconds = time.monotonic() - self._begun
            text = f"{self._desc}: {10 * tenth} % of {self._total} {self._unit}s, {seconds:.0f} s"
            print(text, file=sys.stderr, flush=True)

    def _tenth_of(self, done: float) -> int:
        return min(10, int(10 * done / self._total + 1e-6)) if self._total else 10


def progress(*, total: int, desc: str, unit: str, initial: int = 0) -> tqdm | ProgressLines:
    """A ``with`` block's bar; its ``update`` takes what was done since the last call."""
    if sys.stderr.isatty():
        return tqdm(total=total, desc=desc, unit=unit, initial=initial)
    return ProgressLines(total=total, desc=desc, unit=unit, initial=initial)
