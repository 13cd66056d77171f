"""One wrapper around a decoder-only language model: record, steer and branch at its blocks.

Layers are numbered from 0 and mean the *output* of decoder block L. Everything that touches
the model does so through forward hooks that live exactly as long as a ``with`` block, and this
is the only module that registers any. No hook edits a tensor in place, so what was recorded
stays what it was.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from utils.branches import AT_EMBEDDING, Layout
from utils.errors import UserError
from utils.loading import load_model, load_tokenizer
from utils.models import ModelChoice
from utils.prompts import PromptFormat

_MASKED_ATTENTION = ("sdpa", "eager")


class CannotBranch(Exception):
    """This architecture cannot run packed branches; the message says why."""


class _Stop(Exception):
    """Raised in a hook to leave a forward pass early; never leaves this module."""


class LlamaWrapper:
    """A Llama-like causal language model and its tokenizer.

    Args:
        model: any decoder-only model of transformers with a list of decoder blocks.
        tokenizer: its tokenizer (fast).
        base: prompts in the base format instead of the chat template.

    Raises:
        UserError: the architecture has no list of decoder blocks to hook.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, base: bool = False
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.base = base
        self.decoder: nn.Module = model.get_decoder()
        config = model.config.get_text_config()
        self.architecture = str(config.model_type)
        self.width = int(config.hidden_size)
        self.blocks = _find_blocks(self.decoder, int(config.num_hidden_layers), self.architecture)
        self._parameters = [tuple(inspect.signature(b.forward).parameters) for b in self.blocks]

    @classmethod
    def load(
        cls,
        choice: ModelChoice,
        *,
        device: str = "auto",
        dtype: str = "auto",
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> "LlamaWrapper":
        """Load the model that was chosen on the command line.

        Args:
            choice: see :func:`utils.models.choose_model`.
            device: ``auto``, ``cpu``, ``cuda`` ...
            dtype: ``auto`` means float32 on CPU and bfloat16 elsewhere.
            tokenizer: its tokenizer, if that was loaded before.

        Raises:
            UserError: it cannot be found, fetched, loaded or steered.
        """
        tokenizer = load_tokenizer(choice) if tokenizer is None else tokenizer
        return cls(load_model(choice, device=device, dtype=dtype), tokenizer, base=choice.base)

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def prompt_format(self, system_prompt: str | None = None) -> PromptFormat:
        return PromptFormat(self.tokenizer, base=self.base, system_prompt=system_prompt)

    @contextlib.contextmanager
    def record(self, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """Keep the block outputs of the last forward pass inside the ``with`` block.

        Yields:
            A dictionary layer -> residual stream after that block, shape (rows, tokens, width).
            Steering that was begun before is contained in it, later steering is not.
        """
        kept: dict[int, Tensor] = {}

        def hook_for(layer: int) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                kept[layer] = _hidden(output)

            return hook

        with contextlib.ExitStack() as hooks:
            for layer in layers:
                handle = self.blocks[layer].register_forward_hook(hook_for(layer))
                hooks.callback(handle.remove)
            yield kept

    @contextlib.contextmanager
    def steer(self, deltas: Mapping[int, Tensor], from_position: int | Tensor) -> Iterator[None]:
        """Add vectors to block outputs at every token from an absolute position on.

        Positions count in the whole sequence, not in the chunk at hand, so the same tokens are
        steered with a key/value cache as without one, and under left padding.

        Args:
            deltas: layer -> what is added there (the multiplier already applied), shape (width,)
                for all rows or (rows, width) for each row of the batch its own.
            from_position: the first steered position, one for all rows or shape (rows,).
        """
        first = torch.as_tensor(from_position).reshape(-1, 1)
        current: dict[str, Tensor] = {}

        def hook_for(layer: int, delta: Tensor) -> Callable[..., Any]:
            delta = delta.reshape(-1, 1, self.width)

            def hook(_module: nn.Module, _args: Any, kwargs: Any, output: Any) -> Any:
                hidden = _hidden(output)
                positions = kwargs.get("position_ids")
                positions = current["positions"] if positions is None else positions
                steered = positions.to(hidden.device) >= first.to(hidden.device)
                added = torch.where(steered[..., None], delta.to(hidden), 0.0)
                return _with_hidden(output, hidden + added)

            return hook

        def note_positions(_module: nn.Module, args: Any, kwargs: Any) -> None:
            current["positions"] = _positions_of_call(args, kwargs)

        with contextlib.ExitStack() as hooks:
            handle = self.decoder.register_forward_pre_hook(note_positions, with_kwargs=True)
            hooks.callback(handle.remove)
            for layer, delta in deltas.items():
                handle = self.blocks[layer].register_forward_hook(
                    hook_for(layer, delta), with_kwargs=True
                )
                hooks.callback(handle.remove)
            yield

    def allowed_positions(self, ids: Sequence[int]) -> tuple[list[Tensor | None], Tensor]:
        """Ask the model which position each block lets attend to which.

        One plain forward pass, so that sliding windows and the like are the model's own.

        Args:
            ids: one prompt, at least as long as any that will be packed.

        Returns:
            For each block a square bool tensor (query, key), ``None`` for plain causal; and the
            logits at the last token, shape (vocabulary,).

        Raises:
            CannotBranch: the blocks are given something else than a mask over positions.
        """
        if self.model.config._attn_implementation not in _MASKED_ATTENTION:
            raise CannotBranch(f"{self.model.config._attn_implementation} attention takes no mask")
        masks: dict[int, Tensor | None] = {}
        seen: dict[int, Tensor] = {}

        def hook_for(layer: int) -> Callable[..., None]:
            def hook(_module: nn.Module, args: Any, kwargs: Any) -> None:
                bound = dict(zip(self._parameters[layer], args, strict=False)) | kwargs
                mask = bound.get("attention_mask")
                if mask is None:
                    masks[layer] = None
                    return
                if not isinstance(mask, Tensor) or mask.ndim != 4:
                    raise CannotBranch(f"block {layer} takes no 4-D attention mask")
                if id(mask) not in seen:
                    square = mask[0, 0]
                    is_bool = square.dtype == torch.bool
                    seen[id(mask)] = (square if is_bool else square == 0).cpu()
                masks[layer] = seen[id(mask)]

            return hook

        with contextlib.ExitStack() as hooks:
            for layer, block in enumerate(self.blocks):
                handle = block.register_forward_pre_hook(hook_for(layer), with_kwargs=True)
                hooks.callback(handle.remove)
            logits = self.next_logits(ids)
        return [masks[layer] for layer in range(self.n_layers)], logits

    @contextlib.contextmanager
    def branch(
        self,
        layout: Layout,
        deltas: Mapping[int, Tensor],
        allowed: Sequence[Tensor | None],
    ) -> Iterator[None]:
        """Run packed branches: see :mod:`utils.branches`.

        Inside the ``with`` block the model must be called with input of ``layout.total`` tokens
        (the model then prepares positions for all of them); the hooks cut every block's input
        down to the tokens that have joined, hand it its own mask, and append new branches.

        Args:
            layout: where everything lies.
            deltas: layer -> what its branches add to the tail, shape (branches, width), in the
                order of ``layout.joins``.
            allowed: from :meth:`allowed_positions`.
        """
        masks: dict[int, Tensor] = {}

        def mask_for(layer: int, like: Tensor) -> Tensor:
            key = id(allowed[layer])
            if key not in masks:
                masks[key] = layout.additive_mask(allowed[layer], self.dtype)
            masks[key] = masks[key].to(like.device)
            length = layout.length_at(layer)
            return masks[key][:, :, :length, : layout.prefix + length]

        def cut_for(layer: int) -> Callable[..., Any]:
            def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:
                bound = dict(zip(self._parameters[layer], args, strict=False)) | kwargs
                length = layout.length_at(layer)
                bound = {k: _cut(k, v, length, layout.total) for k, v in bound.items()}
                bound["attention_mask"] = mask_for(layer, bound["hidden_states"])
                return (), bound

            return hook

        def join_for(layer: int) -> Callable[..., Any]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
                hidden = _hidden(output)
                tail = hidden[:, layout.base - layout.tail : layout.base]
                copies = tail[:, None] + deltas[layer].to(hidden)[None, :, None]
                joined = torch.cat([hidden, copies.flatten(1, 2)], dim=1)
                return _with_hidden(output, joined)

            return hook

        with contextlib.ExitStack() as hooks:
            for layer, block in enumerate(self.blocks):
                handle = block.register_forward_pre_hook(cut_for(layer), with_kwargs=True)
                hooks.callback(handle.remove)
            for layer in {join for join in layout.joins if join != AT_EMBEDDING}:
                handle = self.blocks[layer].register_forward_hook(join_for(layer))
                hooks.callback(handle.remove)
            yield

    def prefix_cache(self, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of a common beginning, each of shape (1, heads, tokens, head width)."""
        cache = DynamicCache()
        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self.device)
            self.decoder(input_ids=tokens, past_key_values=cache, use_cache=True)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def next_logits(self, ids: Sequence[int]) -> Tensor:
        """Logits after one plain prompt, shape (vocabulary,): the reference for everything."""
        with torch.inference_mode():
            tokens = torch.tensor([ids], device=self.device)
            return self.model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[0, -1]

    def run_until(self, layer: int, **inputs: Any) -> None:
        """A forward pass that ends after block ``layer``: no later block, no vocabulary."""

        def stop(_module: nn.Module, _args: Any, _output: Any) -> None:
            raise _Stop

        handle = self.blocks[layer].register_forward_hook(stop)
        try:
            with torch.inference_mode(), contextlib.suppress(_Stop):
                self.decoder(**inputs)
        finally:
            handle.remove()

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, use_cache: bool = True
    ) -> list[list[int]]:
        """Greedy continuation of a batch of prompts (left-padded here).

        Returns:
            The new tokens of each prompt, up to and including the first end token.
        """
        pad = self.tokenizer.pad_token_id
        pad = self.tokenizer.eos_token_id if pad is None else pad
        longest = max(map(len, prompts))
        ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        with torch.inference_mode():
            output = self.model.generate(  # type: ignore[operator]
                ids.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=use_cache,
                pad_token_id=pad,
            )
        ends = self._end_tokens()
        return [_up_to_end(row, ends) for row in output[:, longest:].tolist()]

    def _end_tokens(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id  # type: ignore[union-attr]
        if ends is None:
            return set()
        return set(ends) if isinstance(ends, list) else {int(ends)}


def _find_blocks(decoder: nn.Module, count: int, architecture: str) -> list[nn.Module]:
    for child in decoder.children():
        if isinstance(child, nn.ModuleList) and len(child) == count:
            return list(child)
    raise UserError(
        f"architecture {architecture!r} cannot be steered: no list of {count} decoder blocks in it"
    )


def _hidden(output: Any) -> Tensor:
    # Blocks return a tensor in recent versions of transformers, a tuple in older ones.
    return output[0] if isinstance(output, tuple) else output


def _with_hidden(output: Any, hidden: Tensor) -> Any:
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _cut(name: str, value: Any, length: int, total: int) -> Any:
    """One argument of a block, cut down to the first ``length`` of ``total`` tokens."""
    if name in ("hidden_states", "position_ids"):
        return value if value is None else value[:, :length]
    if name == "position_embeddings" and value is not None:
        return tuple(part[:, :length] for part in value)
    if name == "cache_position" and value is not None:
        return value[:length]
    if name != "attention_mask" and isinstance(value, Tensor) and total in value.shape:
        raise CannotBranch(f"its blocks are given {name}, which depends on the token")
    return value


def _positions_of_call(args: Any, kwargs: Any) -> Tensor:
    """Absolute positions of the tokens of one call of the decoder, shape (rows or 1, tokens)."""
    if kwargs.get("position_ids") is not None:
        return kwargs["position_ids"]
    tokens = kwargs.get("input_ids", args[0] if args else None)
    tokens = kwargs["inputs_embeds"] if tokens is None else tokens
    cache = kwargs.get("past_key_values")
    seen = 0 if cache is None else cache.get_seq_length()
    return torch.arange(seen, seen + tokens.shape[1], device=tokens.device)[None]


def _up_to_end(tokens: list[int], ends: set[int]) -> list[int]:
    for index, token in enumerate(tokens):
        if token in ends:
            return tokens[: index + 1]
    return tokens
