"""A ``python3`` that has already imported what is slow, for tests that start many scripts.

A server has imported the heavy packages and nothing of this project. The ``python3`` of
:func:`warm_python` is a small client: it hands the server its arguments, environment, folder and
standard streams, and the server forks a process that is the script. The client ends as the script
ends, and a client that is killed takes its script with it. A shell, ``accelerate launch`` or
``mpirun`` that is given this ``python3`` therefore runs what it would run, without seconds of
imports for each. Options of the interpreter (``-c``, ``-m``) go to the real one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HEAVY = [
    "torch",
    "torch.distributed.run",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "accelerate.commands.launch",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
]
_CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
task = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(task).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(task)
status = int(server.makefile().readline() or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""
_started: dict[tuple[tuple[str, str], ...], Path] = {}


def warm_python(**early: str) -> Path:
    """A folder that holds ``python`` and ``python3``; their server is started at the first call.

    Args:
        early: what must stand in the environment when the packages are imported.
    """
    # whoever imports the hub's client offline stays offline
    early = {"HF_HUB_OFFLINE": "1"} | early
    key = tuple(sorted(early.items()))
    if key not in _started:
        folder = Path(tempfile.mkdtemp(prefix="warm"))
        address = str(folder / "socket")
        client = _CLIENT.format(python=sys.executable, address=address)
        for name in ("python", "python3"):
            (folder / name).write_text(client)
            (folder / name).chmod(0o755)
        command = [sys.executable, __file__, address]
        server = subprocess.Popen(command, env=os.environ | early, stdin=subprocess.PIPE)
        atexit.register(server.kill)
        while not Path(address).exists():
            assert server.poll() is None, "the server of warm processes has ended"
            time.sleep(0.05)
        _started[key] = folder
    return _started[key]


def _serve(address: str) -> None:
    for name in HEAVY:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.early")
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # only now can anyone connect
    Path(f"{address}.early").rename(address)
    while True:
        # the other end of standard input is the tests' process
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            return
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(client)
            os._exit(0)
        client.close()


def _watch(client: socket.socket) -> None:
    """Run one script in a fork, tell its end, and end it with its client."""
    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    task = b""
    while len(task) < int.from_bytes(size, "big"):
        task += client.recv(1 << 16)
    script = os.fork()
    if script == 0:
        client.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _be(*json.loads(task))
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(script)
    waited: list[Any] = [ended, client]
    if client in select.select(waited, [], [])[0]:
        os.kill(script, signal.SIGKILL)
    _, status = os.waitpid(script, 0)
    with contextlib.suppress(OSError):
        client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _be(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Be ``python3 arguments`` to the end."""
    import torch

    os.setpgid(0, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "OMP_NUM_THREADS" in environment:
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    assert "utils" not in sys.modules, "this project must be imported anew"
    script = Path(arguments[0]).absolute()
    sys.argv = [arguments[0], *arguments[1:]]
    # what it starts is warm too
    sys.executable = str(Path(sys.orig_argv[-1]).parent / "python3")
    # in place of this file's folder
    sys.path[0] = str(script.parent)
    sys.stdin = os.fdopen(0, closefd=False)
    runpy.run_path(str(script), run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    _serve(sys.argv[1])
