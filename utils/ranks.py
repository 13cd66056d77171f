"""Several processes at one job, through Hugging Face accelerate.

Every process (*rank*) makes the same plan, computes its share of it and keeps what it has finished
in a file of its own. The main rank alone puts the shares together and writes artefacts. Nothing but
a few small messages passes between ranks, so they are connected over the CPU (gloo) whatever they
compute on; and since each share is on disk as soon as it is finished, a run of which a rank died
goes on with the same command, on any number of ranks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from utils.errors import LostRank, UserError

Item = TypeVar("Item")
# torchrun's and accelerate's names come first, then those of the MPI launchers.
_RANK = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
_COUNT = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_RANK = (
    "LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "SLURM_LOCALID",
)
_LOCAL_COUNT = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
# Ranks wait for one another's whole shares; a rank that dies is noticed at once all the same.
PATIENCE = timedelta(days=14)

_at_work = False


def _first_number(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)


def rank() -> int:
    """This process's number among those of the launch, 0 without one."""
    return _first_number(_RANK, 0)


def rank_count() -> int:
    """How many processes were launched together."""
    return _first_number(_COUNT, 1)


def local_rank() -> int:
    """This process's number on its machine."""
    return _first_number(_LOCAL_RANK, 0)


def local_count() -> int:
    """How many of the processes run on this machine, as far as the launcher says."""
    return _first_number(_LOCAL_COUNT, 1)


def on_cpu_by_launcher() -> bool:
    """Whether ``accelerate launch --cpu`` asked for the CPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def speaks() -> bool:
    """Whether this rank is the one to show an error of the plan, which is the same on all.

    Once work has begun an error is a rank's own, and every rank shows its own.
    """
    return rank_count() == 1 or local_rank() == 0 or _at_work


def work_begins() -> None:
    """Say that the ranks are connected: from here on each shows its own errors."""
    global _at_work
    _at_work = True


def quiet_all_but_main() -> None:
    """Ranks but the first print nothing, draw no progress bars and repeat no warnings."""
    if rank():
        import warnings

        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        warnings.simplefilter("ignore")
    elif on_cpu_by_launcher() and os.environ.get("MASTER_PORT") and rank_count() == 1:
        print(
            "accelerate has started one process only: on a CPU it starts several by MPI "
            "(--mpirun_hostfile FILE) or by --multi_gpu with ACCELERATE_USE_CPU=true; see "
            "docs/many_processes.md",
            file=sys.stderr,
        )


class Ranks:
    """The processes of this launch. Made once inputs are checked; every rank must make it.

    Attributes:
        index: this process's number.
        count: how many there are; 1 without a launcher.
    """

    def __init__(self) -> None:
        self.index, self.count = rank(), rank_count()
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=True, timeout=PATIENCE)
            work_begins()

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's part of the work: every ``count``-th item, so that long ones are spread."""
        return items[self.index :: self.count]

    def wait(self) -> None:
        """Wait for all ranks.

        Raises:
            LostRank: one of them has died.
        """
        self._talk(_barrier)

    def from_main(self, make: Callable[[], Item]) -> Item:
        """What ``make`` returns on the main rank, on every rank.

        Raises:
            UserError: raised by ``make``; the other ranks leave without a word.
            LostRank: one of the ranks has died.
        """
        if self.count == 1:
            return make()
        message: list[Any] = [None, None]
        failure: UserError | None = None
        if self.is_main:
            try:
                message = ["made", make()]
            except UserError as error:
                message, failure = ["failed", None], error
        self._talk(lambda: _broadcast(message))
        if failure is not None:
            raise failure
        if message[0] == "failed":
            sys.exit(2)
        return message[1]

    def _talk(self, exchange: Callable[[], None]) -> None:
        if self.count == 1:
            return
        try:
            exchange()
        except RuntimeError as error:
            raise LostRank(str(error).splitlines()[0]) from error

    def close(self) -> None:
        """Part without complaint from the other ranks."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()


def _barrier() -> None:
    from accelerate.utils import wait_for_everyone

    wait_for_everyone()


def _broadcast(message: list[Any]) -> None:
    from accelerate.utils import broadcast_object_list

    broadcast_object_list(message, from_process=0)
