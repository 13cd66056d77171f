"""Every type of test from vectors to plots; published files; the summary's numbers."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUESTIONS, ROWS, decoded, write_json
from running import artifacts, call, has_row, hidden

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.processing import letter_choice
from utils.errors import UserError
from utils.files.names import ResultName, Variant
from utils.files.paths import Paths
from utils.models.choice import choose_model
from utils.scores.summary import distinct_3_grams
from utils.stats import mean_of_scores, slopes
from utils.text.terminal_tables import side_by_side

LETTER_TYPES = ("ab", "truthful_qa", "mmlu", "bundled_misconceptions", "bundled_knowledge")
FILES = {
    "truthful_qa": "truthfulqa/truthful_qa",
    "mmlu": "mmlu/mmlu",
    "mmlu_full": "mmlu/mmlu_full",
    "bundled_misconceptions": "truthfulqa/misconceptions_bundled",
    "bundled_knowledge": "mmlu/knowledge_bundled",
}


def choice_rows(count: int) -> list[dict[str, str]]:
    generator = random.Random(1)
    return [
        letter_choice(QUESTIONS[i % 8], f"yes {i}", f"no {i}", f"kind {i % 3}", generator)
        for i in range(count)
    ]


@pytest.fixture
def flags(datasets: Path, tiny_folder: Path, tmp_path: Path) -> tuple[object, ...]:
    """Vectors are ready, and every kind of test has a data file."""
    for number, file in enumerate(FILES.values()):
        write_json(datasets / f"test/{file}.json", choice_rows(7 + number))
    for name in ("calm", "bold"):
        rows = [{"question": q} for q in QUESTIONS[:5]]
        write_json(datasets / f"test/{name}/test_dataset_open_ended.json", rows)
    given = (
        "--datasets_dir",
        datasets,
        "--artifacts_dir",
        tmp_path / "out",
        "--model",
        tiny_folder,
    )
    call("generate_vectors", "--layers", 0, 1, 3, *given)
    call("normalize_vectors", *given[:4])
    return given


def steer(flags: tuple[object, ...], *more: object) -> int:
    grid = ("--layers", 1, 3, "--multipliers", -1, 0, 1)
    return call("prompting_with_steering", *grid, *flags, *more)


def results(tmp_path: Path, kind: str, behavior: str = "calm") -> dict[tuple[int, float], list]:
    paths = Paths(tmp_path / "out", tmp_path / "datasets")
    names = [n for n in paths.results_of(behavior) if n.variant.type == kind]
    return {(n.layer, n.strength): json.loads(paths.result(n).read_text()) for n in names}


def load(tiny_folder: Path) -> LlamaWrapper:
    return LlamaWrapper.load(choose_model(str(tiny_folder), None, False), device="cpu")


@pytest.mark.parametrize("kind", [*LETTER_TYPES, "mmlu_full"])
def test_a_letter_test_from_steering_to_plots(
    flags: tuple[object, ...], tmp_path: Path, tiny_folder: Path, kind: str
) -> None:
    options = ("--type", "mmlu", "--mmlu_full") if kind == "mmlu_full" else ("--type", kind)
    assert steer(flags, *options) == 0
    found = results(tmp_path, kind)
    assert len(found) == 6
    wrapper = load(tiny_folder)
    vector = torch.load(tmp_path / "out/normalized_vectors/calm/vec_layer_3_tiny-llama.pt")
    assert len(found[3, -1.0]) >= 5
    for row in found[3, -1.0]:
        prompt = wrapper.prompt_format().letter_prompt(row["question"], ("A", "B"))
        with wrapper.steer({3: -vector}, prompt.steer_from):
            logits = wrapper.next_logits(prompt.ids)
        a, b = letter_probabilities(logits, list(prompt.letters.values())).tolist()
        assert row["a_prob"] == pytest.approx(a, abs=1e-6)
        assert row["b_prob"] == pytest.approx(b, abs=1e-6)
    if kind != "ab":
        wanted = ["question", "correct", "incorrect", "a_prob", "b_prob", "category"]
        assert list(found[1, 1.0][0]) == wanted
    before = artifacts(tmp_path / "out")
    assert steer(flags, *options) == 0
    assert artifacts(tmp_path / "out") == before, "a second run does nothing"
    assert call("plot_results", *flags, *options, "--summary") == 0
    pictures = [p.name for p in (tmp_path / "out/analysis/calm").glob("*.png")]
    assert any(name.startswith("LAYER_SWEEP_") for name in pictures)
    assert any(name.startswith("categories_") for name in pictures) == (kind != "ab")
    assert hidden(tmp_path / "out") == []


def test_open_ended_answers_are_printed_side_by_side(
    flags: tuple[object, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--type", "open_ended", "--behaviors", "calm", "--max_new_tokens", 4)
    for shown in (2, 0):
        assert steer(flags, *options, "--show_answers", shown) == 0
        out = capsys.readouterr().out
        found = results(tmp_path, "open_ended")
        for layer in (1, 3):
            for number, row in enumerate(found[layer, 0.0]):
                title = f"calm, layer {layer}: {row['question'].split()[0]}"
                assert (title in out) == (number < shown)
        assert out.count("unsteered") == 2 * shown


def test_answers_side_by_side_keep_their_text_whatever_is_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    text = side_by_side("[b]Why?[/b]", {"dose -0.3": "[red]x [/] y", "unsteered": "no " * 30})
    lines = text.splitlines()
    assert lines[0] == "[b]Why?[/b]" and "[red]x [/] y" in text
    assert text.count("no") == 30 and max(map(len, lines)) <= 90


def test_a_category_mean_weighs_categories_not_questions(
    flags: tuple[object, ...], tmp_path: Path
) -> None:
    steer(flags, "--type", "truthful_qa", "--behaviors", "calm")
    call("plot_results", *flags, "--type", "truthful_qa", "--behaviors", "calm")
    cells = results(tmp_path, "truthful_qa")

    def by_kind(layer: int) -> dict[str, list[float]]:
        scores: dict[str, list[float]] = {}
        for row in cells[layer, 1.0]:
            share = row["a_prob"] / (row["a_prob"] + row["b_prob"])
            score = share if row["correct"] == "(A)" else 1 - share
            scores.setdefault(row["category"], []).append(score)
        return scores

    assert len({len(s) for s in by_kind(1).values()}) > 1, "categories of different sizes"
    mean = np.mean([np.mean(s) for s in by_kind(1).values()])
    table = next((tmp_path / "out/analysis/calm").glob("LAYER_SWEEP*.txt")).read_text()
    assert has_row(table, layer="1", multiplier="1", mean=f"{mean:.6f}")
    (path,) = (tmp_path / "out/analysis/calm").glob("categories_layer=?_*.txt")
    shown = by_kind(int(path.name.split("=")[1][0]))
    assert len(shown) > 1
    for kind, scores in shown.items():
        expected = {"category": kind, "multiplier": "1", "mean": f"{np.mean(scores):.6f}"}
        assert has_row(path.read_text(), **expected)
    tex = next((tmp_path / "out/analysis/calm").glob("categories*.tex")).read_text()
    assert "better & worse & same & too few" in tex and "& 0 & 0 & 1 & 0" in tex


def test_open_ended_answers_from_steering_to_plots(
    flags: tuple[object, ...],
    tmp_path: Path,
    tiny_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--type", "open_ended", "--max_new_tokens", 9)
    assert steer(flags, *options, "--batch_rows", 7) == 0
    found = results(tmp_path, "open_ended")
    assert len(found) == 6
    wrapper = load(tiny_folder)
    vector = torch.load(tmp_path / "out/normalized_vectors/calm/vec_layer_1_tiny-llama.pt")
    assert len(found[1, 1.0]) == 5
    for row in found[1, 1.0]:
        prompt = wrapper.prompt_format().open_prompt(row["question"])
        with wrapper.steer({1: vector}, prompt.steer_from):
            (tokens,) = wrapper.generate([prompt.ids], max_new_tokens=9)
        assert list(row) == ["question", "model_output", "raw_model_output"]
        answer = decoded(wrapper.tokenizer, tokens, skip_special_tokens=True)
        assert row["model_output"] == answer.strip()
        assert row["raw_model_output"] == decoded(wrapper.tokenizer, [*prompt.ids, *tokens])
        assert "<|im_start|>assistant" in row["raw_model_output"]
    assert found[1, 0.0] == found[3, 0.0]
    before = artifacts(tmp_path / "out")
    assert steer(flags, *options) == 0
    assert artifacts(tmp_path / "out") == before, "a second run does nothing"
    with pytest.raises(UserError, match=r"not been judged\nJudge them with: ./scoring.py"):
        call("plot_results", *flags, "--type", "open_ended")
    judged(tmp_path, {"calm": found, "bold": results(tmp_path, "open_ended", "bold")})
    plot = (*flags, "--type", "open_ended")
    assert call("plot_results", *plot, "--layers", 1, "--summary") == 0
    table = next((tmp_path / "out/analysis/calm").glob("multipliers*layer=1*.txt")).read_text()
    # one score of five is missing at multiplier 1: the mean is that of the others
    assert has_row(table, variant="plain", multiplier="1", mean="7.000000", n="4")
    assert has_row(table, variant="plain", multiplier="0", mean="3.000000", n="5")
    assert list((tmp_path / "out/analysis").glob("MULTIPLIERS_layer=1*.png"))
    paths = Paths(tmp_path / "out", tmp_path / "datasets")
    paths.scores(ResultName(1, 1.0, "bold", Variant("open_ended", model="tiny-llama"))).unlink()
    capsys.readouterr()
    with pytest.raises(UserError, match=r"now there are fewer; gone \(1\).*bold.*=1.0\n.*--over"):
        call("plot_results", *plot, "--layers", 1)
    assert call("plot_results", *plot, "--layers", 1, "--overwrite") == 0
    assert "1 cell has not been judged: scores need ./scoring.py --behaviors bold" in (
        capsys.readouterr().out
    )
    summary = next((tmp_path / "out/analysis").glob("summary_type=open_ended*.csv"))
    row = next(r for r in csv.DictReader(summary.open()) if r["behavior"] == "calm")
    assert row["missing_scores"] == "-1:0 0:0 1:1"
    assert float(row["score_positive"]) == 7


def judged(tmp_path: Path, found: dict[str, dict[tuple[int, float], list]]) -> None:
    """Files as scoring.py writes them: 3 + 4 x multiplier, one score missing at +1."""
    paths = Paths(tmp_path / "out", tmp_path / "datasets")
    for behavior, cells in found.items():
        for (layer, multiplier), rows in cells.items():
            name = ResultName(
                layer, multiplier, behavior, Variant("open_ended", model="tiny-llama")
            )
            scored = [r | {"score": 3 + 4 * max(0, multiplier)} for r in rows]
            if multiplier == 1:
                scored[2]["score"] = None
            write_json(paths.scores(name), scored)


def test_missing_benchmark_data_name_the_download_and_the_stand_in(
    flags: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "datasets/test/truthfulqa/truthful_qa.json").unlink()
    with pytest.raises(UserError, match=r"(?s)--download.*--type bundled_misconceptions"):
        steer(flags, "--type", "truthful_qa")
    with pytest.raises(UserError, match="--mmlu_full goes with --type mmlu"):
        steer(flags, "--type", "ab", "--mmlu_full")


def test_stand_ins_never_bear_the_benchmarks_name(
    flags: tuple[object, ...], tmp_path: Path
) -> None:
    steer(flags, "--type", "bundled_knowledge", "--behaviors", "calm")
    call("plot_results", *flags, "--type", "bundled_knowledge", "--behaviors", "calm")
    made = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and "vec" not in p.name]
    assert made and all("bundled_knowledge" in p.name for p in made)
    assert not any("truthful" in p.name or "mmlu" in p.name for p in made)


@pytest.mark.parametrize("size", ["7b", "13b"])
def test_published_files_are_read_as_they_are(datasets: Path, tmp_path: Path, size: str) -> None:
    paths = Paths(tmp_path / "out", datasets)
    rows: list[dict[str, Any]] = [
        row | {"a_prob": 0.2 + 0.05 * i, "b_prob": 0.3} for i, row in enumerate(ROWS[:6])
    ]
    rows[0] |= {"answer_matching_behavior": "(C)"}
    for layer in (10, 13):
        for multiplier in (-1.0, 0.0, 1.0):
            name = ResultName(
                layer, multiplier, "calm", Variant("ab", use_base_model=False, model_size=size)
            )
            write_json(paths.result(name), rows)
    given = ("--datasets_dir", datasets, "--artifacts_dir", tmp_path / "out")
    assert call("plot_results", *given, "--model_size", size, "--behaviors", "calm") == 0
    shares = [0.0]
    for row in rows[1:]:
        letter = row["answer_matching_behavior"][1].lower()
        shares.append(row[f"{letter}_prob"] / (row["a_prob"] + row["b_prob"]))
    table = next((tmp_path / "out/analysis/calm").glob("LAYER_SWEEP*.txt")).read_text()
    assert has_row(table, layer="13", multiplier="1", mean=f"{np.mean(shares):.6f}")


def test_the_summary_holds_independent_slopes(flags: tuple[object, ...], tmp_path: Path) -> None:
    grid = ("--layers", 1, "--multipliers", -2, -1, 0, 1, "--behaviors", "calm")
    call("prompting_with_steering", *grid, *flags)
    call("plot_results", *flags, "--behaviors", "calm", "--summary")
    found = results(tmp_path, "ab")
    multipliers = [-2.0, -1.0, 0.0, 1.0]
    fits = []
    for i in range(6):
        row = [found[1, m][i] for m in multipliers]
        sign = 1 if row[0]["answer_matching_behavior"] == "(A)" else -1
        logits = [sign * (np.log(r["a_prob"]) - np.log(r["b_prob"])) for r in row]
        fits.append(np.polyfit(multipliers, logits, 1)[0])
    summary = next((tmp_path / "out/analysis").glob("summary_type=ab*.csv"))
    (shown,) = csv.DictReader(summary.open())
    assert float(shown["steerability"]) == pytest.approx(np.mean(fits), abs=1e-4)
    low, high = float(shown["steerability_low95"]), float(shown["steerability_high95"])
    assert low < np.mean(fits) < high
    assert float(shown["anti_steerable_fraction"]) == pytest.approx(
        np.mean(np.array(fits) < 0), abs=1e-3
    )
    mass = dict(part.split(":") for part in shown["p_a_plus_p_b"].split())
    expected = np.mean([r["a_prob"] + r["b_prob"] for r in found[1, -2.0]])
    assert float(mass["-2"]) == pytest.approx(expected, abs=1e-3)


def test_slopes_and_category_means_by_hand() -> None:
    y = np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [3.0, 2.0, -1.0]])
    assert slopes([-1, 0, 1], y) == pytest.approx([1, 0, -2])
    with pytest.raises(ValueError, match="two different"):
        slopes([1, 1], y[:, :2])
    values, labels = np.array([1.0, 1.0, 1.0, 0.0]), ["a", "a", "a", "b"]
    estimate = mean_of_scores(values, (0.0, 1.0), labels)
    assert (estimate.mean, estimate.n) == (0.5, 4)


def test_distinct_3_grams() -> None:
    assert distinct_3_grams("one two three four") == 1
    assert distinct_3_grams("go on go on go on go on") == pytest.approx(2 / 6)
    assert distinct_3_grams("yes") == 1
