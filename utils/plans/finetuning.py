"""From the flags of finetune_llama.py to jobs: every input checked before the model is loaded."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import behaviors
from utils.data.items import load_ab_items
from utils.files.artifacts import must_make
from utils.files.file_system import check_name
from utils.files.paths import Paths
from utils.models.choice import ModelChoice, ModelShape
from utils.models.identity import weights_fingerprint

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from utils.finetuning.loop import HeldOut
    from utils.finetuning.tuner import Example, Precision

TRAINED_BY = ("lora_rank", "lr", "epochs", "batch_size", "optimizer", "seed")
GET_DATA = "The behaviour's pairs belong there; --datasets_dir names another data folder."


@dataclass
class Job:
    """All that one run needs, checked."""

    title: str
    target: Path
    figure: Path
    inputs: dict[str, Any]
    examples: list[Example]
    held_out: HeldOut
    tokenizer: PreTrainedTokenizerBase
    state: Path
    lock: Path
    finished: bool
    precision: Precision


def plan(
    args: argparse.Namespace,
    described: behaviors.Behavior,
    choice: ModelChoice,
    shape: ModelShape,
    paths: Paths,
) -> Job:
    """Check all inputs of one behaviour before the model is loaded."""
    behavior = described.id
    data = paths.generate_data(behavior)
    pairs = load_ab_items(data, made_by=GET_DATA, limit=args.limit)

    from utils.data.evaluation import AB
    from utils.data.kinds_of_test import LETTERS
    from utils.finetuning.loop import HeldOut
    from utils.finetuning.tuner import examples_of, precision
    from utils.models.device import pick_device
    from utils.models.loading import load_tokenizer
    from utils.prompts.checks import check_prompts
    from utils.prompts.format import PromptFormat

    test = AB
    tests = test.load(paths, behavior, None)
    tokenizer = load_tokenizer(choice)
    prompt_format = PromptFormat(tokenizer, base=choice.base)
    learned = [prompt_format.letter_prompt(i.question, (i.matching, i.other)) for i in pairs]
    prompts = [prompt_format.letter_prompt(item.question, LETTERS) for item in tests]
    named = check_prompts(learned, shape.context, data)
    check_prompts(prompts, shape.context, test.data(paths, behavior))
    device = pick_device(args.device).type
    kept = precision(args.dtype, device, adapter=args.lora_rank is not None)
    inputs = {
        "kind": "finetuned weights",
        "behavior": behavior,
        "direction": args.direction,
        "layer": "all" if args.layer is None else args.layer,
        "model": choice.label,
        "weights": weights_fingerprint(choice),
        "dtype": f"auto on {device}" if args.dtype == "auto" else kept.described(),
        "template": prompt_format.fingerprint(),
        "data": pairs.sha256,
        "pairs": len(pairs),
    } | named
    inputs |= {name: getattr(args, name) for name in TRAINED_BY}
    target = paths.finetuned(behavior, args.direction, args.layer, args.lora_rank, args.limit)
    stem = target.name.removesuffix(".pt").removeprefix(f"{behavior}_").replace("_finetune", "")
    made = target if args.lora_rank is None else target / "adapter_model.safetensors"
    return Job(
        title=described.name,
        target=target,
        figure=check_name(paths.figure(f"finetune_{stem}_model={choice.label}", behavior)),
        inputs=inputs,
        examples=examples_of(learned, args.direction),
        held_out=HeldOut(tests, prompts),
        tokenizer=tokenizer,
        state=(state := paths.finetuning_state(target)),
        lock=check_name(state.with_name(f"{state.name}_lock")),
        finished=not must_make(made, inputs, overwrite=args.overwrite),
        precision=kept,
    )


def prepare(
    args: argparse.Namespace, choice: ModelChoice, job: Job, device: str
) -> PreTrainedModel | PeftModel:
    """The model; those of its weights that are to be trained require a gradient."""
    from llama_wrapper import LlamaWrapper
    from utils.models.loading import load_model
    from utils.weights.adapters import add_adapter

    model = load_model(choice, device=device, dtype=job.precision.weights)
    wrapper = LlamaWrapper(model, job.tokenizer)
    blocks = wrapper.blocks if args.layer is None else [wrapper.blocks[args.layer]]
    if args.lora_rank is not None:
        return add_adapter(model, blocks, args.lora_rank, args.seed)
    if args.layer is not None:
        model.requires_grad_(False)
        blocks[0].requires_grad_(True)
    return model
