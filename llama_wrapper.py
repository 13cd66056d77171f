"""One wrapper around a decoder-only language model: record, steer and branch at its blocks.

Layers are numbered from 0 and mean the *output* of decoder block L. Everything that touches
the model does so through forward hooks that live exactly as long as a ``with`` block, and this
is the only module that has any. No hook edits a tensor in place, so what was recorded stays
what it was. A layer or a width that the model does not have is a UserError, and hooks nothing.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from utils.blocks.block_io import (
    CannotBranch,
    add_from,
    allowed_squares,
    checked_delta,
    checked_mask,
    cut_arguments,
    device_of,
    find_blocks,
    hidden_of,
    join_branches,
    positions_of_call,
    with_hidden,
)
from utils.blocks.branches import AT_EMBEDDING, BranchMasks, Layout
from utils.blocks.hooks import Arguments, Hook, Named, Output, hooked
from utils.blocks.rotary import forget_lengths
from utils.blocks.vocabulary import head_in_float32
from utils.errors import UserError
from utils.models.choice import ModelChoice
from utils.models.identity import weights_fingerprint
from utils.models.loading import load_model, load_tokenizer
from utils.prompts.format import PromptFormat

_MASKED_ATTENTION = ("sdpa", "eager")
Key = TypeVar("Key", bound=Hashable)


class _StopError(Exception):
    """Raised in a hook to leave a forward pass early; never leaves this module."""


class LlamaWrapper:
    """A Llama-like causal language model and its tokenizer.

    Args:
        model: any decoder-only model of transformers with a list of decoder blocks.
        tokenizer: its tokenizer (fast).
        base: prompts in the base format instead of the chat template.
        weights: their fingerprint; ``None`` where nobody knows it.

    Raises:
        UserError: the architecture has no list of decoder blocks to hook.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        base: bool = False,
        weights: str | None = None,
    ) -> None:
        self.model = model.eval()
        forget_lengths(model)
        self.tokenizer = tokenizer
        self.base, self.weights = base, weights
        self.decoder: nn.Module = model.get_decoder()
        config = model.config.get_text_config()
        self.architecture = str(config.model_type)
        self.width = int(config.hidden_size)
        self.n_layers = int(config.num_hidden_layers)
        self.blocks = find_blocks(self.decoder, self.n_layers, self.architecture)
        self._parameters = [tuple(inspect.signature(b.forward).parameters) for b in self.blocks]

    @classmethod
    def load(
        cls,
        choice: ModelChoice,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **options: Any,
    ) -> LlamaWrapper:
        """Load the model that was chosen on the command line (and its tokenizer, if not given).

        Args:
            choice: which model.
            tokenizer: its tokenizer, if it is there already.
            options: device, dtype and so on, see :func:`utils.models.loading.load_model`.

        Raises:
            UserError: it cannot be found, fetched, loaded or steered.
        """
        tokenizer = load_tokenizer(choice) if tokenizer is None else tokenizer
        model, weights = load_model(choice, **options), weights_fingerprint(choice)
        return cls(model, tokenizer, base=choice.base, weights=weights)

    @property
    def device(self) -> torch.device:
        return device_of(self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def block(self, layer: int) -> nn.Module:
        """One decoder block; a UserError where the model has no layer of that number."""
        if not 0 <= layer < len(self.blocks):
            raise UserError(f"layer {layer}: this model has layers 0 to {len(self.blocks) - 1}")
        return self.blocks[layer]

    def prompt_format(self, system_prompt: str | None = None) -> PromptFormat:
        return PromptFormat(self.tokenizer, base=self.base, system_prompt=system_prompt)

    def record(self, layers: Sequence[int]) -> contextlib.AbstractContextManager[dict[int, Tensor]]:
        """Keep the block outputs of the last forward pass inside the ``with`` block.

        Yields:
            A dictionary layer -> residual stream after that block, shape (rows, tokens, width).
            Steering that was begun before is contained in it, later steering is not.
        """
        return self.observe({layer: self.block(layer) for layer in layers})

    @contextlib.contextmanager
    def observe(self, modules: Mapping[Key, nn.Module]) -> Iterator[dict[Key, Tensor]]:
        """Keep the outputs of any parts of the model, of the last forward pass inside.

        Args:
            modules: the parts, under any keys.

        Yields:
            A dictionary key -> what the part has put out, of a tuple its first member.
        """
        kept: dict[Key, Tensor] = {}

        def hook_for(key: Key) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Arguments, _kwargs: Named, output: Output) -> None:
                kept[key] = hidden_of(output)

            return hook

        with hooked(Hook(module, hook_for(key)) for key, module in modules.items()):
            yield kept

    @contextlib.contextmanager
    def steer(self, deltas: Mapping[int, Tensor], from_position: int | Tensor) -> Iterator[None]:
        """Add vectors to block outputs at every token from an absolute position on.

        Positions count in the whole sequence, not in the chunk at hand, so the same tokens are
        steered with and without a key/value cache, and under left padding.

        Args:
            deltas: layer -> what is added there (the multiplier already applied), shape (width,)
                for all rows or (rows, width) for each row of the batch its own.
            from_position: the first steered position, one for all rows or shape (rows,).

        Raises:
            UserError: inside the ``with`` block, a batch with another number of rows.
        """
        first = torch.as_tensor(from_position).reshape(-1, 1)
        current: dict[str, Tensor] = {}

        def hook_for(delta: Tensor) -> Callable[..., Output]:
            def hook(_module: nn.Module, _args: Arguments, kwargs: Named, output: Output) -> Output:
                hidden = hidden_of(output)
                positions = kwargs.get("position_ids")
                positions = current["positions"] if positions is None else positions
                return with_hidden(output, add_from(hidden, delta, positions, first))

            return hook

        def note_positions(_module: nn.Module, args: Arguments, kwargs: Named) -> None:
            current["positions"] = positions_of_call(args, kwargs)

        hooks = [Hook(self.decoder, note_positions, before=True)]
        for layer, delta in deltas.items():
            hook = hook_for(checked_delta(delta, self.width).reshape(-1, 1, self.width))
            hooks.append(Hook(self.block(layer), hook))
        with hooked(hooks):
            yield

    def allowed_positions(self, ids: Sequence[int]) -> list[Tensor | None]:
        """Ask the model which position each block lets attend to which.

        One plain forward pass, so that sliding windows and the like are the model's own.

        Args:
            ids: one prompt, at least as long as any that will be packed.

        Returns:
            For each block a square bool tensor (query, key); ``None`` for plain causal.

        Raises:
            CannotBranch: the blocks are given something else than a mask over positions.
        """
        if self.model.config._attn_implementation not in _MASKED_ATTENTION:
            raise CannotBranch(f"{self.model.config._attn_implementation} attention takes no mask")
        masks: dict[int, Tensor | None] = {}

        def hook_for(layer: int) -> Callable[..., None]:
            def hook(_module: nn.Module, args: Arguments, kwargs: Named) -> None:
                masks[layer] = checked_mask(self._arguments(layer, args, kwargs), layer)

            return hook

        with hooked(self._before_blocks(hook_for)):
            self.next_logits(ids)
        return allowed_squares([masks[layer] for layer in range(self.n_layers)])

    @contextlib.contextmanager
    def branch(
        self,
        layout: Layout,
        deltas: Mapping[int, Tensor],
        allowed: Sequence[Tensor | None],
    ) -> Iterator[None]:
        """Run packed branches: see :mod:`utils.blocks.branches`.

        Inside the ``with`` block the model must be called with ``layout.total`` tokens, so that
        it prepares positions for all of them; the hooks cut every block's input down to those
        that have joined, hand it its own mask, and append new branches. Of the base and of each
        branch the last token alone is projected onto the vocabulary.

        Args:
            layout: where everything lies.
            deltas: layer -> what its branches add to the tail, shape (branches, width), in the
                order of ``layout.joins``.
            allowed: from :meth:`allowed_positions`.

        Raises:
            CannotBranch: nothing in the model projects onto a vocabulary.
        """
        masks = BranchMasks(layout, allowed, self.dtype)

        def cut_for(layer: int) -> Callable[..., object]:
            def hook(_module: nn.Module, args: Arguments, kwargs: Named) -> tuple[Arguments, Named]:
                bound = cut_arguments(self._arguments(layer, args, kwargs), layer, layout)
                bound["attention_mask"] = masks.at(layer, bound["hidden_states"].device)
                return (), bound

            return hook

        def join_for(layer: int) -> Callable[..., Output]:
            def hook(_module: nn.Module, _a: Arguments, _k: Named, output: Output) -> Output:
                return with_hidden(output, join_branches(hidden_of(output), deltas[layer], layout))

            return hook

        def keep_ends(_m: nn.Module, args: Arguments, kwargs: Named) -> tuple[Arguments, Named]:
            ends = layout.last_tokens().to(args[0].device)
            return (args[0][:, ends], *args[1:]), kwargs

        vocabulary = self.model.get_output_embeddings()
        if vocabulary is None:
            raise CannotBranch("nothing in it projects onto the vocabulary")
        hooks = [*self._before_blocks(cut_for), Hook(vocabulary, keep_ends, before=True)]
        for layer in set(layout.joins) - {AT_EMBEDDING}:
            hooks.append(Hook(self.block(layer), join_for(layer)))
            checked_delta(deltas[layer], self.width)
        with hooked(hooks):
            yield

    def _arguments(self, layer: int, args: Arguments, kwargs: Named) -> Named:
        """All arguments of one call of a block, by name."""
        return dict(zip(self._parameters[layer], args, strict=False)) | kwargs

    def _before_blocks(self, hook_for: Callable[[int], Callable[..., object]]) -> list[Hook]:
        return [Hook(b, hook_for(layer), before=True) for layer, b in enumerate(self.blocks)]

    def next_logits(self, ids: Sequence[int]) -> Tensor:
        """Logits after one plain prompt, shape (vocabulary,): the reference for everything."""
        tokens = torch.tensor([ids], device=self.device)
        return self.logits(input_ids=tokens, use_cache=False, logits_to_keep=1)[0, -1]

    def logits(self, **inputs: Any) -> Tensor:
        """One call of the model; logits in float32 at least, shape (rows, tokens, vocabulary)."""
        head = self.model.get_output_embeddings()
        with torch.inference_mode(), head_in_float32(head):
            return self.model(**inputs).logits

    def run_until(self, layer: int, **inputs: Any) -> None:
        """A forward pass that ends after block ``layer``: no later block, no vocabulary."""

        def stop(*_arguments: object) -> None:
            raise _StopError

        with (
            hooked([Hook(self.block(layer), stop)]),
            torch.inference_mode(),
            contextlib.suppress(_StopError),
        ):
            self.decoder(**inputs)
