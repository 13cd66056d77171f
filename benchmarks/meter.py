"""Seconds and peak memory of one piece of work on a device, and a limit to the whole run."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")


class OutOfTimeError(Exception):
    """The run's time is gone."""


@dataclass(frozen=True)
class Measured(Generic[Result]):
    """What a piece of work gave and took.

    Attributes:
        result: what it returned.
        seconds: until the device had finished.
        peak_gb: most device memory allocated meanwhile, what lay there before included; ``None``
            on a CPU.
    """

    result: Result
    seconds: float
    peak_gb: float | None


class Meter:
    """Measures on one device until its time is gone.

    Args:
        device: where the work runs.
        limit: seconds from now after which :meth:`check` raises.
    """

    def __init__(self, device: torch.device, limit: float = float("inf")) -> None:
        self.device = device
        self._end = time.perf_counter() + limit

    def check(self) -> None:
        """Raise :class:`OutOfTimeError` once the time is gone."""
        if time.perf_counter() > self._end:
            raise OutOfTimeError("the run's time is gone")

    def clear(self) -> None:
        """Give back what nothing refers to any more, so that peaks are a part's own."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def run(self, work: Callable[[], Result]) -> Measured[Result]:
        """Do the work once.

        Raises:
            OutOfTimeError: the time was gone before it began.
        """
        self.check()
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        result = work()
        if on_gpu:
            torch.cuda.synchronize(self.device)
        seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated(self.device) / 1e9 if on_gpu else None
        return Measured(result, seconds, peak)

    def median(self, work: Callable[[], Result], repeats: int) -> Measured[Result]:
        """Do the work several times: the last result, the median time, the highest peak."""
        runs = [self.run(work) for _ in range(repeats)]
        peaks = [run.peak_gb for run in runs if run.peak_gb is not None]
        seconds = statistics.median(run.seconds for run in runs)
        return Measured(runs[-1].result, seconds, max(peaks, default=None))
