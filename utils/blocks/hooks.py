"""Registering hooks, for exactly as long as a ``with`` block; the only module that does.

One repair of the library outlives its block: see :mod:`utils.blocks.rotary`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Arguments = tuple[Any, ...]
"""What a module is called with by place."""
Named = dict[str, Any]
"""What it is called with by name."""
Output = Tensor | tuple[Any, ...] | list[Any]
"""What a decoder block puts out: the residual stream, alone or first among others."""


class Hook(NamedTuple):
    """A hook that is still to be registered.

    Attributes:
        module: where.
        function: called with the module, its arguments by place and by name, and, unless
            ``before``, its output.
        before: of a forward pass, instead of after it.
    """

    module: nn.Module
    function: Callable[..., object]
    before: bool = False


def _register(hook: Hook) -> RemovableHandle:
    module, function, before = hook
    register = module.register_forward_pre_hook if before else module.register_forward_hook
    return register(function, with_kwargs=True)


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Register hooks that are gone afterwards, whatever happened inside or on the way in."""
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(_register(hook).remove)
        yield


def hook_for_good(hook: Hook) -> None:
    """Register a hook that stays with its module, for what must hold in every call of it."""
    _register(hook)
