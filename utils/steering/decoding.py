"""Greedy answers of many questions under many steers, all behind one prefill.

Steering leaves everything before the last token of the instruction untouched, so that part of a
prompt runs once; its keys and values are then shared out to one row for each steered variant. All
rows decode together and leave the batch at their end token.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.branches import grouped
from utils.blocks.padding import left_padded
from utils.blocks.rotary import stretching
from utils.prompts.format import OpenPrompt
from utils.steering.check_notes import SelfTest
from utils.steering.one_pass import Steer, batched_logits, slow_logits
from utils.steering.row_cache import row_cache, survivors
from utils.steering.rows import Rows, deltas_by_layer
from utils.steering.self_check import Rounding, Ways, checked, probe_batches

CPU_ROWS, GPU_ROWS = 100, 512


@dataclass(frozen=True)
class Answer:
    """One greedy continuation.

    Attributes:
        tokens: up to and including the first end token.
        margin: the smallest distance of the two best logits on the way. Where it is as small as
            rounding, another batch might have taken the other token.
    """

    tokens: tuple[int, ...]
    margin: float


class GreedyGrid:
    """Answers of every prompt under every steer.

    Args:
        wrapper: the model.
        prompts: all prompts of the run, the finished ones too (batches depend on all of them).
        steers: the cells; ``None`` is the unsteered model.
        max_new_tokens: most tokens of an answer.
        rows: most rows (prompt x steer) decoded together; ``None`` for the device's default.
        slow: one row at a time by the library's own ``generate``, for comparison.

    Attributes:
        batches: indices of the prompts that are computed together.
        alone: prompts that are answered one row at a time, because rotary frequencies change on
            the way through their answers.
        rounding: of a 16-bit model, as measured before the run.
    """

    def __init__(
        self,
        wrapper: LlamaWrapper,
        prompts: Sequence[OpenPrompt],
        steers: Sequence[Steer | None],
        *,
        max_new_tokens: int,
        rows: int | None = None,
        slow: bool = False,
    ) -> None:
        self.wrapper, self.prompts, self.steers = wrapper, prompts, list(steers)
        self.max_new_tokens = max_new_tokens
        self.ends = wrapper.end_tokens()
        self.rounding: Rounding | None = None
        self.groups = self._groups()
        self.alone = {i for i, group in enumerate(self.groups) if group[-1]}
        self.together = not slow and self._shared_prefill_works()
        default = CPU_ROWS if wrapper.device.type == "cpu" else GPU_ROWS
        self.rows = (rows or default) if self.together else 1
        # a batch is counted in rows, and holds prompts of one group, the longest first
        order = sorted(range(len(prompts)), key=lambda i: (self.groups[i], -len(prompts[i].ids)))
        size = max(1, self.rows // len(self.steers))
        self.batches = grouped(order, size, lambda i: self.groups[i])

    def _groups(self) -> list[tuple[int, int, int]]:
        """For each prompt: regime of its frequencies, tail, and a number of its own if alone.

        Rows share a prefill and then their steps. Where the frequencies of the first and those of
        the last are not the same, what stays in the cache depends on where the prefill ended.
        The measure there is the library's ``generate``, one prompt at a time.
        """
        regime = stretching(self.wrapper.model.config).regime
        groups = []
        for number, prompt in enumerate(self.prompts, 1):
            start = regime(len(prompt.ids) - prompt.tail)
            steady = start == regime(len(prompt.ids) + self.max_new_tokens - 1)
            groups.append((start, prompt.tail, 0 if steady else number))
        return groups

    def _shared_prefill_works(self) -> bool:
        members = [i for i in range(len(self.prompts)) if i not in self.alone]
        if self.alone:
            warnings.warn(
                f"{self.wrapper.architecture}: rotary frequencies change with the length, and do "
                f"so within the answers of {len(self.alone)} of {len(self.prompts)} prompts; each "
                "of those is answered alone (slow)",
                stacklevel=3,
            )
        if not members:
            return False
        lengths = [len(self.prompts[i].ids) for i in members]
        found = probe_batches(lengths, [self.groups[i] for i in members])
        batches = [[self.prompts[members[i]] for i in batch] for batch in found]
        probes = [None, *[s for s in self.steers if s is not None][-1:]]

        def slow() -> list[Tensor]:
            tests = [p for b in batches for p in b]
            rows = [[slow_logits(self.wrapper, p, s) for s in probes] for p in tests]
            return [torch.stack([torch.stack(row) for row in rows])]

        def fast(_prepared: bool | None) -> list[Tensor]:
            rows = [self._first_logits(b, probes).unflatten(0, (len(b), -1)) for b in batches]
            return [torch.cat(rows)]

        def batched() -> list[Tensor]:
            rows = [
                torch.stack([batched_logits(self.wrapper, b, s) for s in probes], 2)
                for b in batches
            ]
            return [torch.cat(rows, dim=1)]

        kind = "answers" if probes[1:] else "answers unsteered"
        test = SelfTest(kind, lengths, max(self.prompts[i].tail for i in members))
        works, self.rounding = checked(self.wrapper, Ways(test, slow, lambda: True, fast, batched))
        return works is not None

    def is_alone(self, batch: Sequence[int]) -> bool:
        """Whether the prompts of a batch are answered one row at a time."""
        return not self.together or not self.alone.isdisjoint(batch)

    def answers(
        self, batch: Sequence[int], advance: Callable[[float], object] = lambda _done: None
    ) -> list[list[Answer]]:
        """Answers of the prompts of one batch: [prompt][steer].

        Args:
            batch: one of ``batches``.
            advance: called at every token with how many prompts it finishes, in parts of them.
        """
        prompts = [self.prompts[i] for i in batch]
        done = 0.0

        def tell(now: float) -> None:
            nonlocal done
            advance(now - done)
            done = now

        parts: list[list[Answer]] = [[] for _ in prompts]
        if self.is_alone(batch):
            for part, prompt in zip(parts, prompts, strict=True):
                for steer in self.steers:
                    part.append(self._one(prompt, steer))
                    tell(done + 1 / len(self.steers))
            return parts
        for start in range(0, len(self.steers), self.rows):
            steers, before = self.steers[start : start + self.rows], done
            share = len(prompts) * len(steers) / len(self.steers)

            def tell_part(part: float, before: float = before, share: float = share) -> None:
                tell(before + share * part)

            found = self._decode(prompts, steers, tell_part)
            tell_part(1.0)
            for part, answers in zip(parts, found, strict=True):
                part += answers
        return parts

    def _one(self, prompt: OpenPrompt, steer: Steer | None) -> Answer:
        deltas = {} if steer is None else {steer.layer: steer.delta}
        with self.wrapper.steer(deltas, prompt.steer_from):
            (tokens,) = self.wrapper.generate([prompt.ids], max_new_tokens=self.max_new_tokens)
        return Answer(tuple(tokens), float("inf"))

    def _prefill(
        self, prompts: Sequence[OpenPrompt], steers: Sequence[Steer | None]
    ) -> tuple[Rows, Tensor]:
        """Run everything before the tails once a prompt; a row for each steer, tails per row."""
        device, tail = self.wrapper.device, prompts[0].tail
        heads = [p.ids[:-tail] for p in prompts]
        inputs = left_padded(heads, device)
        cache = row_cache(inputs["input_ids"].shape[1] + tail + self.max_new_tokens - 1)
        with torch.inference_mode():
            self.wrapper.decoder(**inputs, past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(steers))
        firsts = torch.tensor([p.steer_from for p in prompts], device=device)
        firsts = firsts.repeat_interleave(len(steers))
        added = [{} if s is None else {s.layer: s.delta} for s in steers]
        rows = Rows(
            self.wrapper,
            cache,
            inputs["attention_mask"].repeat_interleave(len(steers), 0),
            firsts,
            firsts,
            deltas_by_layer(added * len(prompts), self.wrapper.width, device),
        )
        tails = torch.tensor([p.ids[-tail:] for p in prompts], device=device)
        return rows, tails.repeat_interleave(len(steers), 0)

    def _first_logits(
        self, prompts: Sequence[OpenPrompt], steers: Sequence[Steer | None]
    ) -> Tensor:
        rows, tails = self._prefill(prompts, steers)
        return rows.step(tails)

    def _decode(
        self,
        prompts: Sequence[OpenPrompt],
        steers: Sequence[Steer | None],
        tell: Callable[[float], object],
    ) -> list[list[Answer]]:
        rows, ids = self._prefill(prompts, steers)
        count = len(prompts) * len(steers)
        numbers = list(range(count))
        tokens: list[list[int]] = [[] for _ in range(count)]
        margins = [float("inf")] * count
        for number in range(self.max_new_tokens):
            tell(number / self.max_new_tokens)
            best = rows.step(ids).topk(2, dim=-1)
            ids, values = best.indices[:, :1], best.values
            gaps, new = (values[:, 0] - values[:, 1]).tolist(), ids[:, 0].tolist()
            for row, token, gap in zip(numbers, new, gaps, strict=True):
                tokens[row].append(token)
                margins[row] = min(margins[row], gap)
            running = torch.tensor([token not in self.ends for token in new])
            if not bool(running.any()):
                break
            if not bool(running.all()):
                keep = survivors(running)
                rows.keep(keep)
                ids, numbers = ids[keep.to(ids.device)], [numbers[i] for i in keep.tolist()]
        found = [Answer(tuple(t), m) for t, m in zip(tokens, margins, strict=True)]
        return [found[i : i + len(steers)] for i in range(0, count, len(steers))]
