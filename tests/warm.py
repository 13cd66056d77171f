"""Processes for scripts that are to be killed or interrupted, without the seconds of imports.

A server process has imported the heavy packages, and nothing of this project, before anything
was asked of it; every script is a fork of it that imports this project anew, in an environment
and with arguments of its own. For tests of what a process does; a test of how one is started
(by a shell, by ``accelerate launch``, within a second) starts a real one.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
HEAVY = [
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "accelerate",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "openai",
    # what a child unpickles its task with; it imports nothing of this project
    "warm",
]


def context() -> ForkServerContext:
    """The server is started at the first call, offline, and ends with the tests."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(HEAVY)
    # the hub's client looks at its environment when it is imported
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        forkserver.ensure_running()
    return found


def work(
    script: Path, arguments: list[str], environment: dict[str, str], place: str, out: Path
) -> None:
    """Be the process ``script arguments``, with standard output and errors in two files."""
    for number, name in ((1, "out"), (2, "err")):
        with (out / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    assert "utils" not in sys.modules, "this project must be imported anew"
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


class WarmProcess:
    """What the tests use of :class:`subprocess.Popen`, for a fork of the server."""

    def __init__(self, script: str, arguments: list[str], environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._out = Path(self._folder.name)
        task = (ROOT / f"{script}.py", arguments, environment, str(Path.cwd()), self._out)
        self._process: BaseProcess = context().Process(target=work, args=task, daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, a killing signal as a negative number, ``None`` while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; its standard output and errors."""
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(sys.argv[0], timeout or 0)
        found = [self._out / name for name in ("out", "err")]
        out, errors = (path.read_text() if path.exists() else "" for path in found)
        return out, errors
