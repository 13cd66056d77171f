"""Training that was killed goes on: the state of a run on disk, the newest whole one only.

A state is saved when the weights in it have just given a finite loss and gradient, and before they
are changed. So the newest state is always a good one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, extract_model_from_parallel
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from utils.errors import UserError
from utils.files.contents import read_json
from utils.files.durable import flush, write_bytes
from utils.files.json_files import json_bytes

_PREFIX, _RUN = "step_", "run.json"


class StepRow(TypedDict):
    """One step (from 1): its loss in nats and the norm of its gradient, before its update."""

    step: int
    loss: float
    gradient_norm: float


class HeldOutRow(TypedDict):
    """The held-out questions after so many steps: mean score, its 95 % interval, accuracy."""

    step: int
    accuracy: float
    score: float
    low: float
    high: float
    n: int


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
        if accelerator.is_main_process:
            for left in folder.glob(f"{_PREFIX}*.tmp"):
                shutil.rmtree(left)

    def _whole(self) -> list[Path]:
        found = [p.parent for p in self.folder.glob(f"{_PREFIX}*/{_RUN}") if p.parent.suffix == ""]
        return sorted(found, key=lambda p: int(p.name.removeprefix(_PREFIX)))

    def _newest(self) -> str | None:
        """The newest state of these inputs, by name."""
        keys = {path.name: _run_of(path)["key"] for path in self._whole()}
        return next((name for name in reversed(keys) if keys[name] == self.key), None)

    def restore(self) -> tuple[int, list[StepRow | HeldOutRow]]:
        """Load the newest state, if there is one of these inputs.

        Returns:
            The number of the step to be done next, and the rows of the curve so far.

        Raises:
            UserError: a damaged state, or one that only the main process sees.
        """
        chosen = [self._newest() if self.accelerator.is_main_process else None]
        name = broadcast_object_list(chosen)[0]
        if name is None:
            return 0, []
        path = self.folder / name
        if not (path / _RUN).exists():
            raise UserError(
                f"{path} is not there for this process: all processes must write to the same "
                "--artifacts_dir, on a shared file system"
            )
        self.accelerator.load_state(str(path))
        return int(name.removeprefix(_PREFIX)), _run_of(path)["curve"]

    def save(self, step: int, curve: Sequence[StepRow | HeldOutRow]) -> None:
        """Save the state before step number ``step``; all processes call this."""
        old = self._whole()
        scratch = self.folder / f"{_PREFIX}{step}.tmp"
        if self.accelerator.is_main_process:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        try:
            self.accelerator.save_state(str(scratch))
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise UserError(f"cannot write {scratch}: {str(error).splitlines()[0]}") from error
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_bytes(scratch / _RUN, json_bytes({"key": self.key, "curve": curve}))
            for path in [*scratch.rglob("*"), scratch]:
                flush(path)
            target = scratch.with_suffix("")
            if target.exists():
                _delete(target)
            scratch.rename(target)
            for path in old:
                if path != target:
                    _delete(path)
        self.accelerator.wait_for_everyone()


def _run_of(state: Path) -> dict[str, Any]:
    """What a state says of its run: its ``key`` and its ``curve``.

    Raises:
        UserError: it says neither.
    """
    run = read_json(state / _RUN)
    if not isinstance(run, dict) or not {"key", "curve"} <= run.keys():
        raise UserError(f"{state} is damaged; delete it to start this finetuning again")
    return run


def remove_states(folder: Path) -> None:
    """Delete the folder of a run that has finished."""
    for path in folder.glob(f"{_PREFIX}*[0-9]"):
        _delete(path)
    shutil.rmtree(folder, ignore_errors=True)


def _delete(path: Path) -> None:
    """Delete a state so that what a kill leaves of it is no state."""
    shutil.rmtree(path.rename(path.with_name(f"{path.name}.old.tmp")))


def _keep_trained(models: list[nn.Module], weights: list[dict[str, Any]], _folder: str) -> None:
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


def _load_trained(models: list[nn.Module], folder: str) -> None:
    """Load what :func:`_keep_trained` has kept; a hook of accelerate's; empties ``models``."""
    while models:
        plain = extract_model_from_parallel(models.pop())
        file = Path(folder) / "model.safetensors"
        if not file.exists():
            raise UserError(f"{folder} was made by sharded processes; go on with those")
        missing, _ = load_model(plain, file, strict=False)
        trained = {name for name, p in plain.named_parameters() if p.requires_grad}
        if trained & set(missing):
            raise UserError(f"{folder} is damaged; delete it to start this finetuning again")
