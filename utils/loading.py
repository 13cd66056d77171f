"""Loading the chosen model's weights and tokenizer with transformers."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from utils.bundled_model import bundled_folder
from utils.errors import UserError
from utils.models import ModelChoice, hub_token

# The scripts have progress bars and messages of their own.
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


def pick_device(device: str) -> torch.device:
    """``auto`` is the first accelerator, or the CPU.

    Raises:
        UserError: a device that torch does not have here.
    """
    if device == "auto":
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        return torch.device("cpu") if found is None else found
    try:
        picked = torch.device(device)
        torch.empty(0, device=picked)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return picked


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return getattr(torch, dtype)


def resolved_dtype(device: str, dtype: str) -> str:
    """The dtype that these options mean here, by name."""
    return str(pick_dtype(dtype, pick_device(device))).removeprefix("torch.")


def load_tokenizer(choice: ModelChoice) -> Any:
    """The tokenizer alone: prompts and positions are checked before any weights are loaded.

    Raises:
        UserError: it cannot be had.
    """
    source, options = _source(choice)
    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"cannot load the tokenizer of {choice.source}: {_first_lines(error)}"
        ) from error


def load_model(choice: ModelChoice, *, device: str, dtype: str) -> Any:
    """The model in evaluation mode, on its device.

    Raises:
        UserError: not found, no access, no network, or an architecture that transformers or
            this toolkit does not know.
    """
    place = pick_device(device)
    source, options = _source(choice)
    options["dtype"] = pick_dtype(dtype, place)
    if "gguf_file" in options:
        options["quantization_config"] = GgufConfig(dequantize=True)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"cannot load {choice.source}: {_first_lines(error)}") from error
    if choice.weights is not None:
        _load_weights(model, choice.weights)
    return model.to(place).eval()


def _source(choice: ModelChoice) -> tuple[str, dict[str, Any]]:
    if choice.is_bundled:
        return str(bundled_folder()), {}
    if choice.source.endswith(".gguf"):
        path = Path(choice.source)
        return str(path.parent), {"gguf_file": path.name}
    if Path(choice.source).is_dir():
        return choice.source, {}
    return choice.source, {"token": hub_token()}


def _load_weights(model: Any, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = model.load_state_dict(state, strict=False)
    except Exception as error:
        raise UserError(f"{path} holds no weights of this model: {_first_lines(error)}") from error
    if missing.unexpected_keys or len(missing.missing_keys) == len(model.state_dict()):
        raise UserError(f"{path} holds weights of another model: {missing.unexpected_keys[:3]}")


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split("\n")[:2])[:400]
