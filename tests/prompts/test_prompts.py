"""The right token is read and the first steered token is the right one, for every template."""

from __future__ import annotations

import hashlib

import pytest
from chat_templates import (
    ASSISTANT,
    CHANNELS,
    DEFAULT_SYSTEM,
    DEMANDS_SYSTEM,
    DROPS_SYSTEM,
    EMPTY_BLOCK,
    LLAMA32,
    NAMED,
    PARTS,
    QUESTION,
    R1,
    THINKING,
    V31,
    chatml,
)
from conftest import CHATML, LLAMA2, NO_SYSTEM, decoded, make_tokenizer
from made_tokenizers import ending_tokenizer, llama_like_tokenizer, merging_tokenizer
from transformers import PreTrainedTokenizerFast

from utils.errors import UserError
from utils.prompts.format import LetterPrompt, PromptFormat


def texts(tokenizer: PreTrainedTokenizerFast, prompt: LetterPrompt) -> list[str]:
    return [decoded(tokenizer, [i]) for i in prompt.ids]


def check(tokenizer: PreTrainedTokenizerFast, prompt: LetterPrompt, *, end: str) -> list[str]:
    words = texts(tokenizer, prompt)
    assert words[-1].strip() == "("
    assert decoded(tokenizer, prompt.ids[: prompt.steer_from + 1]).endswith(end)
    assert not decoded(tokenizer, prompt.ids[: prompt.steer_from]).endswith(end)
    assert {k: decoded(tokenizer, [v]) for k, v in prompt.letters.items()} == {"A": "A", "B": "B"}
    return words


def test_chatml() -> None:
    tokenizer = make_tokenizer()
    prompt = PromptFormat(tokenizer).letter_prompt(QUESTION, ("A", "B"))
    words = check(tokenizer, prompt, end="assistant\n")
    assert words[prompt.steer_from] == "\n"
    assert prompt.tail == 2


def test_llama2_has_one_space_before_the_answer() -> None:
    tokenizer = llama_like_tokenizer()
    formatted = PromptFormat(tokenizer)
    assert formatted.instruction(QUESTION) == f"<s>[INST] {QUESTION} [/INST]"
    assert formatted.separator(QUESTION) == " "
    prompt = formatted.letter_prompt(QUESTION, ("A", "B"))
    words = check(tokenizer, prompt, end="[/INST]")
    assert words[prompt.steer_from] == "]"
    assert words[prompt.steer_from + 1 :] == [" ("]
    assert prompt.ids[0] == tokenizer.bos_token_id and prompt.ids[1] != tokenizer.bos_token_id


def test_llama2_system_prompt() -> None:
    formatted = PromptFormat(llama_like_tokenizer(), system_prompt="Be nice.")
    expected = f"<s>[INST] <<SYS>>\nBe nice.\n<</SYS>>\n\n{QUESTION} [/INST]"
    assert formatted.instruction(QUESTION) == expected


def test_base_format() -> None:
    tokenizer = make_tokenizer(None)
    formatted = PromptFormat(tokenizer, base=True)
    assert formatted.instruction(" Why? ") == "Input: Why?\nResponse:"
    prompt = formatted.letter_prompt(QUESTION, ("A", "B"))
    words = check(tokenizer, prompt, end="Response:")
    assert words[prompt.steer_from] == ":"
    assert "".join(words[prompt.steer_from + 1 :]) == " ("


@pytest.mark.parametrize("name", NAMED)
def test_every_template_gives_these_very_tokens_and_this_position(name: str) -> None:
    template, instruction, separator = NAMED[name]
    tokenizer = make_tokenizer(template)
    formatted = PromptFormat(tokenizer)
    assert formatted.instruction(QUESTION) == instruction
    assert formatted.separator(QUESTION) == separator
    prompt = formatted.letter_prompt(QUESTION, ("A", "B"))
    check(tokenizer, prompt, end=instruction)
    assert list(prompt.ids) == tokenizer.encode(f"{instruction}{separator}(")
    # a thinking block belongs to the instruction: steering begins at its very last token
    assert decoded(tokenizer, prompt.ids[: prompt.steer_from + 1]) == instruction
    free = formatted.open_prompt(QUESTION)
    assert list(free.ids) == tokenizer.encode(instruction)
    assert free.steer_from == len(free.ids) - 1


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM], ids=["refuses", "drops"])
def test_a_system_prompt_opens_the_users_turn_where_no_system_turn_arrives(template: str) -> None:
    formatted = PromptFormat(make_tokenizer(template), system_prompt="Be nice.")
    assert formatted.instruction("Why?") == (
        f"<|im_start|>user\nBe nice.\n\nWhy?<|im_end|>\n{ASSISTANT}"
    )
    plain = PromptFormat(make_tokenizer(template))
    assert plain.instruction("Why?") == f"<|im_start|>user\nWhy?<|im_end|>\n{ASSISTANT}"


@pytest.mark.parametrize("template", [CHATML, DEMANDS_SYSTEM, DEFAULT_SYSTEM, PARTS])
def test_a_system_prompt_stands_in_the_place_of_any_other(template: str) -> None:
    formatted = PromptFormat(make_tokenizer(template), system_prompt="Be nice.")
    assert formatted.instruction("Why?") == (
        f"<|im_start|>system\nBe nice.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n{ASSISTANT}"
    )


def test_a_fixed_day_changes_nothing_else_of_a_template() -> None:
    """Line breaks at the beginning and white space before blocks stay as the library has them."""
    for before in ("", "\n", "\n\n", "  ", "\n  "):
        tokenizer = make_tokenizer(before + chatml("{% set x = strftime_now('day') %}{{ x }}\n"))
        plain = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True
        )
        assert PromptFormat(tokenizer).instruction("Why?") == plain


@pytest.mark.parametrize(
    ("template", "system_prompt", "message"),
    [
        ("{{ raise_exception('never') }}", None, "without a system turn and with an empty one: ne"),
        ("{{ raise_exception('never') }}", "Be nice.", "with a system turn and without one: never"),
        ("Hello!", None, "leaves out the question"),
        ("{% if %}", None, "chat template fails"),
        (chatml("{{ messages[7]['content'] + 1 }}"), None, "chat template fails"),
        (chatml("{{ 1 + messages }}"), None, "chat template fails"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(
    template: str, system_prompt: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        PromptFormat(make_tokenizer(template), system_prompt=system_prompt)


def test_a_template_that_fails_on_one_question_says_so() -> None:
    picky = chatml("{% if 'cat' in messages[-1]['content'] %}{{ raise_exception('!') }}{% endif %}")
    formatted = PromptFormat(make_tokenizer(picky))
    assert "dog" in formatted.instruction("A dog?")
    with pytest.raises(UserError, match="chat template fails: !"):
        formatted.instruction("A cat?")


def test_of_several_templates_the_default_one_is_taken() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": R1, "tool_use": CHATML}
    assert PromptFormat(tokenizer).instruction("Why?").endswith(ASSISTANT + EMPTY_BLOCK)
    tokenizer.chat_template = {"rag": R1, "tool_use": CHATML}
    with pytest.raises(UserError, match="several chat templates"):
        PromptFormat(tokenizer)


def test_a_beginning_of_sequence_stands_there_once() -> None:
    tokenizer = ending_tokenizer("{{ bos_token }}" + CHATML)
    formatted = PromptFormat(tokenizer)
    for prompt in (formatted.letter_prompt(QUESTION, ("A", "B")), formatted.open_prompt(QUESTION)):
        assert prompt.ids[0] == 0 and prompt.ids.count(0) == 1 and prompt.ids.count(1) == 0
    base = PromptFormat(ending_tokenizer(None), base=True)
    letter, free = base.letter_prompt(QUESTION, ("A", "B")), base.open_prompt(QUESTION)
    for prompt in (letter, free):
        assert prompt.ids[0] == 0 and prompt.ids.count(0) == 1 and prompt.ids.count(1) == 0
        assert decoded(tokenizer, prompt.ids[: prompt.steer_from + 1]).endswith("Response:")
    assert free.steer_from == len(free.ids) - 1


def test_a_beginning_that_only_the_template_writes_opens_the_base_format_too() -> None:
    """The first tokenizer files of Llama 3; DeepSeek V3's as transformers 5 reads them."""
    made = PromptFormat(make_tokenizer("{{ bos_token }}" + CHATML), base=True)
    plain = PromptFormat(make_tokenizer(None), base=True)
    for ask in (
        lambda f: f.letter_prompt(QUESTION, ("A", "B")),
        lambda f: f.open_prompt(QUESTION),
        lambda f: f.answered(QUESTION, "(A)"),
    ):
        found, bare = ask(made), ask(plain)
        assert found.ids == (0, *bare.ids) and 0 not in bare.ids
        assert found.steer_from == bare.steer_from + 1
    assert found.answer_from == bare.answer_from + 1
    assert made.fingerprint() != plain.fingerprint()
    adding = ending_tokenizer("{{ bos_token }}" + CHATML)
    assert PromptFormat(adding, base=True).fingerprint() == plain.fingerprint()


def test_the_letters_of_a_pair_may_be_any() -> None:
    tokenizer = make_tokenizer()
    prompt = PromptFormat(tokenizer).letter_prompt(QUESTION, ("H", "C"))
    assert [decoded(tokenizer, [i]) for i in prompt.letters.values()] == ["H", "C"]


@pytest.mark.parametrize(
    ("merges", "expected"),
    [
        ([("(", "A"), ("(", "B")], ["(A", "(B"]),
        ([("(", "A"), ("(", "B"), ("(A", ")")], ["(A)", "(B"]),
        ([("A", ")"), ("B", ")")], ["A)", "B)"]),
    ],
)
def test_the_letters_token_may_hold_its_brackets(
    merges: list[tuple[str, str]], expected: list[str]
) -> None:
    """As Llama 3, Qwen and DeepSeek have it; the real ones are in test_real_tokenizers."""
    tokenizer = merging_tokenizer(*merges)
    prompt = PromptFormat(tokenizer).letter_prompt(QUESTION, ("A", "B"))
    assert [decoded(tokenizer, [i]) for i in prompt.letters.values()] == expected
    stem = decoded(tokenizer, prompt.ids)
    assert stem.endswith(ASSISTANT if expected[0].startswith("(") else f"{ASSISTANT}(")
    assert decoded(tokenizer, prompt.ids[: prompt.steer_from + 1]).endswith(ASSISTANT)
    assert prompt.tail == (1 if expected[0].startswith("(") else 2)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        # only one of the two letters is merged: they differ in the bracket
        ([("(", "A")], r"in which \(B\) differs does not hold the letter"),
        ([("\u010a", "("), ("\u010a(", "A"), ("\u010a(", "B")], "begins inside the instruction"),
    ],
)
def test_answers_that_do_not_part_at_the_letter_are_refused_with_their_tokens(
    merges: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        PromptFormat(merging_tokenizer(*merges)).letter_prompt(QUESTION, ("A", "B"))
    assert "".join(merges[-1]) in str(raised.value)


def test_no_chat_template() -> None:
    with pytest.raises(UserError, match="--use_base_model"):
        PromptFormat(make_tokenizer(None))
    with pytest.raises(UserError, match="--system_prompt"):
        PromptFormat(make_tokenizer(None), base=True, system_prompt="Be nice.")


def test_the_fingerprint_knows_template_and_system_prompt() -> None:
    made = [
        PromptFormat(make_tokenizer()),
        PromptFormat(make_tokenizer(), system_prompt="Be nice."),
        PromptFormat(make_tokenizer(NO_SYSTEM)),
        PromptFormat(make_tokenizer(), base=True),
    ]
    assert len({f.fingerprint() for f in made}) == 4
    assert made[0].fingerprint() == PromptFormat(make_tokenizer()).fingerprint()


def test_the_fingerprint_of_a_template_that_needs_nothing_is_that_of_the_first_records() -> None:
    """The committed vectors and results have it in their records."""
    for template in (CHATML, LLAMA2, THINKING, DEFAULT_SYSTEM):
        for system_prompt in (None, "Be nice."):
            made = PromptFormat(make_tokenizer(template), system_prompt=system_prompt)
            expected = hashlib.sha256(repr((template, system_prompt)).encode()).hexdigest()
            assert made.fingerprint() == expected
    for template in (R1, V31, DEMANDS_SYSTEM, LLAMA32, PARTS, CHANNELS):
        made = PromptFormat(make_tokenizer(template))
        plain = hashlib.sha256(repr((template, None)).encode()).hexdigest()
        assert made.fingerprint() != plain, "what is added here is part of the prompt"
