"""Checking a data folder: each kind of finding on small folders, bundled and published data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from checked_data import (
    FACTS,
    GENERATE,
    MATCHING,
    OPEN,
    OTHER,
    PAIRS,
    TEST,
    TESTS,
    changed,
    check,
    only,
)
from conftest import make_tokenizer

from utils.data_checks.folder import check_folder
from utils.errors import UserError
from utils.files.paths import REPOSITORY, Paths

PAPER_DATA = Path(os.environ.get("CAA_PAPER_DATA", REPOSITORY.parent / "shared/paper_data"))
PUBLISHED = PAPER_DATA / "processed"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published data in {PUBLISHED}")


# ---------------------------------------------------------------- clean data and the row


def test_a_clean_folder_has_no_findings_and_its_numbers_in_a_row(tmp_path: Path) -> None:
    report = check(tmp_path, {}, make_tokenizer())
    assert report.findings == ()
    assert report.lines() == []
    (row,) = report.rows
    assert row.behavior == "calm"
    assert row.generate and row.test and row.generate.lengths
    assert (row.generate.items, row.test.items, row.open_ended) == (4, 4, 4)
    assert (row.generate.a_share, row.test.a_share) == (0.5, 0.5)
    assert (row.generate.beyond, row.test.beyond) == (0, 0)
    assert (row.letters, row.repeats, row.leaks, row.near) == ("A B", 0, 0, 0)
    # "Yes, that is so." has 4 words, "No, that is not so." has 5; A and B match by turns.
    lengths = row.generate.lengths
    assert (lengths.matching, lengths.other) == (4.5, 4.5)
    assert (lengths.longer, lengths.shorter, lengths.p_value) == (2, 2, 1.0)


def test_a_behaviour_may_lack_any_file(tmp_path: Path) -> None:
    for number, missing in enumerate((GENERATE, TEST, OPEN)):
        report = check(tmp_path / str(number), {missing: None})
        assert report.findings == (), missing
        (row,) = report.rows
        present = (row.generate is not None, row.test is not None, row.open_ended is not None)
        assert present == tuple(name != missing for name in (GENERATE, TEST, OPEN))


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    hidden = (GENERATE.replace("calm", ".calm"), TEST.replace("calm", ".calm"))
    files: dict[str, Any] = dict.fromkeys([*hidden, "test/mmlu/.mmlu.json"], b"not JSON")
    report = check(tmp_path, files)
    assert [row.behavior for row in report.rows] == ["calm"]
    assert report.findings == ()


def test_a_behaviour_without_a_file_of_a_known_name_is_shown(tmp_path: Path) -> None:
    report = check(tmp_path, {"test/bold/test_data.json": TESTS})
    finding = only(report)
    assert (finding.severity, finding.behavior, finding.file) == ("warning", "bold", "test/bold")
    assert [row.behavior for row in report.rows] == ["bold", "calm"]


@pytest.mark.parametrize("name", ["", "missing", "file"])
def test_a_folder_without_data_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    folder = tmp_path / name
    with pytest.raises(UserError, match=r"no data in .*it must hold generate"):
        check_folder(Paths(folder, folder), None)


def test_only_the_behaviours_asked_for_are_checked(tmp_path: Path) -> None:
    check(tmp_path, {"test/bold/test_data.json": TESTS})
    paths = Paths(tmp_path, tmp_path)
    for name, findings in (("bold", 1), ("calm", 0)):
        report = check_folder(paths, None, [name])
        assert [row.behavior for row in report.rows] == [name]
        assert len(report.findings) == findings
    with pytest.raises(UserError, match=r"no data of cold .*there are: bold, calm"):
        check_folder(paths, None, ["calm", "cold"])


# ---------------------------------------------------------------- the report as text


def test_lines_show_errors_first_and_a_behaviours_findings_together(tmp_path: Path) -> None:
    faulty = changed(PAIRS, 1, **{MATCHING: "A"})
    files = {}
    for behavior in ("bold", "calm"):
        files[GENERATE.replace("calm", behavior)] = faulty
        files[TEST.replace("calm", behavior)] = changed(TESTS, 1, **{MATCHING: " (A)"})
    report = check(tmp_path, files)
    assert (len(report.errors), len(report.warnings)) == (2, 2)
    assert [line.split(":")[:2] for line in report.lines()] == [
        ["error", " generate/bold/generate_dataset.json"],
        ["error", " generate/calm/generate_dataset.json"],
        ["warning", " test/bold/test_dataset_ab.json"],
        ["warning", " test/calm/test_dataset_ab.json"],
    ]
    assert report.lines()[0].endswith(f": {report.errors[0].message}")


def test_the_table_has_one_aligned_line_a_behaviour(tmp_path: Path) -> None:
    files = {
        "generate/a-long-name/generate_dataset.json": [*PAIRS, PAIRS[0]],
        "test/truthfulqa/truthful_qa.json": changed(FACTS, 1, category=""),
    }
    table = check(tmp_path, files).table()
    header, _rule, *lines = table.splitlines()
    ends = [header.index(title) + len(title) for title in ("open", "A %", "repeats", "warnings")]
    assert len({len(line) for line in (header, *lines)}) == 1
    assert all((line + " ")[end] == " " != line[end - 1] for line in lines for end in ends)
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    half = ["50.0 / 50.0", "0 / 0", "A B", "0", "0", "0", "4.5 / 4.5", "2 / 2", "1", "0", "0"]
    assert cells[1] == ["calm", "4", "4", "4", *half]
    assert cells[0][:9] == ["a-long-name", "5", "-", "-", "60.0 / -", "0 / -", "A B", "1", "0"]
    assert cells[0][-2:] == ["0", "1"]
    assert cells[2][:4] == ["truthfulqa/truthful_qa", "-", "8", "-"]
    assert cells[2][-2:] == ["1", "0"]


# ---------------------------------------------------------------- real data


def test_the_bundled_data_have_no_errors() -> None:
    report = check_folder(Paths(REPOSITORY, REPOSITORY / "datasets"), make_tokenizer())
    assert report.errors == []
    assert {"refusal", "survival-instinct", "sycophancy"} <= {r.behavior for r in report.rows}


@published
def test_the_published_letters_beyond_a_and_b_are_found() -> None:
    report = check_folder(Paths(PUBLISHED, PUBLISHED), None)
    for name, count in (
        ("generate/survival-instinct/generate_dataset.json", 88),
        ("test/survival-instinct/test_dataset_ab.json", 4),
    ):
        expected: dict[str, list[int]] = {}
        for number, row in enumerate(json.loads((PUBLISHED / name).read_text()), 1):
            for letter in "CDEFGH":
                if f"({letter})" in (row[MATCHING], row[OTHER]):
                    expected.setdefault(letter, []).append(number)
        found = [f for f in report.warnings if f.file == name and "beyond" in f.message]
        assert [f.items for f in found] == [
            tuple(sorted(n for ns in expected.values() for n in ns))
        ]
        assert len(found[0].items) == count
        for letter, numbers in expected.items():
            plural = "s" if len(numbers) > 1 else ""
            first = ", ".join(map(str, numbers[:5]))
            assert f"{letter} in item{plural} {first}" in found[0].message
    beyond = {f.behavior for f in report.findings if "beyond" in f.message}
    assert beyond == {"survival-instinct"}
