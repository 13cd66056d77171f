"""Answers that one can read: pages of them, loops, and what is told before any judge has run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, cast

import pytest
from markdown_it import MarkdownIt
from running import artifacts, call

from utils.data.evaluation import AB
from utils.errors import UserError
from utils.figures.answer_pages import page
from utils.files.names import Cell, ResultName, Variant
from utils.files.paths import Paths
from utils.plans.sweep_report import changes_table
from utils.scores.loops import find_loop, marked

LOOP = "I see. " + "You are right. " * 12
HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "fence": "```\n# out of the fence\n```",
    "long fence": "text\n``````\n<b>bold</b>\n~~~~",
    "table": "a | b\n--- | ---\n1 | 2",
    "heading": "# Question 9\n\n**unsteered**\n===",
    "control": "bell\x07 \x1b[31mred\x1b[0m\rback\u2028line",
    "empty": "",
    "indented": "    code\n\ttab",
}


def row(answer: str, question: str = "Why?", end: str = "<|im_end|>") -> dict[str, Any]:
    raw = f"<|im_start|>{question}{answer}{end}"
    return {"question": question, "model_output": answer, "raw_model_output": raw}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["answer", "question"])
def test_whatever_is_in_an_answer_is_shown_as_text(text: str, place: str) -> None:
    rows = [row(text) if place == "answer" else row("yes", text), row("the last", "Second?")]
    shown = page("calm, layer 1", {"multiplier −1": rows, "unsteered": rows}).decode()
    tokens = MarkdownIt("commonmark").enable("table").parse(shown)
    kinds = {token.type for token in tokens}
    assert not {"html_block", "table_open", "code_block"} & kinds
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings == ["Answers", "Question 1", "Question 2"]
    fences = [t.content for t in tokens if t.type == "fence"]
    assert len(fences) == 1 + 2 * 3
    kept = "".join(c for c in text if c.isalnum())
    inside = ["".join(c for c in fence if c.isalnum()) for fence in fences[1:4]]
    assert any(kept[:3] in one for one in inside)
    assert not any(c in shown for c in "\x07\x1b\r\u2028")


@pytest.mark.parametrize(
    ("text", "times"),
    [
        (LOOP, 12),
        ("no " * 30, 30),
        ("!" * 60, 60),
        ("One. Two.\n\n" * 5 + "One.", 5),
        ("A plain answer that says everything once and then it ends, as it should.", None),
        ("very very very good", None),
        ("", None),
    ],
)
def test_loops_are_found_where_a_text_ends_in_one(text: str, times: int | None) -> None:
    loop = find_loop(text)
    assert (loop.times if loop else None) == times
    if loop is None:
        assert marked(text, whole=False) == text == marked(text, whole=True)
        return
    piece = text[loop.start : loop.start + loop.period]
    assert (piece * (loop.times + 1)).startswith(text[loop.start :])
    short, whole = marked(text, whole=False), marked(text, whole=True)
    assert f"[repeats {times} times from here]" in short and len(short) < len(text) + 40
    assert short.count(piece) == 1 and text[loop.start :] in whole


class Desk:
    def __init__(self, root: Path, datasets: Path) -> None:
        self.paths = Paths(root, datasets)
        self.flags = ("--artifacts_dir", root, "--datasets_dir", datasets, "--model", "tiny")

    def put(self, behavior: str, strength: float, rows: list[dict[str, Any]]) -> None:
        name = ResultName(1, strength, behavior, Variant("open_ended", model="tiny"))
        path = self.paths.result(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))


def test_a_summary_before_any_judge(
    tmp_path: Path, datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path / "out", datasets)
    for strength, answers in ((-1.0, [LOOP, "one two"]), (0.0, ["one two", "three four"])):
        rows = [row(a, f"{i}?", "" if a == LOOP else "<|im_end|>") for i, a in enumerate(answers)]
        desk.put("calm", strength, rows)
    with pytest.raises(UserError, match=r"not been judged\n.*scoring.py(?s:.*)--summary"):
        call("plot_results", *desk.flags, "--type", "open_ended")
    assert call("plot_results", *desk.flags, "--type", "open_ended", "--summary") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("2 cells have not been judged: scores need ./scoring.py")
    assert "ends %" in out and "50 100" in out
    (table,) = (tmp_path / "out/analysis").glob("summary_*.csv")
    (found,) = csv.DictReader(table.open())
    assert found["proper_ends"] == "-1:0.50 0:1.00" and found["loops"] == "-1:0.50 0:0.00"
    assert found["score_zero"] == "" and found["words"] == "-1:20 0:2"


def test_answers_are_written_on_a_page_with_all_strengths_that_there_are(
    tiny_folder: Path, datasets: Path, tmp_path: Path
) -> None:
    for behavior in ("calm", "bold"):
        items = [{"question": f"What is {n}?"} for n in range(3)]
        (datasets / "test" / behavior / "test_dataset_open_ended.json").write_text(
            json.dumps(items)
        )
    flags = ("--artifacts_dir", tmp_path / "out", "--datasets_dir", datasets)
    model = ("--model", tiny_folder, "--behaviors", "calm")
    call("generate_vectors", "--layers", 1, *flags, *model)
    call("normalize_vectors", *flags)
    steer = ("prompting_with_steering", "--layers", 1, "--type", "open_ended", *flags, *model)
    call(*steer, "--multipliers", 0, 1, "--max_new_tokens", 4)
    call(*steer, "--multipliers", -2, "--max_new_tokens", 4)
    (found,) = (tmp_path / "out/analysis/calm").glob("answers_*.md")
    assert found.name == "answers_layer=1_type=open_ended_model=tiny-llama.md"
    text = found.read_text()
    for title in ("multiplier −2", "unsteered", "multiplier +1"):
        assert text.count(f"**{title}**") == 3
    assert all(f"What is {n}?" in text for n in range(3))
    before = artifacts(tmp_path / "out")
    call(*steer, "--multipliers", -2, 0, 1, "--max_new_tokens", 4)
    assert artifacts(tmp_path / "out") == before


class Sweep:
    """As much of a sweep as its table looks at."""

    def __init__(self, behavior: str, cells: list[Cell]) -> None:
        self.behavior, self.cells, self.test = behavior, cells, AB
        self.variant = Variant("ab", model="m")

    def path(self, cell: Cell, paths: Paths) -> Path:
        return paths.result(ResultName(*cell, self.behavior, self.variant))


@pytest.mark.parametrize("layers", [2, 30])
@pytest.mark.parametrize("unsteered", [True, False])
def test_a_sweeps_table_shows_changes_layer_by_layer_in_80_columns(
    tmp_path: Path, layers: int, unsteered: bool
) -> None:
    paths = Paths(tmp_path, tmp_path)
    sweeps, scores = [], {}
    for behavior in ("corrigible-neutral-HHH", "coordinate-other-ais"):
        sweep = Sweep(behavior, [(n, s) for n in range(layers) for s in (-1.0, 1.0)])
        for layer in range(layers):
            for strength in (-1.0, 1.0, *([0.0] if unsteered else [])):
                p = 0.4 + 0.01 * strength * (layer + 1)
                scores[layer, strength] = p
                answer = {"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}
                rows = [{"question": "?", **answer, "a_prob": p, "b_prob": 1 - p}]
                path = sweep.path((layer, strength), paths)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(rows))
        sweeps.append(sweep)
    text = changes_table(cast(Any, sweeps), paths)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    shown = [line.split() for line in lines if line.startswith("corrigible")]
    assert len(shown) == (layers if layers == 2 else 3), "of many layers, those that change most"
    for _, number, base, *_, last in shown:
        change = scores[int(number), 1.0] - scores.get((int(number), 0.0), 0)
        assert float(last) == pytest.approx(change, abs=1e-3 if not unsteered else 1e-4)
        assert (base == "0.400") == unsteered
    assert ("scores, not changes" in text) == (not unsteered)


def test_behaviours_with_strengths_of_their_own_have_them_in_their_rows(tmp_path: Path) -> None:
    paths, sweeps = Paths(tmp_path, tmp_path), []
    for behavior, size in (("refusal", 0.2), ("sycophancy", 0.4)):
        sweep = Sweep(behavior, [(3, s) for s in (-size, 0.0, size)])
        for _, strength in sweep.cells:
            p = 0.4 + strength / 4
            answer = {"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}
            rows = [{"question": "?", **answer, "a_prob": p, "b_prob": 1 - p}]
            path = sweep.path((3, strength), paths)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows))
        sweeps.append(sweep)
    lines = changes_table(cast(Any, sweeps), paths).splitlines()
    assert lines[-2].split() == [
        "refusal",
        "3",
        "\u22120.2,",
        "+0.2",
        "0.400",
        "\u22120.0500",
        "+0.0500",
    ]
    assert lines[-1].split()[2:] == ["\u22120.4,", "+0.4", "0.400", "\u22120.1000", "+0.1000"]
