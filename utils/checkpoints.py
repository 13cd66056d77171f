"""Training that was killed goes on: the state of a run on disk, the newest whole one only.

A state is saved when the weights in it have just given a finite loss and gradient, and before they
are changed. So the newest state is always a good one.
"""

import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel
from safetensors.torch import load_model

from utils.artifacts import json_bytes, read_json, write_bytes
from utils.durable import flush
from utils.errors import UserError

_PREFIX, _RUN = "step_", "run.json"


class Checkpoints:
    """The states of one training run.

    Args:
        folder: where they are kept while the run is unfinished.
        key: hash of all inputs; a state of other inputs is not continued.
        accelerator: the processes.
    """

    def __init__(self, folder: Path, key: str, accelerator: Accelerator) -> None:
        self.folder, self.key, self.accelerator = folder, key, accelerator
        accelerator.register_save_state_pre_hook(_keep_trained)
        accelerator.register_load_state_pre_hook(_load_trained)

    def _whole(self) -> list[Path]:
        found = [p for p in self.folder.glob(f"{_PREFIX}*") if not p.name.endswith(".tmp")]
        return sorted(found, key=lambda p: int(p.name.removeprefix(_PREFIX)))

    def restore(self) -> tuple[int, list[dict[str, Any]]]:
        """Load the newest state, if there is one of these inputs.

        Returns:
            The number of the step to be done next, and the rows of the curve so far.
        """
        for path in reversed(self._whole()):
            run = read_json(path / _RUN)
            if run["key"] == self.key:
                self.accelerator.load_state(str(path))
                return int(path.name.removeprefix(_PREFIX)), run["curve"]
        return 0, []

    def save(self, step: int, curve: list[dict[str, Any]]) -> None:
        """Save the state before step number ``step``; all processes call this."""
        old = self._whole()
        scratch = self.folder / f"{_PREFIX}{step}.tmp"
        if self.accelerator.is_main_process:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(scratch))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_bytes(scratch / _RUN, json_bytes({"key": self.key, "curve": curve}))
            for path in [*scratch.rglob("*"), scratch]:
                flush(path)
            target = scratch.with_suffix("")
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
            for path in old:
                if path != target:
                    shutil.rmtree(path)
        self.accelerator.wait_for_everyone()

    def remove(self) -> None:
        """Delete all states: the weights stand."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _keep_trained(models: list[Any], weights: list[dict[str, Any]], _folder: str) -> None:
    """Leave frozen weights out of a state, and the number of processes out of its names.

    A hook of accelerate's; edits ``weights``, of which there are none for a sharded model.
    """
    for model, state in zip(models, weights, strict=False):
        plain = extract_model_from_parallel(model)
        frozen = {
            n for n, p in plain.named_parameters(remove_duplicate=False) if not p.requires_grad
        }
        kept = {name.removeprefix("module."): value for name, value in state.items()}
        state.clear()
        state |= {name: value for name, value in kept.items() if name not in frozen}


def _load_trained(models: list[Any], folder: str) -> None:
    """Load what :func:`_keep_trained` has kept; a hook of accelerate's; empties ``models``."""
    while models:
        plain = extract_model_from_parallel(models.pop())
        missing, _ = load_model(plain, Path(folder) / "model.safetensors", strict=False)
        trained = {name for name, p in plain.named_parameters() if p.requires_grad}
        if trained & set(missing):
            raise UserError(f"{folder} is damaged; delete it to start this finetuning again")
