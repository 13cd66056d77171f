"""Which comparisons of the fast way with the slow way were passed, remembered between runs.

What is remembered is a pass, never a failure: a model that is computed slowly is compared, and
warned of, at every start. A note holds for the weights, how and where they run, and the length of
the prompts; for other code or packages there is another (:mod:`utils.files.remembered`).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from llama_wrapper import LlamaWrapper
from utils.blocks.rotary import stretching
from utils.files import remembered

_KIND = "checks"
# Changed when what is compared changes, though no code does.
_VERSION = 1


@dataclass(frozen=True)
class Rounding:
    """How far a 16-bit model's numbers on the test prompts move by nothing but rounding.

    Attributes:
        dtype: of the model.
        noise: the slow way in batches against the slow way alone: root mean square of one vector,
            in its standard deviations.
        found: the fast way against the slow way alone, the same.
        absolute: the largest deviation of one number in batches, in its own unit.
    """

    dtype: str
    noise: float
    found: float
    absolute: float

    def __str__(self) -> str:
        return (
            f"{self.dtype}: by rounding alone the model's numbers move by {100 * self.noise:.2g} % "
            f"of their spread with the batch; in this run by {100 * self.found:.2g} %"
        )


@dataclass(frozen=True)
class SelfTest:
    """A comparison of the two ways.

    Attributes:
        kind: of the grid that is compared.
        lengths: tokens of each prompt of the run.
        tail: most tokens that are steered.
    """

    kind: str
    lengths: Sequence[int]
    tail: int


@dataclass(frozen=True)
class Passed:
    """A comparison in which the two ways agreed; ``rounding`` of a 16-bit model."""

    rounding: Rounding | None


def recall_passed(wrapper: LlamaWrapper, test: SelfTest) -> Passed | None:
    """What a comparison like this one gave; ``None`` if it has to be made."""
    key = _key(wrapper, test)
    known = None if key is None else remembered.recall(_KIND, key)
    if not isinstance(known, dict) or "rounding" not in known:
        return None
    return Passed(None if known["rounding"] is None else Rounding(**known["rounding"]))


def keep_passed(wrapper: LlamaWrapper, test: SelfTest, passed: Passed) -> None:
    """Remember that the two ways agreed, for weights that are known by name."""
    key = _key(wrapper, test)
    if key is not None:
        remembered.keep(_KIND, key, asdict(passed))


def _key(wrapper: LlamaWrapper, test: SelfTest) -> Mapping[str, Any] | None:
    if wrapper.origin.weights is None:
        return None
    config = wrapper.model.config
    windows = {getattr(c, "sliding_window", None) for c in (config, config.get_text_config())}
    ends = min(test.lengths), max(test.lengths)
    regime = stretching(config).regime
    return {
        "version": _VERSION,
        "weights": wrapper.origin.weights,
        "dtype": str(wrapper.dtype),
        "quantisation": str(getattr(config, "quantization_config", None)),
        "attention": str(config._attn_implementation),
        "device": _device(wrapper.device),
        "placed": str(getattr(wrapper.model, "hf_device_map", None)),
        "kind": test.kind,
        "tail": test.tail,
        # doubling the length changes the class; so does what a model does to long prompts
        "lengths": [length.bit_length() for length in ends],
        "beyond_window": [length > w for w in windows if isinstance(w, int) for length in ends],
        "regimes": [regime(length) for length in ends],
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
