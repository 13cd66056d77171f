"""Sums of a vector run on disk, so that a killed run goes on with the same bits.

The state is a few float64 sums, whatever the number of pairs. With ``--save_activations`` the
activations go to a raw file as they come, and are cut into the published files at the end.
"""

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from utils.artifacts import load_torch, sha256_bytes, torch_bytes, write_bytes
from utils.errors import UserError

SAVE_EVERY_SECONDS = float(os.environ.get("CAA_SAVE_EVERY_SECONDS", "10"))


class VectorSums:
    """Running sum of (matching - other) over pairs, in float64.

    Args:
        path: where the state is kept while the run is unfinished.
        key: hash of all inputs; a state of other inputs is not continued.
        shape: (layers, width).
        keep: also keep every activation, in this dtype.

    Attributes:
        batches: number of batches summed so far.
        pairs: number of pairs summed so far.

    Raises:
        UserError: the state on disk is damaged.
    """

    def __init__(
        self, path: Path, key: str, shape: tuple[int, int], keep: torch.dtype | None
    ) -> None:
        self.path, self.key, self.shape, self.keep = path, f"{key} {keep}", shape, keep
        self.batches, self.pairs = 0, 0
        self.sums = torch.zeros(shape, dtype=torch.float64)
        self._raw: BinaryIO | None = None
        self._lock = self._locked()
        self._saved_at = time.monotonic()
        self._restore()
        if keep is not None:
            self._raw = self._open_raw()

    @property
    def _raw_path(self) -> Path:
        return self.path.with_name(self.path.name + "_activations")

    def _locked(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(self._lock_path, "wb")  # noqa: SIM115 (held until finish)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise UserError(
                f"another process is at work on the same vectors ({self._lock_path} is locked)"
            ) from error
        return lock

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + "_lock")

    def _pair_bytes(self) -> int:
        assert self.keep is not None
        return 2 * self.shape[0] * self.shape[1] * self.keep.itemsize

    def _restore(self) -> None:
        try:
            found = load_torch(self.path) if self.path.exists() else None
        except UserError as error:
            raise UserError(self._damaged()) from error
        if found is not None:
            try:
                state = {name: found[name] for name in ("batches", "pairs", "sums", "check")}
                other = found["key"] != self.key
            except (KeyError, TypeError, IndexError) as error:
                raise UserError(self._damaged()) from error
        if found is None or other:
            # what lies in the raw file belongs to a state that is not continued
            self._raw_path.unlink(missing_ok=True)
            return
        try:
            sums = state["sums"].reshape(self.shape)
            whole = state["check"] == self._check(state["batches"], state["pairs"], sums)
        except (TypeError, RuntimeError, AttributeError) as error:
            raise UserError(self._damaged()) from error
        if not whole:
            raise UserError(self._damaged())
        self.batches, self.pairs, self.sums = state["batches"], state["pairs"], sums

    def _damaged(self) -> str:
        return f"{self.path} is damaged; delete it to start these vectors again"

    def _check(self, batches: int, pairs: int, sums: Tensor) -> str:
        return sha256_bytes(f"{self.key} {batches} {pairs} ".encode() + sums.numpy().tobytes())

    def _open_raw(self) -> BinaryIO:
        raw = open(self._raw_path, "a+b")  # noqa: SIM115 (closed in finish)
        done = self.pairs * self._pair_bytes()
        if raw.seek(0, os.SEEK_END) < done:
            raise UserError(f"{self._raw_path} is damaged; delete it and {self.path}")
        raw.truncate(done)
        return raw

    def add(self, outputs: Tensor) -> None:
        """Add one batch, shape (pairs, 2, layers, width)."""
        difference = outputs[:, 0].double() - outputs[:, 1].double()
        self.sums += difference.sum(dim=0)
        self.batches += 1
        self.pairs += len(outputs)
        if self._raw is not None:
            self._raw.write(outputs.to(self.keep).contiguous().view(torch.uint8).numpy().tobytes())
        if time.monotonic() - self._saved_at > SAVE_EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Bring the state to disk: activations first, so that they never lag behind the sums."""
        if self._raw is not None:
            self._raw.flush()
            os.fsync(self._raw.fileno())
        state = {
            "key": self.key,
            "batches": self.batches,
            "pairs": self.pairs,
            "sums": self.sums,
            "check": self._check(self.batches, self.pairs, self.sums),
        }
        write_bytes(self.path, torch_bytes(state))
        self._saved_at = time.monotonic()

    def means(self) -> Tensor:
        """Mean of (matching - other) over the pairs, float64, shape (layers, width)."""
        return self.sums / self.pairs

    def activations(self, order: Sequence[int], layer: int, answer: int) -> Tensor:
        """The activations of one layer and answer in the order of the data file.

        Args:
            order: for each pair in the order of :meth:`add` its place in the data file.
            layer: index into the layers.
            answer: 0 for matching, 1 for the other.

        Returns:
            Shape (pairs, width).
        """
        assert self.keep is not None and self._raw is not None
        self._raw.flush()
        size = self.pairs * self._pair_bytes() // self.keep.itemsize
        flat = torch.from_file(str(self._raw_path), size=size, dtype=self.keep)
        stored = flat.view(self.pairs, 2, *self.shape)
        return stored[torch.tensor(order).argsort(), answer, layer]

    def finish(self) -> None:
        """Delete the state: the artefacts stand."""
        if self._raw is not None:
            self._raw.close()
            self._raw_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()
