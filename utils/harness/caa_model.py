"""The model type ``caa`` of lm-evaluation-harness; importing this module registers it.

Rows reach the model in two ways. Continuations are scored in rows padded on the right, answers are
generated from rows padded on the left, of which positions do not count the padding. In both the
vector is added by :meth:`utils.blocks.hooked_model.HookedModel.steer` from each row's own first
position on. Everything else, tokens and order of batches included, is the harness's ``hf`` model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from utils.errors import UserError
from utils.harness.request import HARNESS, Request, check_names
from utils.harness.rows import firsts_of, input_of, key_of, rounds
from utils.prompts.instruction_end import end_of_last

_QUESTION = "Is this the question?"
_CACHE_KEY = "caa"
Tokens = tuple[Any, list[int], list[int]]
"""A request as the harness hands it on: its texts, context, continuation."""


@register_model("caa")
class CaaLM(HFLM):
    """A model that is steered while the harness asks it.

    Args:
        device: as of the harness's ``--device``, whose own default is ``cuda:0``: where torch has
            no CUDA, that is the first accelerator or the CPU. So is ``None``.
        dtype: of weights and activations; as of the scripts' ``--dtype``.
        arguments: what :meth:`utils.harness.request.Request.of` takes, and those of the harness's
            ``hf`` model that are in :data:`utils.harness.request.HARNESS`.

    Raises:
        UserError: an argument is missing, unknown or does not fit; before the model is loaded.
    """

    def __init__(
        self, *, device: str | None = None, dtype: str | None = None, **arguments: Any
    ) -> None:
        check_names(arguments)
        of_harness = {name: arguments.pop(name) for name in HARNESS if name in arguments}
        place = {"device": _place(device), "dtype": str(dtype or "auto")}
        self.request = Request.of(**(arguments | place))
        self.wrapper = self.request.load(**place)
        times, vector = self.request.multiplier, self.request.vector.vector
        self._deltas = {self.request.layer: times * vector} if times else {}
        self._firsts: dict[bytes, int] | None = None
        super().__init__(
            pretrained=self.wrapper.model, tokenizer=self.wrapper.tokenizer, **of_harness
        )

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes into its results, and what was steered how."""
        return super().get_model_info() | {"caa": self.request.recorded()}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Let ``--use_cache`` answer for this very steering only.

        Raises:
            UserError: the file holds answers of another model or steering; the harness knows them
                by their questions alone.
        """
        stored = cache_hook.dbdict
        if stored is not None:
            own = json.dumps(self.request.recorded(), sort_keys=True)
            if len(stored) and stored.get(_CACHE_KEY) != own:
                raise UserError(
                    "--use_cache: the file holds answers of another model or steering; give each "
                    "a file of its own"
                )
            stored[_CACHE_KEY] = own
        super().set_cache_hook(cache_hook)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, every context checked before the first is written."""
        for request in requests if self.request.scope == "after_instruction" else ():
            ids = self.tok_encode(request.args[0])
            self._checked_first(ids, len(ids))
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[Tokens],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        rows = []
        for _, context, continuation in requests:
            row = input_of(context, continuation, self.max_length)
            cut = len(context) + len(continuation) - 1 - len(row)
            first = self._checked_first([*context, *continuation], len(context))
            rows.append((key_of(row), max(0, first - cut)))
        answers: dict[int, tuple[float, bool]] = {}
        for part in rounds(rows):
            self._firsts = part.firsts
            try:
                found = super()._loglikelihood_tokens(
                    [requests[i] for i in part.members],
                    disable_tqdm=disable_tqdm,
                    override_bs=override_bs,
                )
            finally:
                self._firsts = None
            answers |= zip(part.members, found, strict=True)
        return [answers[i] for i in range(len(requests))]

    def _detect_batch_size(self, requests: Sequence[Tokens] | None = None, pos: int = 0) -> int:
        # runs made-up rows, whose numbers nobody reads
        known, self._firsts = self._firsts, None
        try:
            return super()._detect_batch_size(requests, pos)
        finally:
            self._firsts = known

    def _model_call(self, inps: Tensor, *more: Any, **named: Any) -> Tensor:
        known = self._firsts
        firsts = [0] if known is None else firsts_of(inps.tolist(), known)
        with self.wrapper.steer(self._deltas, torch.tensor(firsts)):
            return super()._model_call(inps, *more, **named)

    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], **options: Any
    ) -> Tensor:
        lengths = options["attention_mask"].sum(1).tolist()
        prompts = [row[-n:] for row, n in zip(context.tolist(), lengths, strict=True)]
        # where a prompt was cut from the left, its instruction's end may be gone with it
        firsts = torch.tensor([self._first(ids, len(ids)) or 0 for ids in prompts])
        beams = firsts.repeat_interleave(options.get("num_beams", 1))
        with self.wrapper.steer(self._deltas, beams):
            return super()._model_generate(context, max_length, stop, **options)

    def _first(self, ids: Sequence[int], context: int) -> int | None:
        """The first steered position of a text; ``None`` where no instruction ends in it.

        Args:
            ids: context and continuation.
            context: number of tokens of the context.
        """
        scope = self.request.scope
        if scope == "after_instruction":
            return end_of_last(self._marker, ids, context)
        return 0 if scope == "all" else context - 1

    def _checked_first(self, ids: Sequence[int], context: int) -> int:
        """The same of a whole text.

        Raises:
            UserError: no end of an instruction, where steering is to begin there.
        """
        found = self._first(ids, context)
        if found is None:
            shown = self.tokenizer.decode(self._marker)
            raise UserError(
                f"scope=after_instruction: a context does not hold {shown!r}, with which the chat "
                "template ends an instruction: give --apply_chat_template, or "
                "scope=continuation (steers from the context's last token on)"
            )
        return found

    @cached_property
    def _marker(self) -> list[int]:
        """The tokens between a question and its answer, as the harness calls the template.

        Raises:
            UserError: the model has no chat template, or it puts nothing there.
        """
        if not self.tokenizer.chat_template:
            raise UserError("scope=after_instruction: this model has no chat template")
        text = self.apply_chat_template([{"role": "user", "content": _QUESTION}])
        end = text.rindex(_QUESTION) + len(_QUESTION)
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = zip(coded["input_ids"], coded["offset_mapping"], strict=True)
        marker = [token for token, (start, stop) in pairs if start >= end and stop > start]
        if not marker:
            raise UserError("scope=after_instruction: the chat template ends no instruction")
        return marker


def _place(device: object) -> str:
    lacking = str(device).startswith("cuda") and not torch.cuda.is_available()
    return "auto" if device is None or lacking else str(device)
