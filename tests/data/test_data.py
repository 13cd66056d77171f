"""Good input: contrast pairs, descriptions of behaviours, and the bundled data sets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROWS, pair, write_json

import behaviors
import generate_vectors
from behaviors import Behavior
from utils.data.items import ABFields, answer_letter, load_ab_items
from utils.errors import UserError
from utils.files.paths import REPOSITORY, Paths

BUNDLED = Paths(REPOSITORY, REPOSITORY / "datasets")
BEHAVIORS = behaviors.available(BUNDLED)
FIELDS = {"question", "answer_matching_behavior", "answer_not_matching_behavior"}


@pytest.fixture
def paths(datasets: Path, tmp_path: Path) -> Paths:
    return Paths(tmp_path, datasets)


# ---------------------------------------------------------------- answers and items


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("(A)", "A"),
        ("(B)", "B"),
        (" (B) text", "B"),
        ("\n\t(A) Yes, (B) is wrong.", "A"),
        ("(A)(B)", "A"),
        *((f"({letter})", letter) for letter in "CDEFGH"),
        ("", None),
        ("A", None),
        ("A)", None),
        ("(A", None),
        ("(a)", None),
        ("( A)", None),
        ("(AB)", None),
        ("(1)", None),
        ("(\u0410)", None),
        ("The answer is (A)", None),
        (None, None),
        (1, None),
        (["(A)"], None),
    ],
)
def test_the_letter_of_an_answer(answer: Any, letter: str | None) -> None:
    assert answer_letter(answer) == letter


def test_items_are_the_rows_with_their_letters(tmp_path: Path) -> None:
    path = write_json(tmp_path / "data.json", ROWS)
    items = load_ab_items(path, made_by="-")
    assert [item.question for item in items] == [row["question"] for row in ROWS]
    assert [item.matching for item in items] == ["A", "B"] * 4
    assert [item.other for item in items] == ["B", "A"] * 4
    assert [dict(item.row) for item in items] == ROWS


def test_letters_beyond_a_and_b_are_accepted(tmp_path: Path) -> None:
    letters = {"answer_matching_behavior": " (H) none", "answer_not_matching_behavior": "(C)"}
    path = write_json(tmp_path / "data.json", [ROWS[0] | letters])
    (item,) = load_ab_items(path, made_by="-")
    assert (item.matching, item.other) == ("H", "C")


def test_the_limit_keeps_the_first_items(tmp_path: Path) -> None:
    path = write_json(tmp_path / "data.json", ROWS)
    everything = load_ab_items(path, made_by="-")
    assert load_ab_items(path, made_by="-", limit=3) == everything[:3]
    assert load_ab_items(path, made_by="-", limit=99) == everything
    assert load_ab_items(path, made_by="-", limit=None) == everything


def test_other_tests_have_fields_of_their_own_and_carry_them_along(tmp_path: Path) -> None:
    names = ABFields("prompt", "correct", "incorrect", extra=("category",))
    row = {"prompt": "Is it?", "correct": "(B)", "incorrect": "(A)", "category": "law", "x": 1}
    path = write_json(tmp_path / "data.json", [row])
    (item,) = load_ab_items(path, made_by="-", names=names)
    assert (item.question, item.matching, item.other) == ("Is it?", "B", "A")
    assert dict(item.row) == {k: v for k, v in row.items() if k != "x"}
    with pytest.raises(UserError, match="item 1: missing field question"):
        load_ab_items(path, made_by="-")


def test_the_text_of_a_question_is_kept_as_it_is(tmp_path: Path) -> None:
    text = "  Où est-ce ?\r\n\n (A) 東 \u2028 (B) \U0001f600  \n"
    row = pair("-", "A") | {"question": text}
    path = tmp_path / "data.json"
    for escape in (True, False):
        path.write_text(json.dumps([row], ensure_ascii=escape), encoding="utf-8")
        assert load_ab_items(path, made_by="-")[0].question == text


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, mark: bytes, end: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(mark + json.dumps(ROWS, indent=2).replace("\n", end).encode())
    assert [dict(item.row) for item in load_ab_items(path, made_by="-")] == ROWS


# ---------------------------------------------------------------- behaviours


def test_a_behaviour_is_described_by_its_file(paths: Paths) -> None:
    description = {
        "id": "calm",
        "name": "Calm (or not)",
        "matching": "stays calm",
        "positive_system_prompt": "Be calm.",
        "negative_system_prompt": "Be upset.",
        "rubric": "From 0 to 10: how calm?",
    }
    write_json(paths.description("calm"), description)
    found = behaviors.load("calm", paths)
    assert found == Behavior(**description)
    assert found.system_prompt(None) is None
    assert found.system_prompt("pos") == "Be calm."
    assert found.system_prompt("neg") == "Be upset."


def test_a_behaviour_without_description_has_its_id(paths: Paths) -> None:
    paths.description("calm").unlink()
    assert behaviors.load("calm", paths) == Behavior(id="calm", name="calm")
    assert behaviors.load("calm", paths).system_prompt(None) is None


def test_an_unknown_field_of_a_description_is_refused(paths: Paths) -> None:
    write_json(paths.description("calm"), {"name": "Calm", "postive_system_prompt": "Be it."})
    with pytest.raises(UserError, match=r"unknown field postive_system_prompt.*known are .*name"):
        behaviors.load("calm", paths)


def test_a_new_folder_is_a_new_behaviour(paths: Paths) -> None:
    assert behaviors.available(paths) == ["bold", "calm"]
    write_json(paths.generate_data("brave"), ROWS)
    assert behaviors.available(paths) == ["bold", "brave", "calm"]
    assert [b.id for b in behaviors.load_all(None, paths)] == ["bold", "brave", "calm"]
    assert behaviors.load("brave", paths).name == "brave"


def test_what_is_no_folder_of_data_is_no_behaviour(paths: Paths) -> None:
    (paths.datasets / "generate" / "empty").mkdir()
    (paths.datasets / "generate" / "notes.json").write_text("[]")
    (paths.datasets / "test" / "truthfulqa").mkdir()
    assert behaviors.available(paths) == ["bold", "calm"]


def test_behaviours_come_in_the_order_asked_for_and_once(paths: Paths) -> None:
    found = behaviors.load_all(["calm", "bold", "calm"], paths)
    assert [b.id for b in found] == ["calm", "bold"]


def test_the_data_folder_may_be_named_by_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def folder(*flags: str) -> str:
        return generate_vectors.build_parser().parse_args(["--layers", "1", *flags]).datasets_dir

    monkeypatch.delenv("CAA_DATASETS_DIR", raising=False)
    assert Path(folder()) == REPOSITORY / "datasets"
    monkeypatch.setenv("CAA_DATASETS_DIR", str(tmp_path))
    assert folder() == str(tmp_path)
    assert folder("--datasets_dir", "other") == "other"


# ---------------------------------------------------------------- the bundled data sets


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(rows, list) and rows
    return rows


def splits(behavior: str) -> dict[str, list[dict[str, Any]]]:
    return {
        "generate": rows_of(BUNDLED.generate_data(behavior)),
        "test": rows_of(BUNDLED.test_data(behavior, "ab")),
    }


def plain(question: str) -> str:
    """A question without its choices, case and spacing."""
    return " ".join(question.split("Choices:")[0].lower().split())


def repeated(questions: list[str]) -> list[str]:
    return [text for text, count in Counter(questions).items() if count > 1]


def test_there_are_bundled_behaviours() -> None:
    assert len(BEHAVIORS) >= 3


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_bundled_letters_are_balanced_in_both_splits(behavior: str) -> None:
    for split, rows in splits(behavior).items():
        letters = Counter(answer_letter(row["answer_matching_behavior"]) for row in rows)
        assert set(letters) == {"A", "B"}, f"{split}: {letters}"
        assert abs(letters["A"] / len(rows) - 0.5) <= 0.02, f"{split}: {letters}"


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_bundled_rows_have_the_fields_of_the_paper_and_pass_every_check(behavior: str) -> None:
    for split, rows in splits(behavior).items():
        assert all(set(row) == FIELDS for row in rows), split
    for path in (BUNDLED.generate_data(behavior), BUNDLED.test_data(behavior, "ab")):
        assert load_ab_items(path, made_by="-")
    assert all(
        set(row) == {"question"} and row["question"].strip()
        for row in rows_of(BUNDLED.test_data(behavior, "open_ended"))
    )


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_no_bundled_question_is_asked_twice_within_or_across_splits(behavior: str) -> None:
    asked = [plain(row["question"]) for rows in splits(behavior).values() for row in rows]
    assert repeated(asked) == []
    pairs = [plain(row["question"]) for row in splits(behavior)["generate"]]
    open_ended = rows_of(BUNDLED.test_data(behavior, "open_ended"))
    assert repeated([plain(row["question"]) for row in open_ended]) == []
    assert not {plain(row["question"]) for row in open_ended} & set(pairs)


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_every_bundled_question_shows_both_of_its_choices(behavior: str) -> None:
    for rows in splits(behavior).values():
        for row in rows:
            for field in ("answer_matching_behavior", "answer_not_matching_behavior"):
                assert row["question"].count(f"\n ({answer_letter(row[field])}) ") == 1, row


@pytest.mark.parametrize("behavior", BEHAVIORS)
def test_every_bundled_behaviour_is_described_in_full(behavior: str) -> None:
    found = behaviors.load(behavior, BUNDLED)
    assert found.id == behavior and found.name != behavior
    assert found.matching and found.rubric
    assert found.system_prompt("pos") != found.system_prompt("neg")


@pytest.mark.parametrize(
    ("file", "count", "categories"),
    [
        ("truthfulqa/misconceptions_bundled.json", 102, 17),
        ("mmlu/knowledge_bundled.json", 114, 57),
    ],
)
def test_the_bundled_stand_ins_have_balanced_letters_and_keys_that_fit_their_texts(
    file: str, count: int, categories: int
) -> None:
    rows = json.loads((REPOSITORY / "datasets" / "test" / file).read_text())
    assert (len(rows), len({row["category"] for row in rows})) == (count, categories)
    assert sum(row["correct"] == "(A)" for row in rows) == count // 2
    assert len({row["prompt"] for row in rows}) == count
    for row in rows:
        lines = row["prompt"].splitlines()
        assert f"{row['correct']} {row['correct_full_text']}" in lines
        assert f"{row['incorrect']} {row['incorrect_full_text']}" in lines
        assert {row["correct"], row["incorrect"]} == {"(A)", "(B)"}
