"""Real processes under ``accelerate launch``, all of them or one, waited for or killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from running import ROOT, call, finish
from warm import WarmProcess
from warm_python import warm_python


def environment(**extra: str) -> dict[str, str]:
    """One thread a process, so that one and many have the same bits."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PATH": tools}
    mpi = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return os.environ | fixed | mpi | extra


def launch(
    script: str,
    *arguments: object,
    how: tuple[str, ...] = (),
    count: int = 2,
    warm: bool = True,
    **extra: str,
) -> subprocess.Popen[str]:
    """``accelerate launch`` through torchrun, or ``how`` says through what.

    Of the launcher and its processes the imports alone are not their own, unless not ``warm``.
    """
    port = str(29500 + os.getpid() % 20000)
    how = how or ("--multi_gpu", "--main_process_port", port)
    accelerate = Path(sys.executable).parent / "accelerate"
    python = warm_python() / "python3" if warm else sys.executable
    command = [python, accelerate, "launch", "--num_processes", str(count), *how]
    command += [str(ROOT / f"{script}.py"), *map(str, arguments)]
    extra = {"ACCELERATE_USE_CPU": "true"} | extra
    return subprocess.Popen(
        command,
        env=environment(**extra),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run_ranks(script: str, *arguments: object, count: int) -> str:
    """The ranks of a launch as forks, where the launcher is not the point; all their output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"ACCELERATE_USE_CPU": "true"}
    ranks = [
        WarmProcess(
            script,
            [str(a) for a in arguments],
            environment(RANK=str(rank), LOCAL_RANK=str(rank), **shared),
        )
        for rank in range(count)
    ]
    return "".join([finish(process)[0] for process in ranks])


def alone(script: str, *arguments: object) -> None:
    """In this process, with as many threads as the others have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert call(script, *arguments) == 0
    finally:
        torch.set_num_threads(before)


def by_mpi(tmp_path: Path) -> tuple[str, ...]:
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost slots=4\n")
    return ("--cpu", "--mpirun_hostfile", str(hosts))


def process_of(rank: int, folder: Path) -> int:
    """The process of a rank, by its environment, among those that work in a folder."""
    for process in Path("/proc").iterdir():
        try:
            words = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"RANK={rank}".encode() in words and str(folder).encode() in command:
            return int(process.name)
    raise AssertionError(f"no process of rank {rank}")


def kill_rank(launcher: subprocess.Popen[str], rank: int, folder: Path, sign: str) -> None:
    """SIGKILL one rank as soon as a file like ``sign`` has a second line: something is finished."""
    deadline = time.monotonic() + 120
    while not any(p.read_bytes().count(b"\n") > 1 for p in folder.rglob(sign)):
        assert launcher.poll() is None and time.monotonic() < deadline, launcher.communicate()
        time.sleep(0.002)
    os.kill(process_of(rank, folder), signal.SIGKILL)
