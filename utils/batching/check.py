"""Whether rows that share a batch have the numbers that they have alone, tried beforehand."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.steering.check_notes import SelfTest
from utils.steering.one_pass import Steer, batched_logits, slow_logits
from utils.steering.rows import empty_rows, together
from utils.steering.self_check import Ways, checked

_QUESTIONS = ("Is it?", "Is this the question that is asked here, or is it another one?", "Why?")


def rows_agree(wrapper: LlamaWrapper) -> bool:
    """Compare rows that join one another with one plain pass each; warns where they differ.

    Raises:
        UserError: out of memory.
    """
    prompts = [wrapper.prompt_format().open_prompt(question) for question in _QUESTIONS]
    longer = [replace(p, ids=(*p.ids, p.ids[-1])) for p in prompts]
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(wrapper.width, generator=generator)
    steer = Steer(wrapper.n_layers // 2, delta)

    def fast(_prepared: bool | None) -> list[Tensor]:
        parts = []
        for members in (prompts[:2], prompts[2:]):
            deltas = [{steer.layer: delta} for _ in members]
            rows, inputs = empty_rows(
                wrapper, [p.ids for p in members], [p.steer_from for p in members], deltas
            )
            rows.feed(*inputs, keep=1)
            parts.append(rows)
        last = torch.tensor([[p.ids[-1]] for p in longer], device=wrapper.device)
        return [together(parts, 1).step(last)]

    ways: Ways[bool | None] = Ways(
        SelfTest("served answers", [len(p.ids) for p in longer], max(p.tail for p in longer)),
        lambda: [torch.stack([slow_logits(wrapper, p, steer) for p in longer])],
        lambda: True,
        fast,
        lambda: [batched_logits(wrapper, longer, steer)],
    )
    works, _ = checked(wrapper, ways)
    return works is not None
