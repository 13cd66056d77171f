"""Any bytes at all, where files and replies are read: a clear refusal, or what was written.

Seeded, so that every run tries the same cases; ``make fuzz`` tries many more (``CAA_FUZZ``).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from journals import journal_in, journal_path, values_in
from running import assert_linear

import behaviors
from utils.data.evaluation import TESTS, read_results
from utils.data.items import load_ab_items, load_open_items
from utils.data.kinds_of_test import Test
from utils.errors import UserError
from utils.files.artifacts import save, torch_bytes
from utils.files.contents import read_record, verify
from utils.files.json_files import json_bytes
from utils.files.names import ResultName
from utils.files.paths import Paths, record_path
from utils.judging.reply.verdict import read_reply
from utils.vectors.stored import read_vector

EXAMPLES = int(os.environ.get("CAA_FUZZ", "150"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

# What JSON can hold and Python's reader accepts: NaN, lone surrogates and huge numbers too.
texts = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    ["(A)", " (B) Yes", "\ud800", "a\x00b", "", " ", "$x^2$", "拒绝", "(A) (B)", "\x1b[31m"]
)
numbers = st.one_of(
    st.integers(), st.floats(), st.just(10**400), st.booleans(), st.sampled_from([-1, 0, 10, 11])
)
values = st.recursive(
    st.none() | texts | numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
PAIR = {
    "question": "Is it?\n\nChoices:\n (A) Yes\n (B) No",
    "answer_matching_behavior": "(A)",
    "answer_not_matching_behavior": "(B)",
}
rows = st.lists(
    st.fixed_dictionaries({}, optional={key: values | st.just(PAIR[key]) for key in PAIR}),
    max_size=3,
)
odd_bytes = st.binary(max_size=60) | st.sampled_from(
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 5_000,
        b"[1e999]",
        b'"\\ud800"',
        b"\xff\xfe{\x00}\x00",
        b"[NaN]",
        b"\xef\xbb\xbf[]",
        b"null",
        b"\x00" * 10,
    ]
)


def lenient(value: Any) -> bytes:
    """JSON as a careless program writes it."""
    return json.dumps(value).encode()


json_like = values.map(lenient) | rows.map(lenient) | odd_bytes


def read(action: Callable[[], Any]) -> Any:
    """What a reader makes of its file: a value, or the user's error, whose message prints."""
    try:
        return action()
    except UserError as error:
        str(error).encode()
        return error


def refused(found: Any) -> bool:
    return isinstance(found, UserError)


@seed(1)
@fuzz
@given(json_like)
def test_a_data_file_gives_items_that_can_be_written_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "data.json"
    path.write_bytes(data)
    for load in (load_ab_items, load_open_items):
        items = read(functools.partial(load, path, made_by="."))
        if not refused(items):
            assert items
            for item in items:
                json_bytes(item.row)
                item.question.encode()
                assert item.question.strip()


@seed(2)
@fuzz
@given(json_like | st.fixed_dictionaries({"name": values, "rubric": values}).map(lenient))
def test_a_description_gives_texts_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "described"
    paths = Paths(root, root)
    paths.description("kind").parent.mkdir(parents=True, exist_ok=True)
    paths.description("kind").write_bytes(data)
    found = read(lambda: behaviors.load("kind", paths))
    if not refused(found):
        assert found.name.strip().encode()


@seed(3)
@fuzz
@given(json_like | st.fixed_dictionaries({"sha256": values, "inputs": values}).map(lenient))
def test_a_record_is_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "artefact.bin"
    path.write_bytes(b"content")
    record_path(path).write_bytes(data)
    found = read(lambda: read_record(path))
    if not refused(found):
        assert isinstance(found["sha256"], str)
        assert isinstance(found["inputs"], dict)
    # whatever the record says, it cannot vouch for bytes that are not those recorded
    assert refused(read(lambda: verify(path)))


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """One file with a byte changed, cut off, or bytes put in."""
    place = st.integers(0, len(data) - 1)
    changed = st.tuples(place, st.integers(0, 255)).map(
        lambda p: data[: p[0]] + bytes([p[1]]) + data[p[0] + 1 :]
    )
    cut = place.map(lambda n: data[:n])
    more = st.tuples(place, st.binary(min_size=1, max_size=8)).map(
        lambda p: data[: p[0]] + p[1] + data[p[0] :]
    )
    return changed | cut | more


VECTOR = torch.linspace(-1, 1, 8)
VECTOR_BYTES = torch_bytes(VECTOR)
other_files = st.sampled_from(
    [
        torch_bytes({"a": VECTOR}),
        torch_bytes(VECTOR.reshape(2, 4)),
        torch_bytes(VECTOR.to(torch.int32)),
        torch_bytes(VECTOR.to_sparse()),
        torch_bytes(VECTOR / 0),
        torch_bytes(VECTOR[:7].clone()),
    ]
)


@seed(4)
@fuzz
@given(damaged(VECTOR_BYTES) | st.binary(max_size=200) | other_files)
def test_a_vector_is_the_one_recorded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "vec_layer_0_m.pt"
    save(path, VECTOR_BYTES, {"seed": 0})
    path.write_bytes(data)
    found = read(lambda: read_vector(path, made_by=".", width=8).tensor)
    assert refused(found) == (data != VECTOR_BYTES)
    # without a record it is a finite vector of this width, whatever it says
    record_path(path).unlink()
    found = read(lambda: read_vector(path, made_by=".", width=8).tensor)
    assert refused(found) or (found.shape == (8,) and bool(found.isfinite().all()))


def journal_bytes(folder: Path, entries: int) -> bytes:
    journal_path(folder).unlink(missing_ok=True)
    with journal_in(folder) as journal:
        for i in range(entries):
            journal.append([i], [[[0.25 * i, None, "text " * i]]])
    return journal.path.read_bytes()


@seed(5)
@fuzz
@given(st.data())
def test_a_damaged_journal_gives_its_first_entries_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = journal_bytes(folder, 3)
    path = journal_path(folder)
    path.write_bytes(whole)
    values = values_in(path)
    path.write_bytes(data.draw(damaged(whole) | st.binary(max_size=80)))

    def resume() -> dict[int, Any]:
        with journal_in(folder):
            return values_in(path)

    found = read(resume)
    if not refused(found):
        assert found == {number: values[number] for number in range(len(found))}


pieces = st.sampled_from(
    [
        "7", "10", " 3/10", "score:", "Score: 8", "\n", "1. ", "2) ", "0 to 10", "from 0 to 10",
        "six", "out of ten", "<think>", "</think>", "I'd give", "not", "7.5", "-", "–", "of",
        "```", "**", "  ", "\t", "%", "a", "because", "\x1b[2J", "11", "1e5", "７", "٣", "NaN",
    ]
)  # fmt: skip
replies = st.lists(pieces | texts, max_size=12).map(" ".join)


@seed(6)
@fuzz
@given(replies, replies)
def test_a_reply_gives_a_score_on_the_scale_or_none_and_thinking_changes_nothing(
    reply: str, thinking: str
) -> None:
    score = read_reply(reply).score
    assert score is None or 0 <= score <= 10
    if not any(mark in reply for mark in "<[&◁") and reply.strip():
        assert read_reply(f"<think>{thinking}</think>\n{reply}").score == score
        assert read_reply(f"{thinking}</think>\n{reply}").score == score


@seed(7)
@settings(fuzz, max_examples=max(20, EXAMPLES // 20))
@given(st.lists(pieces | texts, min_size=1, max_size=3).map("".join), replies)
def test_a_long_reply_is_read_in_time_that_grows_with_its_length(part: str, end: str) -> None:
    # quadratic patterns take minutes here
    assert_linear(lambda length: read_reply((part * length)[:length] + end), 64_000)


SCORE_ROW = {"question": texts, "score": values}
AB_ROW = {"a_prob": values | st.floats(0, 1), "b_prob": values, **dict.fromkeys(PAIR, values)}
result_rows: list[st.SearchStrategy[Any]] = [
    st.lists(st.fixed_dictionaries(row), min_size=1, max_size=3) for row in (SCORE_ROW, AB_ROW)
]
result_files = json_like | st.one_of(result_rows).map(lenient)


@seed(9)
@fuzz
@given(result_files)
def test_a_result_file_gives_scores_on_the_scale_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "results_any.json"
    path.write_bytes(data)
    for test, highest in ((TESTS["open_ended"], 10), (TESTS["ab"], 1)):

        def scores(test: Test = test) -> Any:
            return test.scores(read_results(path), str(path))

        found = read(scores)
        if not refused(found):
            known = found[~np.isnan(found)]
            assert ((known >= 0) & (known <= highest)).all()


@seed(8)
@fuzz
@given(st.lists(st.sampled_from(
    ["results_", "layer=1", "_", "multiplier=1.0", "behavior=", "type=ab", "model=m", ".json",
     "dose=0.2", "=", "limit=3", "layer=01", "-0.0", "nan", "use_base_model=False", "é"]
) | texts, max_size=10).map("".join))  # fmt: skip
def test_a_file_name_is_read_as_what_would_be_written_so_or_not_at_all(name: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        found = ResultName.parse(name)
    assert found is None or found.filename() == name
