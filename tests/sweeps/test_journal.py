"""A journal: what is in it is what was put in, and it survives a kill at any byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from journals import CELLS, HEADER, journal_in, journal_path, values_in
from running import ROOT

from utils.errors import UserError
from utils.sweeps.journal import read_journal

VALUES = [[0.1, 1 / 3], [5e-324, 1.0], [0.7, -1.0], {"text": "naïve\u2028\x85\r\n"}]
OTHER_CELLS = ((2, 1.0), (2, 0.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of four questions, a line each."""
    with journal_in(tmp_path) as journal:
        for number, value in enumerate(VALUES):
            journal.append([number], [[value]])
    return journal.path


def open_again(root: Path) -> None:
    with journal_in(root):
        pass


def test_a_journal_gives_back_its_header_and_its_values_bit_by_bit(
    path: Path, tmp_path: Path
) -> None:
    before = path.read_bytes()
    assert before.count(b"\n") == 1 + len(VALUES)
    with journal_in(tmp_path, OTHER_CELLS) as journal:
        assert tuple(journal.cells) == CELLS, "those of the run that was killed"
        assert journal.finished == set(range(len(VALUES)))
        assert journal.collect(len(VALUES)) == [[value] for value in VALUES]
    assert path.read_bytes() == before
    assert read_journal(path)[0] == HEADER


def test_a_last_line_cut_off_anywhere_is_dropped_and_the_file_goes_on(
    path: Path, tmp_path: Path
) -> None:
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        with journal_in(tmp_path) as journal:
            assert journal.finished == {0, 1, 2}, f"cut off at {length}"
            journal.append([3], [[VALUES[3]]])
        assert path.read_bytes() == whole


def test_a_header_cut_off_is_written_anew(path: Path, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9])
    with journal_in(tmp_path, OTHER_CELLS) as journal:
        assert (tuple(journal.cells), journal.finished) == (OTHER_CELLS, set())
    assert read_journal(path) == (HEADER | {"cells": [[2, 1.0], [2, 0.0]]}, [])


def test_a_part_that_an_older_run_left_with_other_cells_is_begun_anew(
    path: Path, tmp_path: Path
) -> None:
    """The main rank's file says what the cells are; its own file was another rank's before."""
    part = path.with_name(f"{path.name}_rank=1")
    path.rename(part)
    with journal_in(tmp_path, OTHER_CELLS):
        pass
    assert values_in(part) == dict(enumerate(VALUES)), "no other rank's file is touched"
    assert read_journal(path) == (HEADER, []), "one header for all files"
    path.write_bytes(path.read_bytes().replace(b"k", b"l"))
    with pytest.raises(UserError, match="damaged at line 1"):
        open_again(tmp_path)


def test_any_changed_byte_is_an_error_that_names_file_and_line(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        line = whole.count(b"\n", 0, place) + 1
        with pytest.raises(UserError) as caught:
            open_again(tmp_path)
        assert f"{path} is damaged at line {line};" in str(caught.value)
        assert path.read_bytes() == damaged, "a damaged journal is left as it is"


def test_a_line_lost_from_the_middle_is_found(path: Path, tmp_path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\n", *lines[3:]]))
    with pytest.raises(UserError, match="damaged at line 3"):
        open_again(tmp_path)


def test_each_batch_is_on_disk_when_append_returns(path: Path, tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        before = path.stat().st_size
        journal.append([4], [[0.25]])
        added = path.read_bytes()[before:]
    assert added.endswith(b' {"questions": [4], "values": [[0.25]]}\n')


def test_a_value_that_json_cannot_hold_is_not_written(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    with journal_in(tmp_path) as journal, pytest.raises(ValueError, match="JSON"):
        journal.append([4], [[float("nan")]])
    assert path.read_bytes() == before


def test_a_second_handle_on_a_journal_is_refused(path: Path, tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        with pytest.raises(UserError, match="another process"):
            open_again(tmp_path)
        journal.append([4], [["still mine"]])
    assert values_in(path) == dict(enumerate([*VALUES, "still mine"]))


def test_a_journal_of_another_process_is_refused_until_that_ends(
    path: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from journals import journal_in\n"
        "with journal_in(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process"):
            open_again(tmp_path)
        other.kill()
    open_again(tmp_path)
    assert values_in(path) == dict(enumerate(VALUES))


def test_an_error_inside_frees_the_journal(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError), journal_in(tmp_path):
        raise KeyError
    open_again(tmp_path)
    assert values_in(path) == dict(enumerate(VALUES))


def test_a_journal_damaged_before_it_was_locked_is_not_kept_locked(
    path: Path, tmp_path: Path
) -> None:
    kept = [journal_in(tmp_path) for _ in range(2)]
    path.write_bytes(b"?" + path.read_bytes()[1:])
    for journal in kept:
        with pytest.raises(UserError, match="damaged at line 1"), journal:
            pass


def test_a_removed_journal_is_gone(path: Path, tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        journal.remove()
    assert list(path.parent.iterdir()) == []
    with journal_in(tmp_path, OTHER_CELLS) as journal:
        assert (tuple(journal.cells), journal.finished) == (OTHER_CELLS, set())


def test_journals_lie_where_the_paths_say(path: Path, tmp_path: Path) -> None:
    assert path == journal_path(tmp_path)
