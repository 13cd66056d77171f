"""report.py as an artefact: made once, made again for more, refused for less; and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import write_json
from result_desk import LAYERS, MODEL, MULTIPLIERS, Desk
from running import call, every_file

from utils.errors import UserError
from utils.files.contents import read_record, sha256_file
from utils.files.names import ResultName, Variant
from utils.report.markup import SCRIPT, STYLE


@pytest.fixture
def desk(tmp_path: Path, datasets: Path) -> Desk:
    return Desk(tmp_path / "made", datasets).fill()


def report(desk: Desk, *more: object) -> str:
    """Make the page of the desk's model; its text."""
    assert call("report", *desk.flags, "--model", MODEL, *more) == 0
    return desk.paths.page(MODEL).read_text(encoding="utf-8")


def test_the_same_results_make_the_same_bytes_and_then_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    first = report(desk)
    out = capsys.readouterr().out.splitlines()
    place = desk.paths.page(MODEL)
    assert out[0] == f"wrote {place}" and out[-1] == str(place)
    before = every_file(desk.paths.artifacts)
    report(desk)
    assert "nothing to do" in capsys.readouterr().out
    assert every_file(desk.paths.artifacts) == before
    place.unlink()
    assert report(desk) == first


def test_more_results_are_shown_and_fewer_are_refused(desk: Desk) -> None:
    first = report(desk)
    added = desk.put("calm", 3, 1.0)
    second = report(desk)
    assert second != first and added.name not in first and added.name in second
    added.unlink()
    with pytest.raises(UserError, match=r"layer=3_multiplier=1\.0"):
        report(desk)
    assert desk.paths.page(MODEL).read_text(encoding="utf-8") == second
    assert report(desk, "--overwrite") == first


def test_a_file_that_came_from_elsewhere_is_kept(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    place = desk.paths.page(MODEL)
    place.parent.mkdir()
    place.write_text("mine")
    assert report(desk) == "mine" and "kept (no record" in capsys.readouterr().out
    assert report(desk, "--overwrite").startswith("<!doctype html>")


def test_the_page_goes_where_it_is_asked_for(desk: Desk, tmp_path: Path) -> None:
    place = tmp_path / "deep" / "page.html"
    assert call("report", *desk.flags, "--model", MODEL, "--out", place) == 0
    record = read_record(place)
    assert record is not None and record["sha256"] == sha256_file(place)
    assert len(record["inputs"]["sources"]["results/calm, multipliers: type=ab_model=tiny-llama"]) \
        == len(LAYERS) * len(MULTIPLIERS)  # fmt: skip
    assert not desk.paths.page(MODEL).exists()


def test_every_record_stands_on_the_page(desk: Desk, tmp_path: Path) -> None:
    text = report(desk)
    for path in (desk.paths.artifacts / "results").rglob("*.json"):
        assert f"{sha256_file(path)}  results/{path.parent.name}/{path.name}" in text
    assert "no record: these files came from elsewhere" in text


def test_what_was_not_run_is_named_with_its_command(desk: Desk) -> None:
    text = report(desk)
    where = f"--model {MODEL} --artifacts_dir {desk.paths.artifacts}"
    top = "--layers 2 --multipliers -1 0 1"
    for command in (
        f"./prompting_with_steering.py --type ab {top} --controls random shuffled letter others",
        f"./prompting_with_steering.py --type ab {top} --both_orders",
        f"./tune.py --behaviors bold calm {where}",
        f"./prompting_with_steering.py --type open_ended {top} --behaviors bold calm {where}",
        f"./report.py --token_heat_maps 2 {where}",
    ):
        assert command in text
    assert "--layers all" not in text


def test_a_page_of_some_behaviours_has_a_name_of_its_own(desk: Desk) -> None:
    whole = report(desk)
    assert report(desk, "--behaviors", "bold") == whole
    text = desk.paths.page(MODEL, "_behaviors=bold").read_text(encoding="utf-8")
    assert "<h2>Bold</h2>" in text and "<h2>Calm</h2>" not in text
    assert report(desk, "--behaviors", "calm", "bold") == whole, "the part is the whole"


def test_answers_are_limited_and_unjudged_ones_say_so(
    desk: Desk, datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": f"{n}?", "model_output": f"answer {n}", "raw_model_output": ""}
        for n in range(5)
    ]
    for multiplier in MULTIPLIERS:
        name = ResultName(1, multiplier, "calm", Variant("open_ended", model=MODEL))
        write_json(desk.paths.result(name), rows)
    text = report(desk, "--limit_answers", 3)
    assert "answer 2" in text and "answer 3" not in text
    assert "1 more question of 5 (--limit_answers 5 for all)" in text
    assert "./scoring.py --behaviors calm" in text
    assert "answer 4" in report(desk)


def test_nothing_at_all_says_how_to_begin(tmp_path: Path, datasets: Path) -> None:
    desk = Desk(tmp_path / "made", datasets)
    with pytest.raises(
        UserError, match=r"Make them with: \./prompting_with_steering\.py --type ab"
    ):
        report(desk)
    desk.fill(["calm"])
    with pytest.raises(UserError, match="There are some of: --model tiny-llama"):
        call("report", *desk.flags, "--model", "smollm2-135m")
    with pytest.raises(UserError, match="unknown behaviour"):
        report(desk, "--behaviors", "brave")


def test_wrong_flags_and_damaged_results_are_errors(desk: Desk) -> None:
    with pytest.raises(UserError, match="--token_heat_maps takes 0"):
        report(desk, "--token_heat_maps", -1)
    path = desk.put("calm", 0, 1.0)
    rows = json.loads(path.read_text())
    write_json(path, [{key: row[key] for key in row if key != "a_prob"} for row in rows])
    with pytest.raises(UserError, match="no result of type ab"):
        report(desk)
    assert not desk.paths.page(MODEL).exists()


def test_token_maps_need_vectors_and_questions(
    desk: Desk, datasets: Path, tiny_folder: Path
) -> None:
    with pytest.raises(UserError, match="no behaviour of this page has open-ended questions"):
        report(desk, "--token_heat_maps", 1)
    write_json(desk.paths.test_data("calm", "open_ended"), [{"question": "Is it?"}])
    with pytest.raises(UserError, match=r"missing vector .*calm/vec_layer_2_tiny-llama\.pt"):
        report(desk, "--token_heat_maps", 1)


def test_one_layer_names_the_command_for_all(tmp_path: Path, datasets: Path) -> None:
    desk = Desk(tmp_path / "made", datasets)
    for multiplier in MULTIPLIERS:
        desk.put("calm", 1, multiplier)
    text = report(desk)
    assert "Layer 1, the only one measured." in text and '<table class="heat"' not in text
    assert "--type ab --layers all --multipliers -1 0 1 --behaviors calm" in text


def test_a_page_that_is_large_says_how_to_make_it_smaller(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report(desk)
    assert "--limit_answers" not in capsys.readouterr().out
    monkeypatch.setattr("report.LARGE", 10_000)
    report(desk, "--limit_answers", 5)
    assert "the page has 0 MB; --limit_answers makes it smaller" in capsys.readouterr().out


def test_its_code_is_small_and_fetches_nothing() -> None:
    style, script = STYLE.read_text(), SCRIPT.read_text()
    assert len(style) + len(script) < 40_000
    assert "url(" not in style and "@import" not in style
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "fetch(",
        "eval",
    ):
        assert word not in script
