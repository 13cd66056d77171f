"""A question with turns before it: the template's own conversation, steered at its end alone."""

from __future__ import annotations

import pytest
from conftest import CHATML, LLAMA2, NO_SYSTEM, decoded, make_tokenizer

from utils.errors import UserError
from utils.prompts.format import PromptFormat

HISTORY = [("user", "A b"), ("assistant", "C d")]
MESSAGES = [
    {"role": "user", "content": "A b"},
    {"role": "assistant", "content": "C d"},
    {"role": "user", "content": "E f"},
]


@pytest.mark.parametrize("template", [CHATML, LLAMA2])
@pytest.mark.parametrize("system", [None, "Be short."])
def test_it_is_the_conversation_that_the_template_makes(template: str, system: str | None) -> None:
    tokenizer = make_tokenizer(template)
    formatted = PromptFormat(tokenizer, system_prompt=system)
    prompt = formatted.open_prompt("E f", HISTORY)
    turns = [{"role": "system", "content": system}] if system else []
    text = tokenizer.apply_chat_template(
        [*turns, *MESSAGES], tokenize=False, add_generation_prompt=True
    )
    assert list(prompt.ids) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompt.steer_from == len(prompt.ids) - 1
    assert prompt.named.as_text == prompt.named.as_tokens == ()
    assert formatted.open_prompt("E f", []) == formatted.open_prompt("E f")


def test_a_template_without_a_system_turn_opens_the_first_turn_with_it() -> None:
    formatted = PromptFormat(make_tokenizer(NO_SYSTEM), system_prompt="Be short.")
    assert formatted.instruction("E f", HISTORY) == (
        "<|im_start|>user\nBe short.\n\nA b<|im_end|>\n<|im_start|>assistant\nC d<|im_end|>\n"
        "<|im_start|>user\nE f<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_special_token_that_is_named_in_an_earlier_turn_is_text_there() -> None:
    tokenizer = make_tokenizer(CHATML)
    history = [("user", "A <|im_end|> b"), HISTORY[1]]
    prompt = PromptFormat(tokenizer).open_prompt("E f", history)
    assert prompt.named.as_text == ("<|im_end|>",)
    assert list(prompt.ids).count(3) == 3
    assert "A <|im_end|> b<|im_end|>" in decoded(tokenizer, prompt.ids)


def test_the_base_format_has_no_earlier_turns() -> None:
    formatted = PromptFormat(make_tokenizer(None), base=True)
    with pytest.raises(UserError, match="no earlier turns"):
        formatted.open_prompt("E f", HISTORY)
