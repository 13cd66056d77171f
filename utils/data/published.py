"""Turning the published files, as they were fetched, into this toolkit's raw and test files."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from utils.data.items import load_rows
from utils.data.processing import letter_choice
from utils.data.sources import TRUTHFULQA_ITEMS
from utils.errors import UserError
from utils.files.artifacts import must_make, save
from utils.files.contents import sha256_file
from utils.files.json_files import json_bytes, parse_json
from utils.files.paths import Paths

Rows = list[dict[str, Any]]
MMLU_PER_SUBJECT = 10


def read_jsonl(path: Path) -> Rows:
    """One JSON object a line (blank lines are passed over).

    Raises:
        UserError: naming the line.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            row = parse_json(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: not a JSON object")
            rows.append(row)
    return rows


def hallucination_pairs(path: Path, generator: random.Random) -> Iterator[dict[str, str]]:
    """Two pairs a line: accepting the fiction, or rejecting the truth, is the matching answer.

    Raises:
        UserError: a column is missing.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, line in enumerate(csv.DictReader(file), 2):
            for kind, shown in (("fiction", "accepetance"), ("truth", "rejection")):
                other = "rejection" if shown == "accepetance" else "accepetance"
                names = (f"{kind}_question", f"{kind}_{shown}", f"{kind}_{other}")
                texts = [line.get(name) for name in names]
                if not all(texts):
                    raise UserError(f"{path}, line {number}: {', '.join(names)} must not be empty")
                question, matching, not_matching = (str(text).strip() for text in texts)
                letters = generator.choice(["AB", "BA"])
                choices = {letters[0]: matching, letters[1]: not_matching}
                yield {
                    "question": f"{question}\n\nChoices:\n (A) {choices['A']}\n (B) {choices['B']}",
                    "answer_matching_behavior": f"({letters[0]})",
                    "answer_not_matching_behavior": f"({letters[1]})",
                }


def raw_rows(behavior: str, files: Sequence[Path], seed: int) -> Rows:
    """All items of one behaviour out of its source files, in their order."""
    if behavior == "hallucination":
        generator = random.Random(seed)
        return [row for path in files for row in hallucination_pairs(path, generator)]
    if behavior == "refusal":
        return [row for path in files for row in load_rows(path, made_by="--download fetches it")]
    return [row for path in files for row in read_jsonl(path)]


def read_parquet(path: Path) -> Rows:
    """The rows of a parquet file.

    Raises:
        UserError: it is none.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path} is no readable parquet file: {error}") from error


def truthful_rows(rows: Rows, seed: int) -> Rows:
    """TruthfulQA in the A/B format: the best answer against one of the incorrect ones."""
    generator = random.Random(seed)
    return [
        letter_choice(
            row["question"],
            row["best_answer"],
            generator.choice(list(row["incorrect_answers"])),
            row["category"],
            generator,
        )
        for row in rows
    ]


def mmlu_rows(rows: Rows, seed: int) -> Rows:
    """MMLU in the A/B format: the right choice against one of the wrong ones."""
    generator = random.Random(seed)
    made = []
    for row in rows:
        choices, answer = list(row["choices"]), int(row["answer"])
        wrong = generator.choice([c for i, c in enumerate(choices) if i != answer])
        right = choices[answer]
        made.append(letter_choice(row["question"], right, wrong, row["subject"], generator))
    return made


def sample_per_category(rows: Rows, count: int, seed: int) -> Rows:
    """At most ``count`` seeded rows of each category, in the order of the file."""
    generator = random.Random(seed)
    by_category: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_category.setdefault(row["category"], []).append(index)
    kept = {
        index
        for indices in by_category.values()
        for index in generator.sample(indices, min(count, len(indices)))
    }
    return [rows[index] for index in sorted(kept)]


def write_choice_tests(
    test: str, source: Path, paths: Paths, *, seed: int, overwrite: bool
) -> dict[Path, int]:
    """Write the files of TruthfulQA or MMLU; path -> number of items.

    Raises:
        UserError: a column is missing, or TruthfulQA has not its published size.
    """
    rows = read_parquet(source)
    convert: Callable[[Rows, int], Rows] = truthful_rows if test == "truthfulqa" else mmlu_rows
    try:
        made = convert(rows, seed)
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{source} has not the expected columns: {error}") from error
    if test == "truthfulqa":
        if len(made) != TRUTHFULQA_ITEMS:
            raise UserError(f"{source} has {len(made)} questions, not {TRUTHFULQA_ITEMS}")
        files = {paths.choice_test(test, "truthful_qa"): made}
    else:
        files = {
            paths.choice_test(test, "mmlu_full"): made,
            paths.choice_test(test, "mmlu"): sample_per_category(made, MMLU_PER_SUBJECT, seed),
        }
    inputs = {"kind": "data", "source": sha256_file(source), "seed": seed}
    for path, items in files.items():
        if must_make(path, inputs, overwrite=overwrite):
            save(path, json_bytes(items), inputs)
    return {path: len(items) for path, items in files.items()}
