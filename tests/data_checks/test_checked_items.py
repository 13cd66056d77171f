"""Checks of files and of their items: what cannot be used, and what cannot be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from checked_data import (
    FACTS,
    GENERATE,
    MATCHING,
    OPEN,
    OPEN_ENDED,
    OTHER,
    PAIRS,
    TEST,
    TESTS,
    Change,
    check,
    knowledge,
    only,
    words,
)
from conftest import QUESTIONS, ROWS, make_tokenizer

# ---------------------------------------------------------------- files and fields


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'["caf\xe9"]', "is not UTF-8 text (byte 5)"),
        (b"[1,\n 2", "is not JSON: Expecting ',' delimiter at line 2, column 3"),
        (b"", "is not JSON"),
        (b"{}", "must hold a JSON list of objects"),
        (b"[]", "is an empty list"),
        (b"[" * 100_000 + b"]" * 100_000, "cannot be read as JSON: "),
        (b"[" + b"9" * 5000 + b"]", "cannot be read as JSON: "),
    ],
)
@pytest.mark.parametrize("name", [GENERATE, TEST, OPEN])
def test_a_file_that_cannot_be_used_is_an_error_and_the_check_goes_on(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    clean = GENERATE.replace("calm", "zeal")
    report = check(tmp_path, {name: content, clean: PAIRS})
    finding = only(report)
    assert (finding.severity, finding.behavior, finding.file) == ("error", "calm", name)
    assert finding.message.startswith(message)
    assert [row.behavior for row in report.rows] == ["calm", "zeal"]
    counted = [row.generate.items for row in report.rows if row.generate]
    assert counted == [0 if name == GENERATE else 4, 4]


def test_a_folder_or_a_dead_link_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / GENERATE).mkdir(parents=True)
    (tmp_path / TEST).parent.mkdir(parents=True)
    (tmp_path / TEST).symlink_to("nowhere")
    report = check(tmp_path, {GENERATE: None, TEST: None})
    assert [(f.severity, f.file) for f in report.findings] == [("error", GENERATE), ("error", TEST)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("question"), "missing field question"),
        (lambda row: row.pop(MATCHING), f"missing field {MATCHING}"),
        (lambda row: row.pop(OTHER), f"missing field {OTHER}"),
        (lambda row: row.update(question=" \n"), "question is empty"),
        (lambda row: row.update({OTHER: ""}), f"{OTHER} is empty"),
        (lambda row: row.update(question=["Is it?"]), "question is not a text"),
        (lambda row: row.update({MATCHING: None}), f"{MATCHING} is not a text"),
        (lambda row: row.update(question="Is it \ud800?"), "question holds half a character"),
        (lambda row: row.update({MATCHING: "A"}), f"{MATCHING} has no letter"),
        (lambda row: row.update({OTHER: "Yes (B)"}), f"{OTHER} has no letter"),
        (lambda row: row.update({MATCHING: row[OTHER]}), "both answers have the same letter"),
    ],
)
@pytest.mark.parametrize("name", [GENERATE, TEST])
def test_a_fault_of_one_item_is_an_error(
    tmp_path: Path, name: str, change: Change, message: str
) -> None:
    rows = [dict(row) for row in (PAIRS if name == GENERATE else TESTS)]
    change(rows[2])
    finding = only(check(tmp_path, {name: rows}, make_tokenizer()))
    assert (finding.severity, finding.file, finding.items) == ("error", name, (3,))
    assert finding.message.startswith(message)
    assert finding.message.endswith(": item 3")


@pytest.mark.parametrize(
    ("row", "message"), [({}, "missing field question"), ({"question": ""}, "question is empty")]
)
def test_an_open_ended_question_must_be_there(
    tmp_path: Path, row: dict[str, str], message: str
) -> None:
    finding = only(check(tmp_path, {OPEN: [*OPEN_ENDED, row]}))
    assert (finding.severity, finding.file, finding.items) == ("error", OPEN, (5,))
    assert finding.message == f"{message}: item 5"


def test_what_is_no_object_is_an_error_and_the_numbers_of_the_others_stay(tmp_path: Path) -> None:
    rows = [*PAIRS, "text", None, {**PAIRS[0], "question": words(9, 1)}]
    report = check(tmp_path, {GENERATE: rows})
    assert [(f.message, f.items) for f in report.errors] == [
        ("not a JSON object: items 5, 6", (5, 6))
    ]
    assert [(f.message.split(",")[0], f.items) for f in report.warnings] == [
        ("choices cannot be parsed", (7,))
    ]


def test_a_message_shows_the_first_few_items_and_the_finding_has_all(tmp_path: Path) -> None:
    rows = [dict(row, question="") for row in ROWS]
    finding = only(check(tmp_path, {GENERATE: rows}))
    assert finding.message == "question is empty: items 1, 2, 3, 4, 5 and 3 more"
    assert finding.items == tuple(range(1, 9))


# ---------------------------------------------------------------- TruthfulQA and MMLU


def test_every_file_of_truthfulqa_and_mmlu_is_a_row(tmp_path: Path) -> None:
    names = ("truthfulqa/truthful_qa", "mmlu/mmlu", "mmlu/mmlu_full")
    report = check(tmp_path, {f"test/{name}.json": FACTS for name in names})
    assert [row.behavior for row in report.rows] == ["calm", *names]
    # mmlu is a part of mmlu_full: no leakage.
    assert report.findings == ()
    for row in report.rows[1:]:
        assert (row.generate, row.open_ended) == (None, None)
        assert row.test and (row.test.items, row.test.a_share) == (8, 0.5)


@pytest.mark.parametrize("field", ["prompt", "correct", "incorrect", "category"])
def test_fields_of_truthfulqa_and_mmlu(tmp_path: Path, field: str) -> None:
    for number, (row, message) in enumerate(
        [
            ({k: v for k, v in FACTS[3].items() if k != field}, f"missing field {field}: item 4"),
            (FACTS[3] | {field: " "}, f"{field} is empty: item 4"),
        ]
    ):
        rows = [*FACTS[:3], row, *FACTS[4:]]
        report = check(tmp_path / str(number), {"test/mmlu/mmlu.json": rows})
        finding = only(report)
        assert (finding.severity, finding.behavior) == ("error", "mmlu/mmlu")
        assert (finding.file, finding.message) == ("test/mmlu/mmlu.json", message)


def test_checks_of_answers_and_duplicates_hold_for_truthfulqa_too(tmp_path: Path) -> None:
    unasked, unnamed = FACTS[2] | {"prompt": "Is it?"}, FACTS[3] | {"correct": "(C)"}
    rows = [*FACTS, knowledge(QUESTIONS[0], "B"), FACTS[1], unasked, unnamed]
    report = check(tmp_path, {"test/truthfulqa/truthful_qa.json": rows})
    assert [(f.severity, f.message.split(":")[0], f.items) for f in report.findings] == [
        ("warning", "letters beyond A and B", (12,)),
        ("warning", "choices cannot be parsed, or one has no text", (11,)),
        ("warning", "a letter that names no choice of the question", (12,)),
        ("error", "the same question with different answers", (1, 4, 9, 12)),
        ("warning", "the same question more than once", (2, 10)),
    ]


def test_choices_are_part_of_a_question_of_knowledge(tmp_path: Path) -> None:
    question = "Which of the following statements is true?"
    texts = ("Iron rusts", "Gold floats", "Whales are fish", "Copper conducts")
    rows = [*FACTS, knowledge(question, "A", *texts[:2]), knowledge(question, "B", *texts[2:])]
    assert check(tmp_path, {"test/mmlu/mmlu.json": rows}).findings == ()
