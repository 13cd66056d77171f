"""Finetuning steps a second and peak memory, against projecting every position.

    make bench        (or: python -m benchmarks.finetuning)

A plain training loop projects all positions of a prompt onto the vocabulary and then uses one of
them. Each way runs in processes of its own, in turn, since peak memory is a process's. Prints a
table and writes benchmarks/finetuning.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from utils.blocks.padding import left_padded
from utils.data.items import load_ab_items
from utils.files.paths import REPOSITORY, Paths
from utils.finetuning.tuner import Example, Finetuner, Recipe, start_processes
from utils.models.choice import choose_model
from utils.models.loading import load_model, load_tokenizer
from utils.prompts.format import PromptFormat

STEPS, BATCH, ROUNDS = 6, 8, 2
WAYS = ("last position", "all positions")


class EveryPosition(Finetuner):
    """The plain loop."""

    def _last_logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        inputs = left_padded(rows, self.accelerator.device)
        return self.model(**inputs, use_cache=False).logits.float()[:, -1]


def examples() -> list[Example]:
    """The first pairs of a bundled behaviour."""
    choice = choose_model(None, None, False)
    prompt_format = PromptFormat(load_tokenizer(choice))
    path = Paths(REPOSITORY, REPOSITORY / "datasets").generate_data("refusal")
    items = load_ab_items(path, made_by="", limit=STEPS * BATCH)
    prompts = [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in items]
    return [Example(p.ids, next(iter(p.letters.values()))) for p in prompts]


def peak_gb() -> float:
    """Most memory resident since the last call (Linux), in GB."""
    status = Path("/proc/self/status").read_text()
    (line,) = (x for x in status.splitlines() if x.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return int(line.split()[1]) / 1e6


def measure(way: str) -> dict[str, float]:
    """A few steps in this process: median seconds of one, its peak memory, the first loss."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    model = load_model(choose_model(None, None, False), device="cpu")
    recipe = Recipe(1e-4, 1, BATCH, 1, "sgd", False, 0)
    kind = Finetuner if way == WAYS[0] else EveryPosition
    tuner = kind(model, start_processes(torch.device("cpu"), "no"), recipe)
    found, times, losses = examples(), [], []
    loading = peak_gb()
    for step in range(STEPS):
        start = time.perf_counter()
        losses.append(tuner.gradients(found[step * BATCH : (step + 1) * BATCH])[0])
        tuner.update()
        times.append(time.perf_counter() - start)
    values = {"seconds": statistics.median(times), "loss": losses[-1]}
    return values | {"peak_gb": peak_gb(), "loading_gb": loading}


def main() -> None:
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.finetuning", way]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    report = {
        way: {
            "steps_per_second": 1 / statistics.median(r["seconds"] for r in found),
            "peak_gb": min(r["peak_gb"] for r in found),
            "loading_gb": min(r["loading_gb"] for r in found),
            "loss_after": found[0]["loss"],
        }
        for way, found in runs.items()
    }
    for way, values in report.items():
        print(
            f"finetuning, {way:14} {values['steps_per_second']:6.3f} steps of {BATCH} pairs a "
            f"second, peak {values['peak_gb']:.2f} GB (loading {values['loading_gb']:.2f}), "
            f"loss of the last step {values['loss_after']:.6f}"
        )
    path = Path(REPOSITORY / "benchmarks" / "finetuning.json")
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
