"""The toolkit on one GPU: a Llama-2-7B-shaped model with random weights, this project's data.

    benchmarks/gpu.sh --prepare     once, where npm works
    benchmarks/gpu.sh               where the GPU is: under eight minutes, no network

Torch, transformers, accelerate, numpy and tqdm must be there (torch 2.11 and transformers 5.17
do); nothing is fetched, and no weights are needed. --prepare puts a tokenizer of 32000 tokens
into benchmarks/.tokenizer, which git ignores: carry it along with the working tree. A later part
is left out once seven minutes are gone, and a part that fails is reported while the others go on;
the exit status is then 1. Prints a table, and writes gpu.json into $OUT if that is set, else
into benchmarks/. On a CPU: --shape tiny --device cpu (seconds).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers

from benchmarks import gpu_more_parts as more
from benchmarks import gpu_parts as parts
from benchmarks import llama2_tokenizer
from benchmarks.meter import Meter, OutOfTimeError
from utils.errors import UserError
from utils.files.paths import REPOSITORY
from utils.models.device import pick_device, pick_dtype
from utils.steering import self_check

# Cheap and informative first; float32 weights last, since they stay.
PARTS: dict[str, Callable[[parts.Bench], dict[str, Any]]] = {
    "model": parts.make_model,
    "fast_against_slow": parts.check,
    "fast_against_slow_float32": parts.check_float32,
    "vectors": parts.vectors,
    "sweep": parts.sweep,
    "open_ended": more.open_ended,
    "rounding": more.rounding,
    "finetuning": more.finetuning,
}
COMPARING = ("fast_against_slow", "fast_against_slow_float32")
MINUTES = 7.0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/gpu.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=parts.PLANS, default="7b", help="of the model")
    parser.add_argument("--device", default="auto", help="where it runs (default: auto)")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        default=Path(os.environ.get("GPU_TOKENIZER", REPOSITORY / "benchmarks" / ".tokenizer")),
        help="folder of a tokenizer, made by --prepare (default: $GPU_TOKENIZER, "
        "benchmarks/.tokenizer)",
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="time for all parts (default: 7)"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    return parser


def fast_way_in_half_precision() -> contextlib.AbstractContextManager[Any]:
    """Time the fast way whatever the toolkit's own test of it says in 16 bits.

    Random weights may let rounding grow further than trained ones do. What that test would have
    said is among the numbers: ``self_test_passes``.
    """
    return mock.patch.object(self_check, "half_tolerance", lambda *_given: math.inf)


def run_part(name: str, bench: parts.Bench) -> dict[str, Any]:
    """One part's numbers; where it failed or was left out, why."""
    start = time.perf_counter()
    try:
        bench.meter.check()
        bench.meter.clear()
        with contextlib.nullcontext() if name in COMPARING else fast_way_in_half_precision():
            found = {"status": "ok"} | PARTS[name](bench)
    except OutOfTimeError as error:
        found = {"status": "left out", "reason": str(error)}
    except Exception as error:  # noqa: BLE001  (whatever it is, the others must go on)
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        found = {"status": "failed", "reason": reason}
    return found | {"part_seconds": time.perf_counter() - start}


def about(bench: parts.Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the numbers were measured on."""
    on_gpu = bench.device.type == "cuda"
    card = torch.cuda.get_device_name(bench.device) if on_gpu else platform.processor()
    return {
        "card": card or platform.machine(),
        "device": str(bench.device),
        "dtype": str(bench.dtype).removeprefix("torch."),
        "shape": arguments.shape,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "real_tokenizer": llama2_tokenizer.is_prepared(arguments.tokenizer),
    }


def show(name: str, values: dict[str, Any]) -> None:
    """One part as a block of the table."""
    print(f"\n{name}: {values['status']}")
    for key, value in values.items():
        if key != "status":
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"  {key:40} {text}")


def main(arguments: argparse.Namespace) -> int:
    device = pick_device(arguments.device)
    bench = parts.Bench(
        plan=parts.PLANS[arguments.shape],
        tokenizer=llama2_tokenizer.load(arguments.tokenizer),
        device=device,
        dtype=pick_dtype("auto", device),
        meter=Meter(device, 60 * arguments.minutes),
    )
    folder = Path(os.environ.get("OUT") or REPOSITORY / "benchmarks")
    report: dict[str, Any] = {"about": about(bench, arguments)}
    print(json.dumps(report["about"], indent=2))
    with warnings.catch_warnings():
        # a part that took the slow way would measure something else than it says
        warnings.filterwarnings("error", message=".*one forward pass a cell.*")
        for name in arguments.parts:
            report[name] = run_part(name, bench)
            show(name, report[name])
            # after each part, so that a run that is killed leaves what it has
            (folder / "gpu.json").write_text(json.dumps(report, indent=2) + "\n")
    incomplete = [n for n in arguments.parts if report[n]["status"] != "ok"]
    print(f"\nwrote {folder / 'gpu.json'}")
    if incomplete:
        print(f"not measured: {', '.join(incomplete)}", file=sys.stderr)
    return int(bool(incomplete))


if __name__ == "__main__":
    try:
        sys.exit(main(build_parser().parse_args()))
    except UserError as error:
        print(f"benchmarks/gpu.sh: error: {error}", file=sys.stderr)
        sys.exit(2)
