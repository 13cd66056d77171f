"""Sums of a vector run on disk, so that a killed run goes on with the same bits.

The state is a few float64 sums, and the lengths of some tokens for each pair. With
``--save_activations`` the activations go to a raw file as they come, and are cut into the published
files at the end. Every rank of a run has a state of its own; the states are put together at the
end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import UserError
from utils.extraction.vector_stats import Moments
from utils.files.artifacts import torch_bytes
from utils.files.contents import load_torch, sha256_bytes
from utils.files.durable import write_bytes
from utils.files.file_system import append, sync, writing
from utils.files.locks import lock
from utils.steering.one_pass import Readings

SAVE_EVERY_SECONDS = 10.0


def _raw_path(path: Path) -> Path:
    return path.with_name(path.name + "_activations")


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + "_lock")


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged; delete it to start these vectors again")


@dataclass(frozen=True)
class Kind:
    """What states must have in common to be continued or put together.

    Attributes:
        key: hash of all inputs.
        shape: (layers, width).
        keep: dtype in which every activation is kept too, or ``None``.
    """

    key: str
    shape: tuple[int, int]
    keep: torch.dtype | None

    @property
    def pair_bytes(self) -> int:
        """Bytes that one pair takes in the raw file."""
        return 0 if self.keep is None else 2 * self.shape[0] * self.shape[1] * self.keep.itemsize


@dataclass
class State:
    """What is summed up so far.

    Attributes:
        order: places in the data file of the pairs summed, in the order in which they were.
        moments: the sums over them.
    """

    order: list[int]
    moments: Moments

    def check(self, kind: Kind) -> str:
        head = f"{kind.key} {kind.keep} {json.dumps(self.order)} {self.moments.firsts} "
        m = self.moments
        parts = [m.differences, m.signed, m.squares, m.sizes, *m.norms]
        return sha256_bytes(head.encode() + b"".join(p.numpy().tobytes() for p in parts))


def read_state(path: Path, kind: Kind) -> State | None:
    """The state kept in a file; ``None`` if there is none, or one of another kind.

    Raises:
        UserError: it is damaged, or lacks activations.
    """
    if not path.exists():
        return None
    try:
        found = load_torch(path)
        if found["key"] != f"{kind.key} {kind.keep}":
            return None
        moments = Moments.from_state(found["moments"], kind.shape)
        state = State([int(n) for n in found["order"]], moments)
        whole = found["check"] == state.check(kind)
    except (UserError, KeyError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise _damaged(path) from error
    if not whole:
        raise _damaged(path)
    raw = _raw_path(path)
    stored = raw.stat().st_size if raw.exists() else 0
    if stored < len(state.order) * kind.pair_bytes:
        raise UserError(f"{raw} is damaged; delete it and {path}")
    return state


class VectorSums:
    """One rank's running sum of (matching - other) over pairs; a context manager.

    Leaving the block keeps what was saved; :func:`remove` deletes it.

    Args:
        path: where the state is kept while the run is unfinished.
        kind: a state of another kind on disk is not continued.

    Attributes:
        state: what is summed so far.

    Raises:
        UserError: the state on disk is damaged, or another process is at it.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        # for tests that kill a run: they cannot wait for ten seconds of work
        self._save_every = float(os.environ.get("CAA_SAVE_EVERY_SECONDS", SAVE_EVERY_SECONDS))
        self._lock = lock(_lock_path(path), "at work on the same vectors")
        self._raw: FileIO | None = None
        try:
            found = read_state(path, kind)
            self.state = found or State([], Moments.zero(kind.shape))
            if found is None:
                # what lies in the raw file belongs to a state that is not continued
                _raw_path(path).unlink(missing_ok=True)
            if kind.keep is not None:
                with writing(_raw_path(path)):
                    self._raw = open(  # noqa: SIM115 (closed on exit)
                        _raw_path(path), "a+b", buffering=0
                    )
                    self._raw.truncate(len(self.state.order) * kind.pair_bytes)
        except BaseException:
            self._lock.close()
            raise
        self._saved_at = time.monotonic()

    def __enter__(self) -> VectorSums:
        return self

    def __exit__(self, *_: object) -> None:
        if self._raw is not None:
            self._raw.close()
        self._lock.close()

    def add(self, pairs: Sequence[int], readings: Readings, signs: Sequence[int]) -> None:
        """Add one batch.

        Args:
            pairs: their places in the data file.
            readings: what they read.
            signs: for each 1 if its matching letter comes first in the alphabet, else -1.
        """
        self.state.moments.add(readings, signs)
        self.state.order += pairs
        if self._raw is not None:
            kept = readings.letters.to(self.kind.keep).contiguous().view(torch.uint8)
            with writing(_raw_path(self.path)):
                append(self._raw, kept.numpy().tobytes())
        if time.monotonic() - self._saved_at > self._save_every:
            self.save()

    def save(self) -> None:
        """Bring the state to disk: activations first, so that they never lag behind the sums."""
        if self._raw is not None:
            with writing(_raw_path(self.path)):
                sync(self._raw.fileno())
        state = {
            "key": f"{self.kind.key} {self.kind.keep}",
            "order": self.state.order,
            "moments": self.state.moments.state(),
            "check": self.state.check(self.kind),
        }
        write_bytes(self.path, torch_bytes(state))
        self._saved_at = time.monotonic()


class AllSums:
    """The states of all ranks together.

    Args:
        parts: their files, the main rank's first.
        kind: states of another kind are passed over.

    Attributes:
        order: pairs summed, in the order of the parts.

    Raises:
        UserError: one of them is damaged.
    """

    def __init__(self, parts: Iterable[Path], kind: Kind) -> None:
        self.kind = kind
        read = [(path, read_state(path, kind)) for path in parts]
        self._parts = [(path, state) for path, state in read if state is not None]
        self.order = [pair for _, state in self._parts for pair in state.order]

    def moments(self) -> Moments:
        """The sums over all pairs."""
        return Moments.total([state.moments for _, state in self._parts], self.kind.shape)

    def activations(self, layer: int, answer: int) -> Tensor:
        """The activations of one layer and answer in the order of the data file.

        Args:
            layer: index into the layers.
            answer: 0 for matching, 1 for the other.

        Returns:
            Shape (pairs, width).
        """
        assert self.kind.keep is not None
        stored = []
        for path, state in self._parts:
            shape = (len(state.order), 2, *self.kind.shape)
            size = len(state.order) * self.kind.pair_bytes // self.kind.keep.itemsize
            flat = torch.from_file(str(_raw_path(path)), size=size, dtype=self.kind.keep)
            stored.append(flat.view(shape)[:, answer, layer])
        return torch.cat(stored)[torch.tensor(self.order).argsort()]


def remove(parts: Sequence[Path]) -> None:
    """Delete states, the main rank's last: the artefacts stand."""
    for path in reversed(parts):
        for file in (_raw_path(path), path, _lock_path(path)):
            file.unlink(missing_ok=True)
