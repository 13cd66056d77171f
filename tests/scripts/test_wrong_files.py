"""Wrong data files and folders: named with the place of the fault, before the model loads."""

from __future__ import annotations

import json

import pytest
from bench import (
    GENERATE,
    NORMALIZE,
    PLOT,
    PROMPT,
    RUNNING,
    Bench,
    bench,
    says,
    the_model_never_loads,
)
from conftest import ROWS
from running import call

__all__ = ("bench", "the_model_never_loads")  # fixtures

DATA = {GENERATE: "generate/calm/generate_dataset.json", PROMPT: "test/calm/test_dataset_ab.json"}


# ---------------------------------------------------------------- data files


def edited(**changes: object) -> bytes:
    """The fixture's rows with the second one changed; a change to ``None`` removes the field."""
    row = {k: v for k, v in (dict(ROWS[1]) | changes).items() if v is not None}
    return json.dumps([ROWS[0], row, *ROWS[2:6]]).encode()


BAD_DATA = {
    "not_json": (b"[{question: 1}]", ["is not JSON", "line 1, column 3"]),
    "cut_off": (edited()[:-9], ["is not JSON", "line 1"]),
    "empty_file": (b"", ["is not JSON"]),
    "not_a_list": (b'{"question": "?"}', ["must hold a JSON list of objects"]),
    "list_of_texts": (b'["question"]', ["must hold a JSON list of objects"]),
    "empty_list": (b"[]", ["is empty"]),
    "missing_question": (edited(question=None), ["item 2", "missing field question"]),
    "missing_answer": (
        edited(answer_not_matching_behavior=None),
        ["item 2", "missing field answer_not_matching_behavior"],
    ),
    "empty_question": (edited(question=""), ["item 2", "question must be a text"]),
    "blank_question": (edited(question=" \n\t"), ["item 2", "question must be a text"]),
    "question_a_number": (edited(question=7), ["item 2", "question must be a text"]),
    "answer_without_letter": (
        edited(answer_matching_behavior="Yes"),
        ["item 2", "answer_matching_behavior", "'Yes'", "(A)"],
    ),
    "answer_without_brackets": (edited(answer_matching_behavior="A"), ["item 2", "'A'"]),
    "small_letter": (edited(answer_not_matching_behavior="(a)"), ["item 2", "'(a)'"]),
    "answer_not_a_text": (edited(answer_matching_behavior=["(A)"]), ["item 2", "['(A)']"]),
    "equal_answers": (
        edited(answer_matching_behavior="(A)", answer_not_matching_behavior="(A) No"),
        ["item 2", "both answers are (A)"],
    ),
    "not_utf8": (edited().replace(b"raining", b"\xe9t\xe9"), ["not UTF-8"]),
    "utf16": (edited().decode().encode("utf-16"), ["not UTF-8"]),
}


@pytest.mark.parametrize("script", RUNNING)
@pytest.mark.parametrize("fault", BAD_DATA)
def test_a_bad_data_file_is_named_with_the_place_of_its_fault(
    bench: Bench, script: str, fault: str
) -> None:
    content, wanted = BAD_DATA[fault]
    assert content != edited()
    path = bench.datasets / DATA[script]
    path.write_bytes(content)
    says(bench.refused(script, "--behaviors", "calm"), path, *wanted)


@pytest.mark.parametrize("script", RUNNING)
def test_a_fault_beyond_the_limit_is_found_too(bench: Bench, script: str) -> None:
    (bench.datasets / DATA[script]).write_bytes(edited(question=""))
    says(bench.refused(script, "--behaviors", "calm", "--limit", 1), "item 2")


@pytest.mark.parametrize("script", RUNNING)
def test_a_fault_in_the_last_behaviour_is_found_before_the_first_is_run(
    bench: Bench, script: str
) -> None:
    (bench.datasets / DATA[script]).write_bytes(b"[]")
    says(bench.refused(script, "--behaviors", "bold", "calm"), DATA[script], "is empty")


@pytest.mark.parametrize("script", RUNNING)
def test_a_missing_data_file_says_how_to_name_another_folder(bench: Bench, script: str) -> None:
    path = bench.datasets / DATA[script]
    path.unlink()
    message = bench.refused(script, "--behaviors", "calm")
    says(message, "missing data file", path, "--datasets_dir")


@pytest.mark.parametrize("script", RUNNING)
def test_a_folder_in_the_place_of_a_data_file_is_named(bench: Bench, script: str) -> None:
    path = bench.datasets / DATA[script]
    path.unlink()
    path.mkdir()
    says(bench.refused(script, "--behaviors", "calm"), path)


@pytest.mark.parametrize("script", RUNNING)
def test_byte_order_mark_and_windows_line_ends_are_no_fault(
    bench: Bench, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bench.datasets / DATA[script]
    only = ("--behaviors", "calm", "--show_tokens")
    call(script, *bench.flags(script, *only))
    plain = capsys.readouterr().out
    text = json.dumps(json.loads(path.read_bytes()), indent=1).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert call(script, *bench.flags(script, *only)) == 0
    assert capsys.readouterr().out == plain


@pytest.mark.parametrize("script", [*RUNNING, PLOT])
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"{", ["is not JSON"]),
        (b"[]", ["one JSON object"]),
        (b'{"matching": "is calm"}', ["missing field name"]),
        (b'{"name": "Calm", "rubrik": "?"}', ["unknown field rubrik", "rubric"]),
        (b'{"name": "Calm", "rubric": ""}', ["rubric must be a text"]),
        (b'{"name": ["Calm"]}', ["name must be a text"]),
        (b'{"name": "Calm", "id": "quiet"}', ["'quiet'", "not the folder's name"]),
    ],
    ids=["not_json", "list", "no_name", "unknown_field", "empty_rubric", "name_list", "other_id"],
)
def test_a_bad_description_of_a_behaviour_is_named(
    bench: Bench, script: str, content: bytes, wanted: list[str]
) -> None:
    path = bench.datasets / "generate/calm/behavior.json"
    path.write_bytes(content)
    says(bench.refused(script), path, *wanted)


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("script", [*RUNNING, NORMALIZE, PLOT])
@pytest.mark.parametrize("below", [False, True], ids=["a_file", "below_a_file"])
def test_an_artefact_folder_that_is_none_is_named(bench: Bench, script: str, below: bool) -> None:
    file = bench.root / "notes.txt"
    file.write_text("mine")
    folder = file / "out" if below else file
    says(bench.refused(script, "--artifacts_dir", folder), "--artifacts_dir", folder)


@pytest.mark.parametrize("script", [*RUNNING, NORMALIZE, PLOT])
def test_a_missing_data_folder_is_named(bench: Bench, script: str) -> None:
    folder = bench.root / "no" / "data"
    says(bench.refused(script, "--datasets_dir", folder), "--datasets_dir", folder)


@pytest.mark.parametrize("script", [*RUNNING, NORMALIZE, PLOT])
def test_a_data_folder_that_is_a_file_is_named(bench: Bench, script: str) -> None:
    file = bench.datasets / DATA[GENERATE]
    says(bench.refused(script, "--datasets_dir", file), "--datasets_dir", file)


@pytest.mark.parametrize(
    ("script", "folder"),
    [(GENERATE, "vectors"), (GENERATE, "vectors/calm"), (PROMPT, "results")],
)
def test_a_file_in_the_place_of_an_output_folder_is_found_before_the_work(
    bench: Bench, script: str, folder: str
) -> None:
    file = bench.artifacts / folder
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    says(bench.refused(script, "--behaviors", "calm"), file)
