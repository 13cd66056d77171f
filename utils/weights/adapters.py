"""LoRA adapters (Hu et al. 2021), through peft: made, saved and merged into a model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from utils.errors import UserError, reason_of
from utils.weights.folder import ADAPTER_CONFIG, check_weight_file

if TYPE_CHECKING:
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"


def add_adapter(model: PreTrainedModel, blocks: list[nn.Module], rank: int, seed: int) -> PeftModel:
    """Freeze a model and put an adapter beside every linear layer of some blocks.

    Args:
        model: a causal language model; changed in place.
        blocks: those of its decoder blocks that get adapters.
        rank: of the adapters; their scale is lora_alpha / rank = 1.
        seed: of their random half.

    Returns:
        peft's model around it.
    """
    from peft import LoraConfig, get_peft_model

    wanted = {id(part) for block in blocks for part in block.modules()}
    linear = (nn.Linear, Conv1D)
    names = [n for n, m in model.named_modules() if id(m) in wanted and isinstance(m, linear)]
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names, task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def adapter_files(model: PeftModel, weights: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """An adapter as peft's two files, the weights last.

    Args:
        model: peft's model.
        weights: its weights by name.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save

    config = model.peft_config["default"].to_dict()
    config |= {"inference_mode": True, "peft_type": "LORA", "task_type": "CAUSAL_LM"}
    config["target_modules"] = sorted(config["target_modules"])
    plain = {k: v for k, v in config.items() if isinstance(v, str | int | float | list | dict)}
    own = get_peft_model_state_dict(model, state_dict=weights)
    tensors = {name: value.detach().cpu().contiguous() for name, value in own.items()}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    return {ADAPTER_CONFIG: text.encode(), WEIGHTS: save(tensors, metadata={"format": "pt"})}


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A model with an adapter added to its weights.

    Raises:
        UserError: the folder holds no adapter of this model, or one of which not every weight has
            its place (peft would leave those out, and only warn).
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    for path in sorted(folder.glob("adapter_model.*")):
        check_weight_file(path)
    try:
        with warnings.catch_warnings():
            # what is missing is an error below
            warnings.filterwarnings("ignore", "Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, str(folder))
        stored = set(load_peft_weights(str(folder), device="cpu"))
        placed = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
        lost, extra = placed - stored, stored - placed - adapted.state_dict().keys()
    except Exception as error:
        raise UserError(f"{folder} holds no adapter of this model: {reason_of(error)}") from error
    if lost or extra:
        fault = "lacks" if lost else "has no place in this model for"
        names = sorted(lost or extra)
        raise UserError(
            f"{folder} holds an adapter of another model, or a part of one; it {fault} "
            f"{len(names)} weights: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        )
    return adapted.merge_and_unload()
