"""Rotary frequencies that follow the length of what is computed.

Most models turn a token by its position alone: yarn, linear and llama3 scaling too. Two kinds
look at the longest position of the whole call. ``longrope`` (Phi-3) has a second set of
frequencies, for everything longer than the original context; ``dynamic`` has others for every
length beyond the context, and the library's module keeps them until it is given something shorter
than the context again. So that a number belongs to its prompt alone, only prompts of one regime may
share a call, and the module's memory is taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from utils.blocks.hooks import Hook, hook_for_good


@dataclass(frozen=True)
class Stretching:
    """Where a model's rotary frequencies change with the length; nowhere for most models.

    Attributes:
        switches: lengths in tokens; whatever is longer has other frequencies than what is not.
        grows: lengths in tokens; beyond them every length has frequencies of its own.
    """

    switches: tuple[int, ...] = ()
    grows: tuple[int, ...] = ()

    def regime(self, length: int) -> int:
        """The shortest length that is computed with the same frequencies; 0 for the usual ones."""
        passed = [context + 1 for context in self.switches if length > context]
        return max([0, *passed, *(length for context in self.grows if length > context)])


def stretching(config: PreTrainedConfig) -> Stretching:
    """What a model's configuration says, its text model's if it has several."""
    config = config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", 0) or 0)
    switches, grows = [], []
    for scaling in _scalings(config):
        kind = str(scaling.get("rope_type", scaling.get("type")))
        if kind == "longrope":
            name = "original_max_position_embeddings"
            switches.append(int(scaling.get(name) or getattr(config, name, None) or context))
        elif "dynamic" in kind:
            grows.append(context)
    return Stretching(tuple(switches), tuple(grows))


def _scalings(config: PreTrainedConfig) -> list[Mapping[str, Any]]:
    """The rotary settings: one for all blocks, or (Gemma 3) one for each type of block."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [part for part in found.values() if isinstance(part, Mapping)]
    return nested or [found]


def forget_lengths(model: nn.Module) -> None:
    """Let every call of a model's rotary modules depend on that call alone, from now on.

    Under a key/value cache nothing changes: there each step is longer than the one before, and
    what the module remembers is what it would compute.
    """
    for module in model.modules():
        if "dynamic" in str(getattr(module, "rope_type", "")):
            hook_for_good(Hook(module, _forget, before=True))


def _forget(module: Any, _args: Any, _kwargs: Any) -> None:
    kinds = module.rope_type
    names = [f"{t}_" for t, kind in kinds.items() if kind] if isinstance(kinds, dict) else [""]
    for name in names:
        if "dynamic" in (kinds[name[:-1]] if name else kinds):
            setattr(module, f"{name}inv_freq", getattr(module, f"{name}original_inv_freq"))
            setattr(module, f"{name}max_seq_len_cached", module.original_max_seq_len)
