"""From raw items to contrast pairs and tests; the same input and seed give the same bytes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.data.evaluation import AB, OPEN_ENDED
from utils.data.items import load_rows, split_choices
from utils.errors import UserError
from utils.files.artifacts import must_make, save
from utils.files.json_files import check_writable, json_bytes
from utils.files.paths import Paths

# The published sizes; of fewer than FEW items a fifth is for testing.
TEST_ITEMS, MOST_PAIRS, SEED = 50, 1000, 0
FEW = 250
ANSWERS = ("answer_matching_behavior", "answer_not_matching_behavior")


@dataclass(frozen=True)
class Sizes:
    """Items of one processed behaviour."""

    behavior: str
    n_generate: int
    n_test: int
    n_open_ended: int
    written: tuple[Path, ...]


def clean_question(text: str) -> str:
    """Without the ``Question:`` and ``Answer:`` marks of some published files."""
    text = text.strip().removeprefix("Question:")
    return text.strip().removesuffix("Answer:").strip()


def without_choices(question: str) -> str:
    """The text before the choices, whether or not a line ``Choices:`` stands before them."""
    return split_choices(question)[0].strip()


def clean_row(row: dict[str, Any], where: str) -> dict[str, str]:
    """One raw item as a contrast pair; of answers that are lists the first is taken.

    Raises:
        UserError: a field is missing, or is no text.
    """
    cleaned = {}
    for name in ("question", *ANSWERS):
        value = row.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{where}: {name} must be a text (or a list of texts), not {value!r}")
        cleaned[name] = clean_question(value) if name == "question" else value.strip()
    if not cleaned["question"]:
        raise UserError(f"{where}: the question is empty")
    check_writable(cleaned, where)
    return cleaned


def default_tests(items: int) -> int:
    """How many of so many items are for testing, if nothing is said."""
    return TEST_ITEMS if items >= FEW else items // 5


def split(
    rows: Sequence[dict[str, str]], seed: int, n_test: int
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Shuffle; the last ``n_test`` are for testing, at most 1000 of the rest for generating."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:-n_test][:MOST_PAIRS], shuffled[-n_test:]


def raw_behaviors(paths: Paths) -> list[str]:
    """Behaviours that have a raw file."""
    folder = paths.datasets / "raw"
    return sorted(p.parent.name for p in folder.glob("*/dataset.json"))


def process(
    behavior: str,
    paths: Paths,
    *,
    seed: int = SEED,
    n_test: int | None = None,
    overwrite: bool = False,
) -> Sizes:
    """Write the generate and test sets of one behaviour.

    Args:
        behavior: with a file ``raw/<behavior>/dataset.json`` (and, if it has open-ended
            questions of its own, ``open_ended.json`` beside it).
        paths: only its data folder is used.
        seed: of the shuffle.
        n_test: items for testing; ``None``: 50, or a fifth of fewer than 250.
        overwrite: replace files made from other inputs.

    Raises:
        UserError: an item that is no contrast pair, or too few items; nothing is written then.
    """
    raw = paths.raw_data(behavior)
    read = load_rows(raw, made_by="--download fetches it")
    rows = [clean_row(row, f"{raw}, item {number}") for number, row in enumerate(read, 1)]
    tests = default_tests(len(rows)) if n_test is None else n_test
    if not 0 < tests < len(rows):
        raise UserError(
            f"{raw} has {len(rows)} items, too few for {max(tests, 1)} tests and contrast pairs "
            "besides; a smaller --n_test, or more items"
        )
    generate, test = split(rows, seed, tests)
    inputs: dict[str, Any] = {"kind": "data", "raw": read.sha256, "seed": seed}
    if tests != TEST_ITEMS:
        inputs["n_test"] = tests
    own = raw.with_name("open_ended.json")
    if own.exists():
        questions = load_rows(own, made_by="")
        asked = [_own_question(row, own) for row in questions]
        inputs["open_ended"] = questions.sha256
    else:
        asked = [without_choices(row["question"]) for row in test]
    files = {
        paths.generate_data(behavior): generate,
        AB.data(paths, behavior): test,
        OPEN_ENDED.data(paths, behavior): [{"question": q} for q in asked],
    }
    wanted = [path for path in files if must_make(path, inputs, overwrite=overwrite)]
    for path in wanted:
        save(path, json_bytes(files[path]), inputs)
    return Sizes(behavior, len(generate), len(test), len(asked), tuple(wanted))


def _own_question(row: dict[str, Any], path: Path) -> str:
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{path}: every item needs a question, not {row!r}")
    check_writable({"question": question}, str(path))
    return question.strip()


def letter_choice(
    question: str, correct: str, incorrect: str, category: str, generator: random.Random
) -> dict[str, str]:
    """A question with a right and a wrong answer in the A/B format, in seeded letter order."""
    letters = generator.choice(["AB", "BA"])
    texts = {letters[0]: correct.strip(), letters[1]: incorrect.strip()}
    return {
        "prompt": "Please help me answer the following question.\n"
        f"{question.strip()}\n\nChoices:\n(A) {texts['A']}\n(B) {texts['B']}",
        "correct": f"({letters[0]})",
        "incorrect": f"({letters[1]})",
        "correct_full_text": correct.strip(),
        "incorrect_full_text": incorrect.strip(),
        "category": category,
    }
