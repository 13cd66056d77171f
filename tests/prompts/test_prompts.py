"""The right token is read and the first steered token is the right one, for every template."""

from __future__ import annotations

import hashlib

import pytest
from conftest import CHATML, LLAMA2, NO_SYSTEM, decoded, make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from utils.errors import UserError
from utils.prompts.format import LetterPrompt, PromptFormat

QUESTION = "Is it raining?\n\nChoices:\n (A) Yes\n (B) No"
ASSISTANT = "<|im_start|>assistant\n"


def chatml(before: str = "", generation: str = f"{{{{ '{ASSISTANT}' }}}}", answer: str = "") -> str:
    """ChatML with something before the turns, another generation prompt, other answers.

    Args:
        before: in front of everything.
        generation: what stands in place of the generation prompt.
        answer: jinja for a finished turn of the assistant; empty for the usual one.
    """
    turn = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    if answer:
        turn = "{% if m['role'] == 'assistant' %}" + answer + "{% else %}" + turn + "{% endif %}"
    loop = "{% for m in messages %}" + turn + "{% endfor %}"
    return before + loop + "{% if add_generation_prompt %}" + generation + "{% endif %}"


# Published templates in miniature: what matters of each, in words of our own.
# Qwen 3: an empty block after the generation prompt, and in the last finished turn.
THINKING = chatml(
    generation="{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and "
    "enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    answer="{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + m['content'] + '<|im_end|>\n' }}",
)
# DeepSeek V3.1, Granite: thinking=True turns it on.
V31 = chatml(
    "{% if not thinking is defined %}{% set thinking = true %}{% endif %}",
    "{{ '<|im_start|>assistant\n' + ('<think>' if thinking else '</think>') }}",
    "{{ '<|im_start|>assistant\n</think>' + m['content'] + '<|im_end|>' }}",
)
# DeepSeek R1 distilled, QwQ: always open; a finished turn has lost its block.
R1 = chatml(
    generation="{{ '<|im_start|>assistant\n<think>\n' }}",
    answer="{{ '<|im_start|>assistant\n' + m['content'].split('</think>')[-1] + '<|im_end|>' }}",
)
# Qwen 3 Thinking of July 2025: always open; a finished turn shows how it is closed.
ALWAYS_THINKING = chatml(
    generation="{{ '<|im_start|>assistant\n<think>\n' }}",
    answer="{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m['content'] + '<|im_end|>' }}",
)
# An open block of another form, on one line.
SQUARE = chatml(generation="{{ '<|im_start|>assistant\n[THINK]' }}")
# Seed OSS: a budget of thinking tokens.
BUDGET = chatml(
    generation="{{ '<|im_start|>assistant\n' }}{% if thinking_budget is defined and "
    "thinking_budget == 0 %}{{ '<seed:think>none</seed:think>' }}{% endif %}"
)
# gpt-oss: no way to switch it off; a finished answer is in a channel of its own.
CHANNELS = chatml(
    "{{ 'Reasoning: ' + (reasoning_effort | default('medium')) + '\n' }}",
    "{{ '<|im_start|>assistant' }}",
    "{{ '<|im_start|>assistant<|channel|>final<|message|>' + m['content'] + '<|return|>' }}",
)
# Mistral Small 4: an effort, and one of its values is none.
EFFORT = chatml(
    "{% if reasoning_effort is not defined or reasoning_effort not in ['none', 'high'] %}"
    "{{ raise_exception('none or high') }}{% endif %}{{ '[EFFORT]' + reasoning_effort }}"
)
DEMANDS_SYSTEM = chatml(
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
)
DROPS_SYSTEM = chatml().replace(
    "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
)
# Qwen 2.5: a system turn of its own.
DEFAULT_SYSTEM = chatml(
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Q.<|im_end|>\n' }}"
    "{% endif %}"
)
# Llama 3.1 has a day of its own, Llama 3.2 asks the clock.
LLAMA31 = chatml(
    "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n' }}"
)
LLAMA32 = chatml(
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{% endif %}"
    "{{ 'Today Date: ' + date_string + '\n' }}"
)
CLOCK = chatml(
    "\n  {% macro today(how) %}{{ strftime_now(how) }}{% endmacro %}\n"
    "{{ today('%A, %B %-d, %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S') }}\n"
)
NO_GENERATION_PROMPT = chatml(generation="")
SHOUTS = chatml(answer="{{ '<|im_start|>assistant\n' + m['content'] | trim | upper }}")
# Templates of models for pictures: a turn is a list of parts.
PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = f"<|im_start|>user\n{QUESTION}<|im_end|>\n"
EMPTY_BLOCK = "<think>\n\n</think>\n\n"
NAMED = {
    "thinking": (THINKING, USER + ASSISTANT + EMPTY_BLOCK, ""),
    "v3.1": (V31, USER + ASSISTANT + "</think>", ""),
    "r1": (R1, USER + ASSISTANT + EMPTY_BLOCK, ""),
    "always_thinking": (ALWAYS_THINKING, USER + ASSISTANT + "<think>\n\n</think>\n", ""),
    "square": (SQUARE, USER + ASSISTANT + "[THINK][/THINK]", ""),
    "budget": (BUDGET, USER + ASSISTANT + "<seed:think>none</seed:think>", ""),
    "channels": (
        CHANNELS,
        f"Reasoning: low\n{USER}<|im_start|>assistant<|channel|>final<|message|>",
        "",
    ),
    "effort": (EFFORT, "[EFFORT]none" + USER + ASSISTANT, ""),
    "demands_system": (
        DEMANDS_SYSTEM,
        "<|im_start|>system\n<|im_end|>\n" + USER + ASSISTANT,
        "",
    ),
    "default_system": (
        DEFAULT_SYSTEM,
        "<|im_start|>system\nYou are Q.<|im_end|>\n" + USER + ASSISTANT,
        "",
    ),
    "llama3.1": (LLAMA31, "Today Date: 26 Jul 2024\n" + USER + ASSISTANT, ""),
    "llama3.2": (LLAMA32, "Today Date: 26 Jul 2024\n" + USER + ASSISTANT, ""),
    "clock": (CLOCK, "\nFriday, July 26, 2024 2024-07-26 12:00:00\n" + USER + ASSISTANT, ""),
    "no_generation_prompt": (NO_GENERATION_PROMPT, USER + ASSISTANT, ""),
    "shouts": (SHOUTS, USER + ASSISTANT, ""),
    "parts": (PARTS, USER + ASSISTANT, ""),
    "chatml": (CHATML, USER + ASSISTANT, ""),
    "llama2": (LLAMA2, f"<s>[INST] {QUESTION} [/INST]", " "),
}


def llama_like_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2's, from SentencePiece: a space is part of the token that follows it.

    test_real_tokenizers compares the end of a prompt with the real one's.
    """
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁(", "(", ")", "A", "B", "▁(A", "[", "]", "/", "▁["]
    pieces += sorted(set(QUESTION + "INSTSYS<>/beWordslicyp.▁\n") - set(pieces))
    pieces += ["IN", "ST", "INST"]
    merges = [("▁", "("), ("I", "N"), ("S", "T"), ("IN", "ST"), ("▁", "[")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Replace("▁", " ")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = LLAMA2
    return tokenizer


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


def ending_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a beginning and an end around every text."""
    tokenizer = make_tokenizer(template)
    around = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.backend_tokenizer.post_processor = around
    return tokenizer


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


def merging_tokenizer(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """Single characters and what these merges make of them.

    With ``(A`` and ``(B``: the case of Llama 3, Qwen 3, DeepSeek V3 and gpt-oss. Of the other
    merges no published tokenizer is known here.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, *("".join(m) for m in merges)])}
    core = Tokenizer(models.BPE(vocabulary, list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.chat_template = CHATML
    return tokenizer


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
