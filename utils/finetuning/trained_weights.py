"""Writing what a finetuning run has trained: a file of weights, or an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.files.artifacts import save, save_large
from utils.files.durable import write_bytes
from utils.finetuning.tuner import Finetuner
from utils.weights.adapters import WEIGHTS, adapter_files


def write_weights(
    tuner: Finetuner, weights: Mapping[str, Tensor], target: Path, inputs: Mapping[str, Any]
) -> list[Path]:
    """Write trained weights, on the main process.

    Args:
        tuner: what they were trained with.
        weights: all weights by name, gathered from all processes.
        target: a ``.pt`` file, or the folder of an adapter.
        inputs: what they depend on.

    Returns:
        The files written; of an adapter the weights last.
    """
    if target.suffix != ".pt":
        model = tuner.accelerator.unwrap_model(tuner.model)
        files = adapter_files(model, dict(weights))
        for name in files.keys() - {WEIGHTS}:
            write_bytes(target / name, files[name])
        save(target / WEIGHTS, files[WEIGHTS], inputs)
        return [target / name for name in files]
    # Weights that are tied have several names, of which one is trained: where all are, keep all.
    names = tuner.trained if tuner.frozen else weights.keys()
    save_large(target, {n: weights[n].detach().cpu() for n in weights if n in names}, inputs)
    return [target]
