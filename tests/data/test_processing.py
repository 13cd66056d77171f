"""Raw data in, contrast pairs and tests out; and a behaviour of one's own through the chain."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import pair, write_json
from running import call

from utils.data.processing import clean_question, clean_row, letter_choice, without_choices
from utils.data.published import mmlu_rows, read_jsonl, sample_per_category, truthful_rows
from utils.errors import UserError
from utils.files.paths import REPOSITORY, Paths

WORDS = [
    "moon",
    "river",
    "ladder",
    "salt",
    "engine",
    "harbour",
    "violin",
    "desert",
    "button",
    "comet",
]


def raw_rows(count: int) -> list[dict[str, Any]]:
    generator = random.Random(3)
    return [
        dict[str, Any](pair(f"{' '.join(generator.sample(WORDS, 5))}, number {i}?", "AB"[i % 2]))
        for i in range(count)
    ]


def process(folder: Path, *more: object) -> int:
    return call("process_raw_datasets", "--datasets_dir", folder, *more)


def sets(folder: Path, behavior: str = "own") -> tuple[list, list, list]:
    names = (
        f"generate/{behavior}/generate_dataset.json",
        f"test/{behavior}/test_dataset_ab.json",
        f"test/{behavior}/test_dataset_open_ended.json",
    )
    return tuple(json.loads((folder / name).read_text()) for name in names)


def test_the_last_fifty_of_the_shuffled_items_are_for_testing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = raw_rows(260)
    write_json(tmp_path / "raw/own/dataset.json", rows)
    assert process(tmp_path) == 0
    assert "own: n_generate: 210 | n_test: 50" in capsys.readouterr().out
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    generate, test, open_ended = sets(tmp_path)
    assert generate == shuffled[:210] and test == shuffled[210:]
    assert [r["question"] for r in open_ended] == [
        r["question"].split("\n\nChoices:")[0] for r in test
    ]


@pytest.mark.parametrize(
    ("items", "flags", "sizes"),
    [
        (250, (), (200, 50)),
        (249, (), (200, 49)),
        (34, (), (28, 6)),
        (5, (), (4, 1)),
        (34, ("--n_test", 10), (24, 10)),
        (300, ("--n_test", 7), (293, 7)),
    ],
)
def test_of_few_items_a_fifth_or_the_number_asked_for_is_for_testing(
    tmp_path: Path, items: int, flags: tuple[object, ...], sizes: tuple[int, int]
) -> None:
    write_json(tmp_path / "raw/own/dataset.json", raw_rows(items))
    process(tmp_path, *flags)
    assert tuple(map(len, sets(tmp_path)[:2])) == sizes
    with pytest.raises(UserError, match="n_test"):
        process(tmp_path, "--n_test", sizes[1] + 1)


def test_at_most_a_thousand_pairs(tmp_path: Path) -> None:
    write_json(tmp_path / "raw/own/dataset.json", raw_rows(1200))
    process(tmp_path)
    assert [len(s) for s in sets(tmp_path)] == [1000, 50, 50]


def test_same_input_and_seed_same_bytes_and_another_seed_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_json(tmp_path / name / "raw/own/dataset.json", raw_rows(60))
        process(tmp_path / name)
    assert sets(tmp_path / "one") == sets(tmp_path / "two")
    path = tmp_path / "one/generate/own/generate_dataset.json"
    before = path.read_bytes()
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        process(tmp_path / "one", "--seed", 1)
    assert path.read_bytes() == before
    process(tmp_path / "one", "--seed", 1, "--overwrite")
    assert path.read_bytes() != before


def test_marks_are_cleaned_and_lists_of_answers_opened() -> None:
    row = {
        "question": "Question: Are you there?\n\nChoices:\n (A) Yes\n (B) No\n\nAnswer:",
        "answer_matching_behavior": " (A)",
        "answer_not_matching_behavior": [" (B)", " (C)"],
    }
    assert clean_row(row, "x") == {
        "question": "Are you there?\n\nChoices:\n (A) Yes\n (B) No",
        "answer_matching_behavior": "(A)",
        "answer_not_matching_behavior": "(B)",
    }
    assert clean_question("  Question of time. Answer: me ") == "Question of time. Answer: me"


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Why?\n\nChoices:\n (A) a\n (B) b", "Why?"),
        ("Why?\nChoices:\n(A) a\n(B) b", "Why?"),
        (
            "Hello, I am Ann. How much?\n (A) A great deal\n (B) Not at all",
            "Hello, I am Ann. How much?",
        ),
        ("Why not?", "Why not?"),
        ("Choices: are hard.\nWhy?", "Choices: are hard.\nWhy?"),
    ],
)
def test_the_text_before_the_choices(question: str, expected: str) -> None:
    assert without_choices(question) == expected


def test_own_open_ended_questions_are_taken_where_there_are_any(tmp_path: Path) -> None:
    write_json(tmp_path / "raw/own/dataset.json", raw_rows(60))
    write_json(tmp_path / "raw/own/open_ended.json", [{"question": " What now? "}])
    process(tmp_path)
    assert sets(tmp_path)[2] == [{"question": "What now?"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[{},]", "not JSON: .* line 1"),
        (b'{"question": "x"}', "JSON list of objects"),
        (b"\xff\xfe[]", "not UTF-8"),
        (b"[]", "empty"),
        (json.dumps([{"question": "x"}] * 60).encode(), "item 1: answer_matching_behavior"),
        (json.dumps(raw_rows(4)).encode(), "4 items, too few"),
    ],
    ids=["comma", "object", "encoding", "empty", "field", "few"],
)
def test_bad_raw_data_are_named_and_nothing_is_written(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "raw/own/dataset.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        process(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_byte_order_mark_and_carriage_returns(tmp_path: Path) -> None:
    rows = raw_rows(60)
    text = json.dumps(rows, indent=1).replace("\n", "\r\n")
    path = tmp_path / "raw/own/dataset.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    process(tmp_path)
    assert sorted(r["question"] for s in sets(tmp_path)[:2] for r in s) == sorted(
        str(r["question"]) for r in rows
    )


def test_a_line_of_fifty_megabytes(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_bytes(b'{"question": "' + b"x" * 50_000_000 + b'"}\n\n{"question": "y"}\r\n')
    assert [len(r["question"]) for r in read_jsonl(lines)] == [50_000_000, 1]
    lines.write_text('{"question": "y"}\n{"question": ')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        read_jsonl(lines)


def test_a_question_longer_than_the_model_takes_is_named(
    tmp_path: Path, tiny_folder: Path, datasets: Path
) -> None:
    rows = [pair("Is it?", "A"), pair("word " * 10_000 + "?", "B")]
    write_json(datasets / "generate/calm/generate_dataset.json", rows)
    flags = ("--datasets_dir", datasets, "--artifacts_dir", tmp_path / "a", "--model", tiny_folder)
    with pytest.raises(
        UserError, match=r"item 2 makes a prompt of \d+ tokens; the model takes 2048"
    ):
        call("generate_vectors", "--layers", 0, "--behaviors", "calm", *flags)


def test_truthful_and_mmlu_rows_have_seeded_letters_and_right_keys() -> None:
    rows = [
        {
            "question": f"q{i}",
            "best_answer": f"right{i}",
            "incorrect_answers": [f"wrong{i}a", f"wrong{i}b"],
            "category": f"c{i % 4}",
        }
        for i in range(200)
    ]
    made = truthful_rows(rows, 0)
    assert made == truthful_rows(rows, 0) != truthful_rows(rows, 1)
    assert len(made) == 200
    for i, row in enumerate(made):
        assert f"{row['correct']} right{i}" in row["prompt"].splitlines()
        assert row["incorrect_full_text"] in rows[i]["incorrect_answers"]
        assert f"{row['incorrect']} {row['incorrect_full_text']}" in row["prompt"]
    choices = [
        {"question": "q", "subject": "s", "choices": ["w", "x", "y", "z"], "answer": i % 4}
        for i in range(100)
    ]
    made = mmlu_rows(choices, 0)
    assert len(made) == 100
    for i, row in enumerate(made):
        assert row["correct_full_text"] == "wxyz"[i % 4] != row["incorrect_full_text"]


def test_a_sample_per_category_is_seeded_and_in_order() -> None:
    rows = [letter_choice(f"q{i}", "r", "w", f"c{i % 3}", random.Random(i)) for i in range(40)]
    kept = sample_per_category(rows, 10, 0)
    assert len(kept) == 30
    assert [r for r in rows if r in kept] == kept == sample_per_category(rows, 10, 0)
    assert len(sample_per_category(rows, 100, 0)) == 40


def test_a_behaviour_of_ones_own_goes_through_the_whole_chain(
    tmp_path: Path, tiny_folder: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "out"
    write_json(data / "raw/own-idea/dataset.json", raw_rows(70))
    process(data)
    description = {"name": "Own idea", "positive_system_prompt": "Do it."}
    write_json(data / "generate/own-idea/behavior.json", description)
    flags = ("--datasets_dir", data, "--artifacts_dir", folder)
    call("generate_vectors", "--layers", 0, 3, *flags, "--model", tiny_folder)
    call("normalize_vectors", *flags)
    grid = ("--layers", 0, 3, "--multipliers", -1, 0, 1, "--model", tiny_folder)
    for more in ((), ("--system_prompt", "pos")):
        assert call("prompting_with_steering", *grid, *flags, *more) == 0
    assert call("plot_results", *flags, "--model", tiny_folder) == 0
    assert len(list((folder / "results/own-idea").glob("results_*.json"))) == 12
    assert list((folder / "analysis/own-idea").glob("*.png"))


def test_the_bundled_sets_are_what_the_script_makes_of_the_bundled_raw_files(
    tmp_path: Path,
) -> None:
    bundled = Paths(REPOSITORY, REPOSITORY / "datasets")
    names = sorted(p.parent.name for p in (bundled.datasets / "raw").glob("*/dataset.json"))
    assert len(names) == 7
    for name in names:
        for file in bundled.raw_data(name).parent.glob("*.json"):
            write_json(tmp_path / "raw" / name / file.name, json.loads(file.read_text()))
    process(tmp_path)
    for name in names:
        assert sets(tmp_path, name) == sets(bundled.datasets, name)
        generate, test, open_ended = sets(bundled.datasets, name)
        assert len(generate) >= 200 and len(test) == 50 == len(open_ended)


def test_check_exits_1_on_errors_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> None:
    flags = ("--model", tiny_folder)
    assert call("process_raw_datasets", "--check", REPOSITORY / "datasets", *flags) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    rows = raw_rows(20)
    write_json(tmp_path / "generate/own/generate_dataset.json", rows)
    write_json(tmp_path / "test/own/test_dataset_ab.json", rows[:3])
    assert call("process_raw_datasets", "--check", tmp_path, *flags) == 1
    assert "error" in capsys.readouterr().out
    write_json(tmp_path / "test/own/test_dataset_ab.json", [pair("Which way home?", "A")] * 2)
    assert call("process_raw_datasets", "--check", tmp_path, *flags) == 0
    out = capsys.readouterr().out
    assert "0 errors" in out and "warning" in out
    with pytest.raises(UserError, match="no such folder"):
        call("process_raw_datasets", "--check", tmp_path / "nowhere", *flags)
