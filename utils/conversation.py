"""A question and its answer as tokens: an answer that is given, or the model's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from utils.block_parts import check_run
from utils.errors import UserError
from utils.generation import generate

if TYPE_CHECKING:
    from llama_wrapper import LlamaWrapper


@dataclass(frozen=True)
class Conversation:
    """A question and its answer as tokens.

    Attributes:
        ids: token ids of both.
        steer_from: last token of the instruction; steering begins there.
        answer_from: first token of the answer.
    """

    ids: tuple[int, ...]
    steer_from: int
    answer_from: int


def converse(
    wrapper: "LlamaWrapper",
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
            that the model does not have.
    """
    if not question.strip() or (answer is not None and not answer.strip()):
        raise UserError("question and answer must be texts that are not empty")
    prompt_format = wrapper.prompt_format()
    prompt = prompt_format.open_prompt(question)
    if answer is None:
        check_run(wrapper, prompt.ids, deltas or {})
        with wrapper.steer(deltas or {}, prompt.steer_from):
            new = generate(wrapper, [prompt.ids], max_new_tokens=max_new_tokens)[0]
        return Conversation((*prompt.ids, *new), prompt.steer_from, len(prompt.ids))
    if deltas:
        raise UserError("steering changes nothing in an answer that is given: drop one of them")
    instruction = prompt_format.instruction(question)
    stem = instruction + prompt_format.separator(question)
    # As in utils.prompts: a rendered chat template already holds its special tokens.
    encoded = wrapper.tokenizer(
        stem + answer, add_special_tokens=wrapper.base, return_offsets_mapping=True
    )
    spans = encoded["offset_mapping"]
    steer_from = max(i for i, (s, e) in enumerate(spans) if s < len(instruction) and e > s)
    answer_from = min(i for i, (_, e) in enumerate(spans) if e > len(stem))
    return Conversation(tuple(encoded["input_ids"]), steer_from, answer_from)
