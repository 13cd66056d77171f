"""The finetuning baseline: cross-entropy on the answer's letter (paper, section 5).

Everything that several processes do together goes through accelerate. What is computed depends on
the pairs of a step alone: neither the number of processes nor that of micro-batches changes a
number, but for rounding.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from utils.blocks.padding import left_padded
from utils.blocks.vocabulary import letter_probabilities
from utils.errors import UserError
from utils.prompts.format import LetterPrompt
from utils.ranks import PATIENCE, local_rank, rank, rank_count, work_begins

_TEST_ROWS = 8


@dataclass(frozen=True)
class Example:
    """A prompt up to the letter's token, and that token, which is to be learned."""

    ids: tuple[int, ...]
    target: int


def examples_of(learned: Sequence[LetterPrompt], direction: str) -> list[Example]:
    """What the model is to learn: the letter of the answers of one direction."""
    at = ("pos", "neg").index(direction)
    return [Example(p.ids, list(p.letters.values())[at]) for p in learned]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        batch_size: pairs of one optimizer step, over all processes.
        grad_accumulation: micro-batches in which every process computes its share of a step.
    """

    lr: float
    epochs: int
    batch_size: int
    grad_accumulation: int
    optimizer: str
    gradient_checkpointing: bool
    seed: int


@dataclass(frozen=True)
class Precision:
    """How numbers are kept and computed with while training.

    Attributes:
        weights: dtype in which the model is loaded.
        mixed: accelerate's word for the arithmetic: ``bf16`` (autocast) rounds what goes into
            multiplications, ``no`` computes as the weights are.
    """

    weights: str
    mixed: str

    def described(self) -> str:
        """As records have it."""
        return self.weights if self.mixed == "no" else f"bfloat16, with {self.weights} weights"


def precision(dtype: str, device: str, *, adapter: bool) -> Precision:
    """What ``--dtype`` means for training: what is trained is always kept in float32.

    A bfloat16 number has 8 bits, so a step of less than 1/512 of a weight rounds to nothing: at
    the usual rates nearly all of them (measured: of the steps that change 83 % of a model's
    weights in float32, those of 0.5 % were left).

    Args:
        dtype: as on the command line.
        device: its type.
        adapter: only an adapter is trained, which peft keeps in float32 beside any weights.

    Raises:
        UserError: float16 for weights that are trained.
    """
    if adapter and dtype != "auto":
        return Precision(dtype, "no")
    if dtype == "float16":
        raise UserError(
            "--dtype float16: small gradients are zero in it, so it trains adapters only; give "
            "--lora_rank, or --dtype bfloat16 or float32"
        )
    rounded = dtype == "bfloat16" or (dtype == "auto" and device in ("cuda", "xpu"))
    return Precision("float32", "bf16" if rounded else "no")


def schedule(count: int, recipe: Recipe) -> list[list[int]]:
    """The pairs of every optimizer step; each epoch takes them in an order of its own."""
    steps = []
    for epoch in range(recipe.epochs):
        order = list(range(count))
        random.Random(f"{recipe.seed} {epoch}").shuffle(order)
        size = recipe.batch_size
        steps += [order[start : start + size] for start in range(0, count, size)]
    return steps


def without_dropout(model: nn.Module) -> None:
    """Dropout off, also in training mode: a loss curve must not depend on who draws what."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def start_processes(device: torch.device, mixed: str) -> Accelerator:
    """The processes of this launch, each on its device, as accelerate is configured (DDP, FSDP).

    Args:
        device: where this process computes.
        mixed: the arithmetic, see :class:`Precision`.

    Raises:
        UserError: accelerate takes the launch for another one than it is, or the device cannot
            compute in bfloat16.
    """
    if rank_count() == 1:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    else:
        # accelerate knows the names that MPI has for these on a CPU only
        places = {"RANK": rank(), "WORLD_SIZE": rank_count(), "LOCAL_RANK": local_rank()}
        os.environ.update({name: str(value) for name, value in places.items()})
    on_cpu = device.type == "cpu"
    try:
        accelerator = Accelerator(
            cpu=on_cpu,
            mixed_precision=mixed,
            # the main process alone writes checkpoints, however long that takes
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as error:
        raise UserError(f"--dtype or --device {device}: {error}") from error
    work_begins()
    if accelerator.num_processes != rank_count():
        raise UserError(
            f"accelerate sees {accelerator.num_processes} processes, the launcher started "
            f"{rank_count()}: start them by accelerate launch or torchrun"
        )
    wanted = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
    if wanted and accelerator.distributed_type != "FSDP":
        raise UserError("accelerate does not shard a model (FSDP) on this device, only on GPUs")
    return accelerator


def end_processes(accelerator: Accelerator) -> None:
    """Part from the other processes.

    Every model must be gone before: a group that goes with one waits for a thread that waits for
    Python's lock, and so for ever (seen once).
    """
    accelerator.end_training()


def all_agree(value: bool) -> bool:
    """Whether all processes have the same value."""
    return len(set(gather_object([value]))) == 1


class Finetuner:
    """A model, its optimizer and the processes that train it together.

    Args:
        model: the weights to be trained are those that require a gradient.
        accelerator: the processes.
        recipe: how to train.

    Attributes:
        trained: the names of the weights that are trained.
        frozen: whether there are others.

    Raises:
        UserError: sharded by FSDP 1 with frozen weights.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, accelerator: Accelerator, recipe: Recipe
    ) -> None:
        without_dropout(model)
        if recipe.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        # blocks are checkpointed in training mode only
        model.train(recipe.gradient_checkpointing)
        kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[recipe.optimizer]
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        frozen = len(trained) < sum(1 for _ in model.parameters())
        if frozen and accelerator.distributed_type == "FSDP" and not accelerator.is_fsdp2:
            raise UserError(
                "FSDP 1 cannot train a part of the weights only: set fsdp_version 2, or use DDP"
            )
        optimizer = kind(trained.values(), lr=recipe.lr)
        self.trained, self.frozen = set(trained), frozen
        self.accelerator, self.recipe = accelerator, recipe
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]

    def gradients(self, examples: Sequence[Example]) -> tuple[float, float]:
        """Compute the gradient of the mean loss over the examples of one step.

        Returns:
            The loss (nats) and the norm of its gradient, both before any update.
        """
        parts = self.recipe.grad_accumulation
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.accelerator.device)
        for part in range(parts):
            shared = examples[part * processes + own :: parts * processes]
            # Every process takes part in every micro-batch, with nothing to say if need be.
            last = part == parts - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                losses = self._losses(shared or examples[:1]).sum() * bool(shared)
                # the processes' gradients are averaged
                self.accelerator.backward(losses * (processes / len(examples)))
            total += losses.detach()
        loss: Any = self.accelerator.reduce(total, "sum") / len(examples)
        norm: Any = self.accelerator.clip_grad_norm_(self.parameters, math.inf)
        return float(loss), float(norm)

    def update(self) -> None:
        """Take the step along the last gradient."""
        self.optimizer.step()

    def _last_logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        # Only the last position is projected onto the vocabulary.
        inputs = left_padded(rows, self.accelerator.device)
        return self.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1].float()

    def _losses(self, examples: Sequence[Example]) -> Tensor:
        logits = self._last_logits([e.ids for e in examples])
        targets = torch.tensor([e.target for e in examples], device=logits.device)
        return nn.functional.cross_entropy(logits, targets, reduction="none")

    def probabilities(self, prompts: Sequence[LetterPrompt]) -> list[list[float]]:
        """P(letter) of every prompt, in the order of its letters."""
        processes, own = self.accelerator.num_processes, self.accelerator.process_index
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        found: list[tuple[int, list[float]]] = []
        for start in range(0, len(order), _TEST_ROWS * processes):
            chunk = order[start : start + _TEST_ROWS * processes]
            # again every process takes part, so that a sharded model can be put together
            mine = chunk[own::processes] or chunk[:1]
            with torch.no_grad():
                logits = self._last_logits([prompts[i].ids for i in mine])
            letters = list(prompts[0].letters.values())
            found += zip(mine, letter_probabilities(logits, letters).tolist(), strict=True)
        values = dict(gather_object(found))
        return [values[i] for i in range(len(prompts))]

    def weights(self) -> dict[str, Tensor]:
        """All weights by name, gathered from all processes (whole on the main one)."""
        return self.accelerator.get_state_dict(self.model)

    def close(self) -> None:
        """Let the model go; nothing can be done with it afterwards."""
        self.model = self.optimizer = None
        self.parameters = []
        self.accelerator.free_memory()
