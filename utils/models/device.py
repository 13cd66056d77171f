"""On which device, and in which numbers, a model is to run."""

from __future__ import annotations

import torch

from utils.errors import UserError
from utils.ranks import local_count, local_rank, on_cpu_by_launcher, rank_count


def pick_device(device: str) -> torch.device:
    """``auto`` is the first accelerator, or the CPU; each process of a launch takes its own.

    Raises:
        UserError: a device that torch does not have here.
    """
    if device == "auto":
        found = torch.accelerator.current_accelerator() if not on_cpu_by_launcher() else None
        device = "cpu" if found is None or not torch.accelerator.is_available() else found.type
    if rank_count() > 1 and device not in ("cpu", "mps") and ":" not in device:
        if 0 < torch.accelerator.device_count() < local_count():
            raise UserError(
                f"{local_count()} processes on a machine with {torch.accelerator.device_count()} "
                "devices: start as many as there are"
            )
        device = f"{device}:{local_rank()}"
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return picked


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` is float32 on a CPU and bfloat16 elsewhere.

    Raises:
        UserError: torch knows none of that name.
    """
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise UserError(f"no dtype {dtype}: auto, float32, bfloat16 or float16")
    return found


def resolved_dtype(
    device: str, dtype: str, *, load_in: str | None = None, device_map: str | None = None
) -> str:
    """What these options mean here for the numbers, by name (where they run does not count)."""
    name = str(pick_dtype(dtype, pick_device(device))).removeprefix("torch.")
    return name if load_in is None else f"{name}, weights in {load_in}"
