"""A data folder with one clean behaviour, what is made of its items, and its check."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import QUESTIONS, ROWS, pair, write_json

from utils.data_checks.folder import Finding, Report, check_folder
from utils.files.paths import Paths

GENERATE = "generate/calm/generate_dataset.json"
TEST = "test/calm/test_dataset_ab.json"
OPEN = "test/calm/test_dataset_open_ended.json"
MATCHING, OTHER = "answer_matching_behavior", "answer_not_matching_behavior"
PAIRS, TESTS = ROWS[:4], ROWS[4:]
OPEN_ENDED = [{"question": question} for question in QUESTIONS[4:]]
Change = Callable[[dict[str, Any]], Any]


def check(folder: Path, files: dict[str, Any], tokenizer: Any = None) -> Report:
    """Check a folder with a clean behaviour, but for ``files`` (``None``: leave that file out)."""
    for name, content in {GENERATE: PAIRS, TEST: TESTS, OPEN: OPEN_ENDED, **files}.items():
        if isinstance(content, bytes):
            write_json(folder / name, None).write_bytes(content)
        elif content is not None:
            write_json(folder / name, content)
    return check_folder(Paths(folder, folder), tokenizer)


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, report.lines()
    return report.findings[0]


def changed(rows: list[dict[str, str]], number: int, **fields: object) -> list[dict[str, object]]:
    return [row | fields if n == number else row for n, row in enumerate(rows, 1)]  # type: ignore[misc]


def words(count: int, seed: int) -> str:
    """A question of words that no other question has."""
    generator = random.Random(seed)
    return " ".join(f"{seed}x{generator.randrange(10**9)}" for _ in range(count))


def item(question: str, a: str, b: str, matching: str = "A") -> dict[str, str]:
    return pair("", matching) | {"question": f"{question}\n\nChoices:\n (A) {a}\n (B) {b}"}


def knowledge(question: str, correct: str = "A", a: str = "Yes", b: str = "No") -> dict[str, str]:
    return {
        "prompt": f"Please answer.\n{question}\n\nChoices:\n(A) {a}\n(B) {b}",
        "correct": f"({correct})",
        "incorrect": "(B)" if correct == "A" else "(A)",
        "category": "Science",
    }


FACTS = [knowledge(question, "AB"[i % 2]) for i, question in enumerate(QUESTIONS)]
