"""The prompts of one model: what records say of them at once, their tokens when they are wanted.

Whether a result is finished depends on the template and on a few words about the prompts, which
are the same for as long as the tokenizer's files and the questions are. So they are remembered
(:mod:`utils.files.remembered`), and a run that has nothing to do loads no tokenizer. What is
remembered has passed every check; prompts that were warned of are checked at every start.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from utils.data.items import ABItem, Items, OpenItem
from utils.files import remembered
from utils.models.choice import ModelChoice
from utils.models.identity import tokenizer_fingerprint
from utils.prompts.checks import Prompt, check_prompts
from utils.ranks import rank_count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from utils.prompts.end_tokens import EndTokens
    from utils.prompts.format import PromptFormat

P = TypeVar("P", bound=Prompt)
_DEVICES = ("nvidia*", "kfd", "dri", "accel*")
_DEVICE_VARIABLES = ("VISIBLE_DEVICES", "ACCELERATE_USE_CPU")


class LazyPrompts(Sequence[P]):
    """Prompts, one for each item, tokenised when the first of them is asked for."""

    def __init__(self, make: Callable[[], Sequence[P]], count: int) -> None:
        self._make, self._count = make, count

    @functools.cached_property
    def _made(self) -> Sequence[P]:
        return self._make()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> P: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[P]: ...
    def __getitem__(self, index: int | slice) -> P | Sequence[P]:
        return self._made[index]

    def __iter__(self) -> Iterator[P]:
        return iter(self._made)


@dataclass(frozen=True)
class Wanted(Generic[P]):
    """Which prompts are to be made.

    Attributes:
        kind: what they are made for; with it the data decide what they are.
        items: the questions.
        path: where those lie, for messages.
        make: tokenises them.
        max_new_tokens: most tokens of an answer; ``None`` where a letter is read.
        numbers: which item of the file each is, counted from 1; ``None``: one after another.
    """

    kind: str
    items: Items[ABItem] | Items[OpenItem]
    path: Path
    make: Callable[[PromptFormat], Sequence[P]]
    max_new_tokens: int | None = None
    numbers: Sequence[int] | None = None


class PromptSource:
    """All prompts of a run.

    Args:
        choice: the model.
        context: the most tokens that it takes; ``None`` where unknown.

    Raises:
        UserError: from every method: the tokenizer or its template cannot be had or used.
    """

    def __init__(self, choice: ModelChoice, context: int | None) -> None:
        self._choice, self._context = choice, context
        self._files = tokenizer_fingerprint(choice)
        self._formats: dict[str | None, PromptFormat] = {}

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        from utils.models.loading import load_tokenizer

        return load_tokenizer(self._choice)

    def fingerprint(self, system_prompt: str | None = None) -> str:
        """See :meth:`utils.prompts.format.PromptFormat.fingerprint`."""
        key = {"system_prompt": system_prompt}
        return str(self._known("templates", key, lambda: self._format(system_prompt).fingerprint()))

    def end_tokens(self) -> EndTokens:
        from utils.models.loading import load_end_tokens

        return load_end_tokens(self._choice, self.tokenizer)

    def end_inputs(self) -> dict[str, Any]:
        """See :meth:`utils.prompts.end_tokens.EndTokens.inputs`."""
        return dict(self._known("ends", {}, lambda: self.end_tokens().inputs()))

    def prompts(
        self, wanted: Wanted[P], system_prompt: str | None = None
    ) -> tuple[Sequence[P], dict[str, Any]]:
        """Checked prompts, and what a record is to say of them.

        Raises:
            UserError: one does not fit; see :func:`utils.prompts.checks.check_prompts` and
                :class:`utils.prompts.format.PromptFormat`.
        """
        lazy = LazyPrompts(lambda: wanted.make(self._format(system_prompt)), len(wanted.items))

        def said() -> dict[str, Any] | None:
            found = check_prompts(
                lazy,
                self._context,
                wanted.path,
                max_new_tokens=wanted.max_new_tokens,
                numbers=wanted.numbers,
            )
            inputs.update(found)
            return None if any(p.named.as_tokens for p in lazy) else found

        inputs: dict[str, Any] = {}
        key = {
            "kind": wanted.kind,
            "data": wanted.items.sha256,
            "items": len(wanted.items),
            "system_prompt": system_prompt,
            "context": self._context,
            "max_new_tokens": wanted.max_new_tokens,
        }
        key |= {} if wanted.numbers is None else {"numbers": list(wanted.numbers)}
        return lazy, self._known("prompts", key, said) or inputs

    def _format(self, system_prompt: str | None) -> PromptFormat:
        from utils.prompts.format import PromptFormat

        if system_prompt not in self._formats:
            self._formats[system_prompt] = PromptFormat(
                self.tokenizer, base=self._choice.base, system_prompt=system_prompt
            )
        return self._formats[system_prompt]

    def _known(self, kind: str, key: dict[str, Any], find: Callable[[], Any]) -> Any:
        """What ``find`` returns, found once for the tokenizer's files; ``None`` is not kept."""
        if self._files is None:
            return find()
        key |= {"files": self._files, "base": self._choice.base}
        known = remembered.recall(kind, key)
        if known is None:
            known = find()
            if known is not None:
                remembered.keep(kind, key, known)
        return known


def known_dtype(**options: Any) -> str:
    """The resolved dtype, without torch where nothing it asks has changed.

    See :func:`utils.models.device.resolved_dtype`.
    """

    def find() -> str:
        from utils.models.device import resolved_dtype

        return resolved_dtype(**options)

    if rank_count() > 1:
        return find()
    devices = sorted(str(p) for name in _DEVICES for p in Path("/dev").glob(name))
    variables = {k: v for k, v in os.environ.items() if k.endswith(_DEVICE_VARIABLES)}
    key = {"options": options, "devices": devices, "variables": variables}
    known = remembered.recall("dtypes", key)
    if known is None:
        known = find()
        remembered.keep("dtypes", key, known)
    return str(known)
