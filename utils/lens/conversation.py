"""A question and its answer as tokens: an answer that is given, or the model's own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.greedy import check_room
from utils.errors import UserError
from utils.lens.block_parts import check_run
from utils.prompts.format import Conversation


def converse(
    wrapper: LlamaWrapper,
    question: str,
    answer: str | None = None,
    *,
    max_new_tokens: int = 60,
    deltas: Mapping[int, Tensor] | None = None,
) -> Conversation:
    """A question with a given answer, or with the model's own (greedy decoding).

    Args:
        wrapper: the model.
        question: the user's turn.
        answer: the answer's text; ``None`` lets the model write it.
        max_new_tokens: most tokens of an answer of the model's.
        deltas: steering while the model writes: layer -> what is added there, (width,).

    Raises:
        UserError: an empty question or answer; steering with a given answer; a layer or a width
            that the model does not have; an answer that may go beyond the model's context.
    """
    if not question.strip() or (answer is not None and not answer.strip()):
        raise UserError("question and answer must be texts that are not empty")
    prompt_format = wrapper.prompt_format()
    prompt = prompt_format.open_prompt(question)
    if answer is None:
        check_run(wrapper, prompt.ids, deltas or {})
        check_room(wrapper, len(prompt.ids), max_new_tokens)
        with wrapper.steer(deltas or {}, prompt.steer_from):
            new = wrapper.generate([prompt.ids], max_new_tokens=max_new_tokens)[0]
        return Conversation((*prompt.ids, *new), prompt.steer_from, len(prompt.ids))
    if deltas:
        raise UserError("steering changes nothing in an answer that is given: drop one of them")
    return prompt_format.answered(question, answer)
