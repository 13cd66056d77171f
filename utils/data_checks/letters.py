"""Whether a tokenizer tells answers apart at the token of their letter."""

from __future__ import annotations

from collections.abc import Sequence

from utils.data_checks.items import DataFile, Item
from utils.data_checks.report import Finding
from utils.errors import UserError
from utils.prompts.format import PromptFormat

ALPHABET = "ABCDEFGH"


def check_letters(
    files: Sequence[DataFile], prompt_format: PromptFormat | None
) -> tuple[str, list[Finding]]:
    """The letters that occur, those that the tokenizer does not keep marked ``!``."""
    shortest: dict[str, tuple[DataFile, Item]] = {}
    for file in files:
        # A letter's tokens depend on the end of the prompt, so that the shortest one will do.
        for item in sorted(file.items, key=lambda i: len(i.question or "")):
            for letter in (item.matching, item.other):
                if item.question and letter:
                    shortest.setdefault(letter, (file, item))
    letters = tuple(sorted(shortest))
    if prompt_format is None or not letters:
        return " ".join(letters), []
    if not _misfit(prompt_format, shortest[letters[0]][1], letters):
        return " ".join(letters), []
    # A letter whose token has a form of its own fails beside every other; they beside it alone.
    broken = {
        letter
        for letter in letters
        if all(
            _misfit(prompt_format, shortest[letter][1], (letter, other))
            for other in ALPHABET
            if other != letter
        )
    }
    findings = []
    for letter in sorted(broken) if broken != set(letters) else letters[:1]:
        file, item = shortest[letter]
        others = letters if broken == set(letters) else (letter, *sorted(set(letters) - broken))
        text = _misfit(prompt_format, item, others)
        findings.append(file.finding("error", text, [item.number]))
    return " ".join(f"{x}!" if x in broken else x for x in letters), findings


def _misfit(prompt_format: PromptFormat, item: Item, letters: tuple[str, ...]) -> str:
    """Why the tokenizer does not tell answers with these letters apart; empty if it does."""
    if len(letters) < 2:
        return ""
    try:
        prompt_format.letter_prompt(item.question or "", letters)
    except UserError as error:
        return str(error)
    return ""
