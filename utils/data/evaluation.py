"""Which tests there are, by their names in the names of results; and reading those results."""

from __future__ import annotations

from pathlib import Path

from utils.data.items import ABFields, Items
from utils.data.kinds_of_test import LetterTest, OpenTest, Test
from utils.data.rows import Row
from utils.errors import UserError
from utils.files.contents import read_json, read_verified
from utils.files.json_files import check_writable

_OWN_DATA = "Each behaviour's tests belong there; --datasets_dir names another data folder."
_SHIPPED = "It ships with the project, in its own datasets folder."
CHOICE_FIELDS = ABFields("prompt", "correct", "incorrect", extra=("category",))
_DOWNLOAD = (
    "Fetch it with: ./process_raw_datasets.py --download (then --datasets_dir datasets/paper)"
)


def _choice_test(
    type: str, title: str, folder: str, file: str, made_by: str, full_form_of: str | None = None
) -> LetterTest:
    return LetterTest(
        type=type,
        title=title,
        data=lambda paths, _behavior: paths.choice_test(folder, file),
        made_by=made_by,
        fields=CHOICE_FIELDS,
        score_name="P(correct answer)",
        full_form_of=full_form_of,
    )


AB = LetterTest(
    type="ab",
    title="A/B questions",
    data=lambda paths, behavior: paths.test_data(behavior, "ab"),
    made_by=_OWN_DATA,
    fields=ABFields(),
    score_name="P(matching answer)",
    of_behavior=True,
)
MMLU_FULL = _choice_test("mmlu_full", "MMLU", "mmlu", "mmlu_full", _DOWNLOAD, full_form_of="mmlu")
# The stand-ins are this project's own and have names of their own wherever they appear, so that
# their scores can never be taken for those of the benchmarks.
CHOICE_TESTS = (
    _choice_test(
        "truthful_qa",
        "TruthfulQA",
        "truthfulqa",
        "truthful_qa",
        f"{_DOWNLOAD},\nor use this project's own stand-in: --type bundled_misconceptions",
    ),
    _choice_test(
        "mmlu",
        "MMLU (10 a subject)",
        "mmlu",
        "mmlu",
        f"{_DOWNLOAD},\nor use this project's own stand-in: --type bundled_knowledge",
    ),
    MMLU_FULL,
    _choice_test(
        "bundled_misconceptions",
        "this project's 102 misconceptions (not TruthfulQA)",
        "truthfulqa",
        "misconceptions_bundled",
        _SHIPPED,
    ),
    _choice_test(
        "bundled_knowledge",
        "this project's 114 knowledge questions (not MMLU)",
        "mmlu",
        "knowledge_bundled",
        _SHIPPED,
    ),
)
OPEN_ENDED = OpenTest(
    type="open_ended",
    title="Open-ended answers",
    made_by=_OWN_DATA,
    score_name="judge's score (0 to 10)",
    of_behavior=True,
)
LETTER_TESTS = {test.type: test for test in (AB, *CHOICE_TESTS)}
TESTS: dict[str, Test] = {test.type: test for test in (AB, OPEN_ENDED, *CHOICE_TESTS)}


def read_results(path: Path) -> Items[Row]:
    """The rows of one result file, this toolkit's or a published one.

    Raises:
        UserError: not the bytes that were recorded, not JSON, no list of rows, or one
            that JSON cannot hold.
    """
    contents = read_verified(path)
    rows = read_json(contents)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no list of result rows")
    for number, row in enumerate(rows, 1):
        check_writable(row, f"{path}, row {number}")
    return Items(rows, contents.sha256)
