"""Registering hooks, for exactly as long as a ``with`` block; the only module that does."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import nn


class Hook(NamedTuple):
    """A hook that is still to be registered.

    Attributes:
        module: where.
        function: called with the module, its arguments by place and by name, and, unless
            ``before``, its output.
        before: of a forward pass, instead of after it.
    """

    module: nn.Module
    function: Callable[..., Any]
    before: bool = False


@contextmanager
def hooked(hooks: Iterable[Hook]) -> Iterator[None]:
    """Register hooks that are gone afterwards, whatever happened inside or on the way in."""
    with ExitStack() as stack:
        for module, function, before in hooks:
            register = module.register_forward_pre_hook if before else module.register_forward_hook
            stack.callback(register(function, with_kwargs=True).remove)
        yield
