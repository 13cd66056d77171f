"""finetune_llama.py sharded by FSDP 2 over CPU processes.

accelerate shards on GPUs only; torch shards on a CPU too. Here accelerate is told after it has
started, so that everything else of the sharded way (its preparing, gathering, checkpoints) is real.
With ``STOP_AT`` the process dies at that step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

import finetune_llama
from utils.cli import script
from utils.finetuning import tuner as finetuning
from utils.finetuning.tuner import Finetuner


def start_sharded(device: torch.device, mixed: str) -> Accelerator:
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
        state_dict_type="SHARDED_STATE_DICT",
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    accelerator.state.fsdp_plugin = plugin
    for state in (accelerator.state, PartialState()):
        state.distributed_type = DistributedType.FSDP
    return accelerator


gradients = Finetuner.gradients
calls: list[int] = []


def watched(self: Finetuner, examples: Sequence[finetuning.Example]) -> tuple[float, float]:
    calls.append(len(examples))
    weight = self.parameters[0]
    assert weight.to_local().numel() < weight.numel(), "no weight is whole on one process"
    if len(calls) == int(os.environ.get("STOP_AT", "0")):
        os._exit(9)
    return gradients(self, examples)


finetuning.start_processes = start_sharded
Finetuner.gradients = watched  # type: ignore[method-assign]
script.run(finetune_llama.build_parser(), finetune_llama.main)
