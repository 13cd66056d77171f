"""Journals, sums and records whose checksums are right and whose content is not a run's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_json
from journals import write_journal
from running import artifacts, call, hidden

from utils.errors import UserError
from utils.files.contents import read_measured, read_record
from utils.files.paths import record_path
from utils.sweeps.journal import read_journal
from utils.sweeps.sweep import Sweep

Entry = Any


class Killed(Exception):
    pass


class Desk:
    """A sweep that was killed when all its answers were in the journal."""

    def __init__(self, model: Path, datasets: Path, out: Path, kind: str) -> None:
        shared = ("--artifacts_dir", out, "--datasets_dir", datasets)
        self.out, grid = out, ("--layers", 1, "--behaviors", "calm")
        call("generate_vectors", *grid, *shared, "--model", model)
        call("normalize_vectors", *shared)
        strengths = ("--multipliers", 0, 1)
        more = ("--type", kind, "--max_new_tokens", 4, "--batch_rows", 2, "--batch_tokens", 40)
        self.command = (*grid, *strengths, *more, *shared, "--model", model)

    def run(self) -> int:
        return call("prompting_with_steering", *self.command)

    @property
    def journal(self) -> Path:
        (found,) = (self.out / "results/calm").glob(".journal_*")
        return found

    def rewrite(self, change: Callable[[Any, list[Entry]], Any]) -> None:
        """Write the journal anew, whole and with right checksums, after a change."""
        header, entries = read_journal(self.journal)
        header = change(header, entries) or header
        write_journal(self.journal, header, entries)


@pytest.fixture(params=["ab", "open_ended"])
def killed(
    request: pytest.FixtureRequest,
    tiny_folder: Path,
    datasets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    questions = [{"question": q} for q in ("Is it?", "Was it so?", "Will it be?")]
    write_json(datasets / "test" / "calm" / "test_dataset_open_ended.json", questions)
    desk = Desk(tiny_folder, datasets, tmp_path / "out", request.param)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "_write", die)
        with pytest.raises(Killed):
            desk.run()
    return desk


def every_value(entries: list[Entry], value: Any) -> None:
    for entry in entries:
        entry["values"] = [[value for _ in row] for row in entry["values"]]


def edit(key: str, value: Any) -> Callable[[Any, list[Entry]], None]:
    def change(_header: Any, entries: list[Entry]) -> None:
        entries[0][key] = value

    return change


def values(value: Any) -> Callable[[Any, list[Entry]], None]:
    return lambda _, entries: every_value(entries, value)


WRONG: dict[str, Callable[[Any, list[Entry]], Any]] = {
    "another sweep's header": lambda header, _: header | {"key": "0" * 64},
    "cells of another grid": lambda header, _: header | {"cells": [[3, 1.0], [3, 7.0]]},
    "cells that are none": lambda header, _: header | {"cells": [None, {"a": 1}]},
    "no cells": lambda header, _: {"key": header["key"]},
    "a header that is none": lambda _header, _entries: "text",
    "an entry that is none": lambda _, entries: entries.insert(0, 5),
    "an entry without fields": lambda _, entries: entries.insert(0, {}),
    "a question beyond the test": edit("questions", [99]),
    "a negative question": edit("questions", [-1]),
    "a question that is no number": edit("questions", ["0"]),
    "questions that are no list": edit("questions", 0),
    "fewer values than questions": lambda _, entries: entries[0]["values"].clear(),
    "a cell too few": lambda _, entries: entries[0]["values"][0].pop(),
    "a cell too many": lambda _, entries: entries[0]["values"][0].append(
        entries[0]["values"][0][0]
    ),
    "values of nothing": values(None),
    "values that are texts": values("0.5"),
    "values that are truths": values([True, False]),
    "probabilities beyond 1": values([7.0, 0.5]),
    "one probability": values([0.5]),
    "tokens that are none": values({"tokens": ["a"], "near_tie": False}),
    "a negative token": values({"tokens": [-4], "near_tie": False}),
    "an answer without a field": values({"tokens": [4]}),
    "a deep nest": lambda _, entries: entries[0].update(values=nest(400)),
}


def nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("what", WRONG)
def test_a_journal_that_is_whole_and_wrong_is_refused(killed: Desk, what: str) -> None:
    """It says which file to delete; then the sweep gives what it would have given."""
    killed.rewrite(WRONG[what])
    path = killed.journal
    with pytest.raises(UserError, match=r"damaged at line [1-9].*delete it"):
        killed.run()
    assert path.exists(), "it is not deleted unasked"
    path.unlink()
    assert killed.run() == 0
    assert not hidden(killed.out)


def test_a_journal_of_the_run_itself_is_gone_on_with(killed: Desk) -> None:
    killed.rewrite(lambda _header, _entries: None)
    kept = killed.out.with_name("kept")
    shutil.copytree(killed.out, kept)
    assert killed.run() == 0
    (left,) = (kept / "results/calm").glob(".journal_*")
    left.unlink()
    killed.out.rename(killed.out.with_name("first"))
    kept.rename(killed.out)
    assert killed.run() == 0
    assert artifacts(killed.out) == artifacts(killed.out.with_name("first"))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 3,
        "[1]",
        "7",
        '{"sha256": "a"}',
        '{"sha256": "a", "inputs": 5}',
        '{"sha256": "a", "inputs": {}, "measured": [1]}',
        '{"sha256": "a", "inputs": {}, "measured": ' + "9" * 5000 + "}",
        "\ud800",
    ],
)
def test_a_record_that_is_none_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.pt"
    record_path(path).write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (read_record, read_measured):
        with pytest.raises(UserError, match="not a readable record"):
            read(path)


@pytest.mark.parametrize("length", ["long", [1], True, -1.0, {}])
def test_a_length_that_is_none_gives_no_dose(
    tiny_folder: Path, datasets: Path, tmp_path: Path, length: object
) -> None:
    shared = ("--artifacts_dir", tmp_path / "out", "--datasets_dir", datasets)
    grid = ("--layers", 1, "--behaviors", "calm", *shared, "--model", tiny_folder)
    call("generate_vectors", *grid)
    call("normalize_vectors", *shared)
    (record,) = (tmp_path / "out/vectors/calm").glob(".*.record")
    content = json.loads(record.read_text())
    content["measured"]["residual_norm"] = length
    record.write_text(json.dumps(content))
    with pytest.raises(UserError, match="residual_norm is no length"):
        call("prompting_with_steering", *grid, "--doses", 0.1)
