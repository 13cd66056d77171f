"""The right token is read and the first steered token is the right one, for every template."""

import pytest
from conftest import CHATML, LLAMA2, NO_SYSTEM, make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from utils.errors import UserError
from utils.prompts import LetterPrompt, PromptFormat, show_tokens

QUESTION = "Is it raining?\n\nChoices:\n (A) Yes\n (B) No"
THINKING = CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}",
)


def llama_like_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece-like: a space is part of the token that follows it."""
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
    return [tokenizer.decode([i]) for i in prompt.ids]


def check(tokenizer: PreTrainedTokenizerFast, prompt: LetterPrompt, *, end: str) -> list[str]:
    words = texts(tokenizer, prompt)
    assert words[-1].strip() == "("
    assert tokenizer.decode(prompt.ids[: prompt.steer_from + 1]).endswith(end)
    assert not tokenizer.decode(prompt.ids[: prompt.steer_from]).endswith(end)
    assert {k: tokenizer.decode([v]) for k, v in prompt.letters.items()} == {"A": "A", "B": "B"}
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


def test_a_system_prompt_goes_into_the_user_turn_where_there_is_no_system_role() -> None:
    formatted = PromptFormat(make_tokenizer(NO_SYSTEM), system_prompt="Be nice.")
    assert "<|im_start|>user\nBe nice.\n\nWhy?<|im_end|>" in formatted.instruction("Why?")
    formatted = PromptFormat(make_tokenizer(), system_prompt="Be nice.")
    assert "<|im_start|>system\nBe nice.<|im_end|>" in formatted.instruction("Why?")


def test_thinking_is_switched_off_and_its_block_belongs_to_the_instruction() -> None:
    tokenizer = make_tokenizer(THINKING)
    formatted = PromptFormat(tokenizer)
    assert formatted.instruction("Why?").endswith("assistant\n<think>\n\n</think>\n\n")
    assert formatted.separator("Why?") == ""
    prompt = formatted.letter_prompt(QUESTION, ("A", "B"))
    assert tokenizer.decode(prompt.ids).endswith("</think>\n\n(")


def test_the_letters_of_a_pair_may_be_any() -> None:
    tokenizer = make_tokenizer()
    prompt = PromptFormat(tokenizer).letter_prompt(QUESTION, ("H", "C"))
    assert [tokenizer.decode([i]) for i in prompt.letters.values()] == ["H", "C"]


def merging_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, "(A", "(B"])}
    core = Tokenizer(models.BPE(vocabulary, [("(", "A"), ("(", "B")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.chat_template = CHATML
    return tokenizer


def test_a_tokenizer_that_merges_bracket_and_letter_is_refused_with_its_tokens() -> None:
    with pytest.raises(UserError, match=r"letter A .*'\(A'"):
        PromptFormat(merging_tokenizer()).letter_prompt(QUESTION, ("A", "B"))


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


def test_show_tokens_marks_the_steered_ones() -> None:
    tokenizer = make_tokenizer()
    prompt = PromptFormat(tokenizer).letter_prompt(QUESTION, ("A", "B"))
    lines = show_tokens(prompt, tokenizer, read="<- here").splitlines()
    steered = [line for line in lines if line.endswith("steered")]
    assert len(steered) == prompt.tail
    assert steered[0].split()[0] == str(prompt.steer_from)
    assert f"A = token {prompt.letters['A']}" in "\n".join(lines)
