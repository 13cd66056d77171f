"""Values on the command line as people write them, ids that names can hold, short messages."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest
from conftest import ROWS, write_json
from running import ROOT, call

import behaviors
from utils.cli import variant_arguments
from utils.data.evaluation import TESTS
from utils.data_checks.folder import check_folder
from utils.errors import UserError
from utils.files.names import ResultName, Variant
from utils.files.paths import Paths
from utils.text.listing import cut, numbered, shortened

NEGATIVE = ["-1e-2", "-1E5", "-.5", "-5.", "-0", "-1e+3", "-2.5e-1", "-1_0"]
WITH_STRENGTHS = ["prompting_with_steering", "plot_results", "scoring"]


def parser_of(script: str) -> argparse.ArgumentParser:
    found = importlib.import_module(script).build_parser()
    assert isinstance(found, argparse.ArgumentParser)
    return found


# ---------------------------------------------------------------- negative numbers


@pytest.mark.parametrize("text", NEGATIVE)
@pytest.mark.parametrize("flag", ["multipliers", "doses"])
@pytest.mark.parametrize("script", WITH_STRENGTHS)
def test_a_negative_number_is_a_value_however_it_is_written(
    script: str, flag: str, text: str
) -> None:
    more = ["--type", "ab", "--layers", "1"] if script == "prompting_with_steering" else []
    args = parser_of(script).parse_args([f"--{flag}", text, "0", text, *more])
    assert getattr(args, flag) == [float(text), 0.0, float(text)]


@pytest.mark.parametrize("text", ["-inf", "-nan", "-1e999", "-1,5", "-1e", "-Infinity"])
@pytest.mark.parametrize("script", WITH_STRENGTHS)
def test_what_begins_as_a_number_and_is_none_is_named(
    script: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser_of(script).parse_args(["--multipliers", "1", text])
    assert caught.value.code == 2
    assert text in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.stem)
def test_every_script_takes_negative_numbers_for_values(path: Path) -> None:
    if "def build_parser" not in path.read_text():
        pytest.skip("no script")
    for action in parser_of(path.stem)._actions:
        assert not [flag for flag in action.option_strings if flag[1:2].isdigit()]
    number = parser_of(path.stem)._negative_number_matcher
    assert all(number.match(text) for text in NEGATIVE)


# ---------------------------------------------------------------- ids of behaviours

GOOD_IDS = [
    "calm",
    "corrigible-neutral-HHH",
    "a_b",
    "v1.5",
    "C++",
    "拒绝回答",
    "café",
    "ab_type",
    "2",
]
BAD_IDS = [
    "x_type=ab", "x=y", "a b", "x_behavior=y", ".hidden", "-x", "_x", "cafe\u0301", "a\tb", "a\nb",
    "a*", "a?b", "a[1]", "$HOME", "a;b", "open_ended_scores", "a\u200bb", "a\u00a0b", "~x", "'x'",
    "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("behavior", GOOD_IDS)
def test_a_good_id_is_read_back_from_every_name(tmp_path: Path, behavior: str) -> None:
    behaviors.check_id(behavior)
    paths = Paths(tmp_path, tmp_path)
    for more in ({}, {"limit": 3, "model": "x_limit=8"}, {"system_prompt": "pos", "model": "m"}):
        name = ResultName(1, -0.5, behavior, Variant("ab", **more))
        assert ResultName.parse(name.filename()) == name
        write_json(paths.result(name), [])
        assert name in paths.results_of(behavior)


@pytest.mark.parametrize("behavior", BAD_IDS)
def test_an_id_that_names_cannot_hold_is_refused_with_what_they_can(
    tmp_path: Path, behavior: str
) -> None:
    paths = Paths(tmp_path, tmp_path)
    write_json(paths.generate_data(behavior), ROWS)
    with pytest.raises(UserError, match=r"letters, digits and - _ \. \+|NFC") as caught:
        behaviors.load(behavior, paths)
    assert str(caught.value).isprintable() and str(caught.value).isascii()
    if behavior.startswith("."):
        assert behaviors.available(paths) == []
        return
    with pytest.raises(UserError, match="rename"):
        behaviors.load_all(None, paths)
    findings = [f for f in check_folder(paths, None).errors if "rename" in f.message]
    assert [f.behavior for f in findings] == [behavior]


def test_raw_data_of_such_an_id_are_refused_before_any_file_is_written(tmp_path: Path) -> None:
    rows = [
        row | {"question": f"{number} {row['question']}"} for number in range(9) for row in ROWS
    ]
    for behavior in ("calm", "x=y"):
        write_json(tmp_path / "raw" / behavior / "dataset.json", rows)
    with pytest.raises(UserError, match="'x=y'"):
        call("process_raw_datasets", "--datasets_dir", tmp_path)
    assert not (tmp_path / "generate").exists()


# ---------------------------------------------------------------- long lists


@pytest.mark.parametrize("layers", [range(4, 20_004), range(4, 40_004, 2)])
def test_thousands_of_wrong_layers_are_a_short_message(
    tmp_path: Path, datasets: Path, tiny_folder: Path, layers: range
) -> None:
    flags = ("--datasets_dir", datasets, "--artifacts_dir", tmp_path, "--model", tiny_folder)
    with pytest.raises(UserError, match=r"has layers 0 to 3") as caught:
        call("generate_vectors", "--layers", *layers, *flags)
    assert len(str(caught.value)) < 500 and "4" in str(caught.value)


def test_thousands_of_behaviours_are_a_short_message(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path)
    for number in range(1000):
        write_json(paths.generate_data(f"behaviour-{number}"), [])
    with pytest.raises(
        UserError, match=r"unknown behaviour 'calm'.* and 9[0-9][0-9] more"
    ) as caught:
        behaviors.load("calm", paths)
    assert len(str(caught.value)) < 600


def test_lists_in_messages() -> None:
    assert shortened(["a", "b"]) == "a, b" and shortened([]) == "none"
    assert shortened(["x" * 400, "b"]) == f"{'x' * 400} and 1 more"
    assert numbered(range(32)) == " ".join(map(str, range(32)))
    assert numbered(range(3, 901)) == "$(seq 3 900)"
    assert numbered([5, *range(7, 5000)]).startswith("5 7 8 ")
    assert numbered([5, *range(7, 5000)]).endswith(" more")
    assert (
        cut("short\n" + "x" * 10_000)
        == f"short\n{'x' * 1500} [... 7000 characters ...] {'x' * 1500}"
    )


def test_every_kind_of_test_has_a_flag_and_a_name_that_is_read_back() -> None:
    parser = argparse.ArgumentParser()
    variant_arguments.add_type_argument(parser)
    kinds = ["ab", "open_ended", "truthful_qa", "mmlu"]
    kinds += ["bundled_misconceptions", "bundled_knowledge"]
    found = [variant_arguments.test_type(parser.parse_args(["--type", kind])) for kind in kinds]
    found.append(variant_arguments.test_type(parser.parse_args(["--type", "mmlu", "--mmlu_full"])))
    assert found == [*kinds, "mmlu_full"] and sorted(found) == sorted(TESTS)
    for kind in found:
        name = ResultName(3, -0.5, "calm", Variant(kind, system_prompt="pos", model="m"))
        assert ResultName.parse(name.filename()) == name
        test = TESTS[kind]
        assert (test.type, test.judged, test.free_text) == (kind, *[kind == "open_ended"] * 2)
        assert test.of_behavior == (kind in ("ab", "open_ended"))
        assert test.scale.level == ((0, 10) if kind == "open_ended" else (0, 1))
