"""Running the scripts in tests: in this process, as a fork to be killed, or from the shell."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from warm import WarmProcess

ROOT = Path(__file__).resolve().parent.parent


def call(script: str, *arguments: object) -> int:
    """``script.py arguments`` in this process; returns its status, raises what it raises."""
    module = importlib.import_module(script)
    return module.main(module.build_parser().parse_args([str(a) for a in arguments])) or 0


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def bash(commands: str, folder: Path, environment: dict[str, str] | None = None) -> str:
    """What shell commands print, in a folder; each must succeed."""
    done = subprocess.run(
        ["bash", "-ec", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment() -> dict[str, str]:
    """As many threads as this process has: other sums would have other last bits."""
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "HF_HUB_OFFLINE": "1"}


def start_warm(script: str, *arguments: object) -> WarmProcess:
    """The same as :func:`start` without the time of imports, where starting is not the point."""
    return WarmProcess(script, [str(a) for a in arguments], environment())


def finish(process: subprocess.Popen[str] | WarmProcess) -> tuple[str, str]:
    """The output and the errors of a process that must succeed."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


def kill_at_signs_of_work(
    process: subprocess.Popen[str] | WarmProcess, sign: Path, pattern: str, generator: random.Random
) -> bool:
    """SIGKILL a process at a random moment after the first file like ``pattern`` has appeared.

    Returns:
        Whether it was killed (``False``: it had finished before).
    """
    while process.poll() is None and not list(sign.rglob(pattern)):
        time.sleep(0.005)
    time.sleep(generator.uniform(0, 0.25))
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return killed


def artifacts(folder: Path) -> dict[str, bytes]:
    """All finished files below a folder (hidden ones are records, journals and the like)."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def every_file(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def hidden(folder: Path) -> list[str]:
    """Names of unfinished business: anything hidden that is no record."""
    assert any(p.is_file() for p in folder.rglob("*")), f"nothing was made in {folder}"
    names = (p.name for p in folder.rglob(".*") if p.is_file())
    return sorted(n for n in names if not n.endswith(".record"))


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """The computing of ``size`` is about ten times that of a tenth, where a square has a hundred.

    The bound is three times the expected; below two hundredths of a second the clock is too
    coarse; on a busy machine one of three tries has to keep to it.
    """
    ratios: list[float] = []
    while not ratios or ratios[-1] >= 30:
        assert len(ratios) < 3, f"ten times the input took {ratios} times the computing"
        spent = []
        for each in (size // 10, size):
            began = time.process_time()
            work(each)
            spent.append(max(time.process_time() - began, 0.02))
        ratios.append(spent[1] / spent[0])


def imported(errors: str) -> set[str]:
    """The packages that ``python -X importtime`` has written to standard error."""
    found = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in errors.splitlines()}
    assert "argparse" in found, f"the times of imports are missing:\n{errors}"
    return found


def rows_of(table: str) -> list[dict[str, str]]:
    """The rows of a figure's table (tab-separated, with a header), each by its columns' names."""
    header, *lines = (line.split("\t") for line in table.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def numbers_of(path: Path) -> list[dict[str, str]]:
    """The rows of a figure's table in a file, which must have some."""
    rows = rows_of(path.read_text())
    assert rows, f"{path} is a table without a row"
    return rows


def has_row(table: str, **expected: str) -> bool:
    """Whether a figure's table has a row with these cells."""
    return any(expected.items() <= row.items() for row in rows_of(table))
