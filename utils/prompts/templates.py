"""How one chat template wants to be called, and what it puts before an answer.

Templates differ in whether they take a system turn, whether a turn's text may be a plain string,
whether thinking is on, and in what stands between the generation prompt and a finished answer.
All of that is found out once, on a short conversation, by what the template makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from utils.errors import UserError
from utils.prompts.template_trial import check_ends
from utils.prompts.thinking import closing_mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]
Turn = tuple[str, str]
"""An earlier turn of a conversation: who speaks (``user`` or ``assistant``), and the text."""

_QUESTION, _ANSWER = "Is this the question?", "That is the answer."
# Some templates write today's date, and with it the numbers would change from day to day. This
# is the day that Llama 3's own template names where it has no clock: a Friday.
_DAY = "26 Jul 2024"
_CLOCK = {
    "%d": "26", "%-d": "26", "%e": "26", "%m": "07", "%-m": "7", "%y": "24", "%Y": "2024",
    "%b": "Jul", "%B": "July", "%a": "Fri", "%A": "Friday", "%j": "208", "%F": "2024-07-26",
    "%H": "12", "%I": "12", "%-H": "12", "%-I": "12", "%p": "PM", "%M": "00", "%S": "00",
    "%T": "12:00:00", "%%": "%",
}  # fmt: skip
# What a template may ask for, and the answer that switches thinking off and the clock off.
_OPTIONS = {
    "enable_thinking": False,
    "thinking": False,
    "thinking_budget": 0,
    "date_string": _DAY,
}
_LONGEST_REASON = 300


class _TemplateFailureError(Exception):
    """What a template raises on a conversation that it was not made for; says so on one line."""


@dataclass(frozen=True)
class _Style:
    """One way to hand a question and a system prompt to a template.

    Attributes:
        system: ``"turn"``, ``"opening"`` (of the user's turn), ``"empty"`` or ``"none"``.
        parts: a turn's content is a list of typed parts, not a string.
    """

    system: str
    parts: bool


class ChatTemplate:
    """A tokenizer's chat template with thinking off, the date fixed and one system prompt.

    Args:
        tokenizer: has a chat template.
        system_prompt: text of the system turn; it opens the user's turn where the template
            refuses or drops a system turn. ``None`` for none, or for an empty one where the
            template demands one.

    Attributes:
        opening: what this toolkit adds to the generation prompt, so that an answer can follow:
            the end of a thinking block that the template leaves open, or what the template
            itself puts before a finished answer.
        separator: white space that the template puts between the instruction and an answer.
        closing: what the template puts after a finished answer, perhaps nothing.

    Raises:
        UserError: the template fails on a plain question, or leaves the question out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, system_prompt: str | None) -> None:
        self.tokenizer, self.system_prompt = tokenizer, system_prompt
        try:
            source = str(tokenizer.get_chat_template())
        except ValueError as error:
            raise UserError("this model has several chat templates and no default one") from error
        self.options = _options_for(source)
        if "strftime_now" in source:
            self.options["chat_template"] = source = _without_clock(source)
        check_ends(source, self.options | tokenizer.special_tokens_map)
        self.style = self._find_style()
        whole = self._answered()
        self.opening, self.separator = self._before_answer(whole)
        # the last one: a template may show an answer in a thinking block too
        _, found, after = whole.rpartition(_ANSWER)
        self.closing = after if found else ""

    def instruction(self, question: str, history: Sequence[Turn] = ()) -> str:
        """Everything up to and including the generation prompt and a closed thinking block.

        Args:
            question: the latest turn, a user's.
            history: the turns before it.

        Raises:
            UserError: the template fails on this very conversation.
        """
        try:
            return self._render(self.style, question, history) + self.opening
        except _TemplateFailureError as error:
            raise UserError(f"the model's chat template fails: {error}") from error

    def handling(self) -> str:
        """What of the prompt comes from here and not from the template; empty for most."""
        added = {k: v for k, v in self.options.items() if k not in ("enable_thinking",)}
        added |= {"opening": self.opening} if self.opening else {}
        added |= {"system": "empty"} if self.style.system == "empty" else {}
        added |= {"parts": True} if self.style.parts else {}
        return repr(sorted(added.items())) if added else ""

    def _find_style(self) -> _Style:
        systems = ("none", "empty") if self.system_prompt is None else ("turn", "opening")
        wanted = [_squeezed(_QUESTION), _squeezed(self.system_prompt or "")]
        problem = ""
        for style in (_Style(system, parts) for parts in (False, True) for system in systems):
            try:
                text = self._render(style, _QUESTION)
            except _TemplateFailureError as error:
                problem = problem or str(error)
                continue
            if all(part in _squeezed(text) for part in wanted):
                return style
            problem = problem or "it leaves out the question or the system prompt"
        tried = "without a system turn and with an empty one"
        if self.system_prompt is not None:
            tried = "with a system turn and without one"
        raise UserError(f"the model's chat template fails, {tried}: {problem}")

    def _answered(self) -> str:
        """A conversation with a finished answer; empty where the template fails on one."""
        try:
            return self._render(self.style, _QUESTION, answer=_ANSWER)
        except _TemplateFailureError:
            return ""

    def _before_answer(self, whole: str) -> tuple[str, str]:
        """What is added to the generation prompt, and the separator behind that."""
        instruction = self._render(self.style, _QUESTION)
        end = whole.find(_ANSWER, len(instruction))
        # A template may render a finished turn unlike a generation prompt (thinking blocks):
        # then the answer follows the generation prompt directly.
        comparable = whole.startswith(instruction) and end >= 0
        between = whole[len(instruction) : end] if comparable else ""
        opening, separator = (between, "") if between.strip() else ("", between)
        closing = _closing(instruction + opening)
        return (opening + closing, "") if closing else (opening, separator)

    def _render(
        self,
        style: _Style,
        question: str,
        history: Sequence[Turn] = (),
        *,
        answer: str | None = None,
    ) -> str:
        messages = self._messages(style, [*history, ("user", question)])
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        if style.parts:
            for message in messages:
                message["content"] = [{"type": "text", "text": message["content"]}]
        try:
            rendered = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer is None, **self.options
            )
        except Exception as error:
            raise _TemplateFailureError(_one_line(error)) from error
        return str(rendered)

    def _messages(self, style: _Style, turns: Sequence[Turn]) -> list[Message]:
        messages = [{"role": role, "content": text} for role, text in turns]
        if style.system == "opening":
            first = next(m for m in messages if m["role"] == "user")
            first["content"] = f"{self.system_prompt}\n\n{first['content']}"
        elif style.system != "none":
            messages.insert(0, {"role": "system", "content": self.system_prompt or ""})
        return messages


def _options_for(source: str) -> dict[str, Any]:
    """Those of the options that this template mentions."""
    options = {name: value for name, value in _OPTIONS.items() if _mentions(source, name)}
    if _mentions(source, "reasoning_effort"):
        # "none" where the template knows it, else the least that all of them know
        options["reasoning_effort"] = "none" if re.search(r"""["']none["']""", source) else "low"
    return options


def _mentions(source: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", source) is not None


def _without_clock(source: str) -> str:
    """The template with a ``strftime_now`` that always tells the same day."""
    # The library hands a template plain data only, no function: so the function is a macro of the
    # template's own. The line break after it is taken away by trim_blocks.
    steps = "".join(f' | replace("{code}", "{text}")' for code, text in _CLOCK.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro %}}\n{source}"


def _closing(instruction: str) -> str:
    """The end of a thinking block that an instruction leaves open, in the style of its start."""
    text = instruction.rstrip()
    end = closing_mark(text)
    if end is None:
        return ""
    # a block on lines of its own ends on a line of its own, with an empty line behind it
    return f"\n{end}\n\n" if "\n" in instruction[len(text) :] else end


def _squeezed(text: str) -> str:
    """The text without white space, which a template may trim."""
    return "".join(text.split())


def _one_line(error: Exception) -> str:
    """What an exception says: a template's own message, else with its name before it."""
    text = " ".join(str(error).split())[:_LONGEST_REASON]
    own = type(error).__name__ in ("TemplateError", "UndefinedError")
    return text if own and text else f"{type(error).__name__}: {text}".removesuffix(": ")
