"""What --show_tokens prints: the prompt itself, with marks where it is steered and read."""

from __future__ import annotations

import re

import pytest
from conftest import CHATML, LLAMA2, QUESTIONS, ROWS, make_tokenizer
from made_tokenizers import llama_like_tokenizer

from utils.prompts.format import PromptFormat
from utils.prompts.shown import show_tokens

TOKENIZERS = {
    "ChatML": lambda: make_tokenizer(CHATML),
    "Llama 2's template": lambda: make_tokenizer(LLAMA2),
    "Llama 2's tokenizer": llama_like_tokenizer,
}
QUESTION = str(ROWS[0]["question"])
LONG = f"{QUESTION}\n{' '.join(QUESTIONS * 5)}"


def without_marks(shown: str) -> str:
    text = re.sub(r"⟦(.*?)⟧", lambda m: m[1].replace("\\n", "\n"), shown)
    return re.sub(r"⟪.*⟫$", "", text)


@pytest.mark.parametrize("question", [QUESTION, LONG, "Wie spät ist es, 你好?"])
@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("letters", [True, False])
def test_the_text_is_the_prompt_with_its_special_tokens(
    name: str, question: str, letters: bool
) -> None:
    tokenizer = TOKENIZERS[name]()
    made = PromptFormat(tokenizer)
    prompt = made.letter_prompt(question, ("A", "B")) if letters else made.open_prompt(question)
    explained, *text, steered = show_tokens(prompt, tokenizer, read="that").splitlines()
    assert "read here, that" in explained and f"{len(prompt.ids)} tokens" in explained
    if letters:
        *text, steered, told = [*text, steered]
        assert f"A = token {prompt.letters['A']} 'A'" in told  # type: ignore[union-attr]
    shown = "\n".join(text)
    assert without_marks(shown) == tokenizer.decode(list(prompt.ids))
    assert len(text) <= question.count("\n") + 6, "lines of the text, not of the tokens"
    assert shown.endswith("⟪A|B⟫" if letters else "⟪...⟫")
    places = [int(n) for n in re.findall(r"position (\d+) ", steered)]
    assert places == list(range(prompt.steer_from, len(prompt.ids)))
    first = tokenizer.decode(list(prompt.ids[: prompt.steer_from]))
    assert shown.index("⟦") == len(first)
