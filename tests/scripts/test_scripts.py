"""The scripts from end to end on a tiny model: names, rows, skipping, refusing, overwriting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bench import LAYERS, Bench, bench, forbid_loading
from conftest import ROWS, pair, write_json
from running import artifacts, call, has_row, hidden

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.errors import UserError
from utils.files.contents import read_measured
from utils.models.choice import choose_model
from utils.stats import mean_of_changes
from utils.steering.one_pass import slow_last_token_outputs

__all__ = ("bench",)  # fixtures


@pytest.fixture
def ready(bench: Bench) -> Bench:
    bench.generate()
    bench.normalize()
    return bench


def load(bench: Bench) -> LlamaWrapper:
    return LlamaWrapper.load(choose_model(str(bench.model), None, False), device="cpu")


def test_vectors_are_the_mean_difference_at_the_letter(bench: Bench) -> None:
    bench.generate("--save_activations")
    wrapper = load(bench)
    rows = json.loads((bench.datasets / "generate/calm/generate_dataset.json").read_text())
    outputs: dict[str, list[torch.Tensor]] = {"pos": [], "neg": []}
    for row in rows:
        letters = (row["answer_matching_behavior"][1], row["answer_not_matching_behavior"][1])
        prompt = wrapper.prompt_format().letter_prompt(row["question"], letters)
        for sign, letter in zip(outputs, prompt.letters.values(), strict=True):
            outputs[sign].append(slow_last_token_outputs(wrapper, (*prompt.ids, letter), LAYERS))
    for layer in LAYERS:
        stacks = {sign: torch.stack(o)[:, layer] for sign, o in outputs.items()}
        expected = (stacks["pos"].double() - stacks["neg"].double()).mean(0)
        found = torch.load(bench.vector("vectors", "calm", layer), weights_only=True)
        assert found.dtype == torch.float32 and found.shape == (32,)
        assert (found - expected).norm() / expected.norm() < 1e-5
        for sign in ("pos", "neg"):
            name = f"activations/calm/activations_{sign}_{layer}_tiny-llama.pt"
            saved = torch.load(bench.artifacts / name, weights_only=True)
            assert torch.allclose(saved, stacks[sign], atol=1e-5), "in the order of the data file"


def test_the_vector_does_not_depend_on_batching_or_on_other_layers(bench: Bench) -> None:
    bench.generate("--behaviors", "calm")
    expected = torch.load(bench.vector("vectors", "calm", 2), weights_only=True)
    for number, options in enumerate((("--batch_tokens", 1), ("--batch_tokens", 300))):
        other = Bench(bench.root, bench.model, f"other{number}")
        call("generate_vectors", "--layers", 2, *other.all, "--behaviors", "calm", *options)
        found = torch.load(other.vector("vectors", "calm", 2), weights_only=True)
        assert (found - expected).norm() / expected.norm() < 1e-5


def test_normalizing_gives_every_behaviour_the_mean_norm(ready: Bench) -> None:
    for layer in LAYERS:
        raw = [torch.load(ready.vector("vectors", b, layer)) for b in ("bold", "calm")]
        made = [torch.load(ready.vector("normalized_vectors", b, layer)) for b in ("bold", "calm")]
        mean = sum(float(v.norm()) for v in raw) / 2
        for before, after in zip(raw, made, strict=True):
            assert float(after.norm()) == pytest.approx(mean, rel=1e-6)
            cosine = torch.nn.functional.cosine_similarity(before, after, dim=0)
            assert float(cosine) == pytest.approx(1, abs=1e-6)


def test_results_are_the_probabilities_of_one_pass_per_cell(ready: Bench) -> None:
    ready.prompt()
    wrapper = load(ready)
    rows = json.loads((ready.datasets / "test/calm/test_dataset_ab.json").read_text())
    for layer in LAYERS:
        vector = torch.load(ready.vector("normalized_vectors", "calm", layer))
        for multiplier in (-1.0, 0.0, 1.0):
            found = json.loads(ready.result("calm", layer, multiplier).read_text())
            assert [r["question"] for r in found] == [r["question"] for r in rows]
            for row, result in zip(rows, found, strict=True):
                prompt = wrapper.prompt_format().letter_prompt(row["question"], ("A", "B"))
                with wrapper.steer({layer: multiplier * vector}, prompt.steer_from):
                    logits = wrapper.next_logits(prompt.ids)
                a, b = letter_probabilities(logits, list(prompt.letters.values())).tolist()
                assert result["a_prob"] == pytest.approx(a, abs=1e-6)
                assert result["b_prob"] == pytest.approx(b, abs=1e-6)
                assert list(result) == [*row, "a_prob", "b_prob"]


def test_a_second_run_of_everything_does_nothing(
    ready: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready.prompt()
    before = {p: p.stat().st_mtime_ns for p in ready.artifacts.rglob("*") if p.is_file()}
    forbid_loading(monkeypatch)
    capsys.readouterr()
    for step in (ready.generate, ready.normalize, ready.prompt):
        assert step() == 0
        assert "nothing to do" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in ready.artifacts.rglob("*") if p.is_file()} == before
    assert hidden(ready.artifacts) == []


def test_a_larger_grid_computes_the_new_cells_only(ready: Bench) -> None:
    ready.prompt()
    before = artifacts(ready.artifacts)
    grid = ("--layers", 1, 2, "--multipliers", -1, 0, 2.5)
    call("prompting_with_steering", *grid, *ready.all)
    after = artifacts(ready.artifacts)
    assert before.items() <= after.items()
    assert len(after) - len(before) == 4
    assert ready.result("bold", 2, 2.5).exists()


def test_changed_data_are_refused_by_name_and_overwritten_on_request(
    ready: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.prompt()
    write_json(ready.datasets / "test/calm/test_dataset_ab.json", ROWS[:5])
    write_json(ready.datasets / "generate/calm/generate_dataset.json", ROWS[:5])
    before = artifacts(ready.artifacts)
    with monkeypatch.context() as patch:
        forbid_loading(patch)
        with pytest.raises(UserError, match=r"(?s)other inputs.*data:.*--overwrite"):
            ready.prompt()
        with pytest.raises(UserError, match=r"(?s)other inputs.*pairs: 8 -> 5"):
            ready.generate()
    assert artifacts(ready.artifacts) == before
    ready.prompt("--overwrite", "--behaviors", "calm")
    assert len(json.loads(ready.result("calm", 0, 1.0).read_text())) == 5


def test_multiplier_zero_does_not_depend_on_the_vector(ready: Bench) -> None:
    ready.prompt()
    ready.normalize("--reference", "calm", "--overwrite")
    with pytest.raises(UserError, match=r"multiplier=-1\.0.*\n.*vector"):
        ready.prompt("--behaviors", "calm")
    zero: tuple[object, ...] = ("--layers", *LAYERS, "--multipliers", 0, "--behaviors", "calm")
    assert call("prompting_with_steering", *zero, *ready.all) == 0
    # -0 is 0, in the name as in the number
    zero = ("--layers", *LAYERS, "--multipliers", "-0.0", "--behaviors", "calm")
    assert call("prompting_with_steering", *zero, *ready.all) == 0
    assert not list(ready.artifacts.rglob("*multiplier=-0.0*"))


def test_a_file_from_elsewhere_is_kept_and_plotted(
    ready: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"a_prob": 0.25, "b_prob": 0.5} for row in ROWS[:6]]
    foreign = write_json(ready.result("calm", 1, 1.0), rows)
    content = foreign.read_bytes()
    ready.prompt()
    assert "came from elsewhere" in capsys.readouterr().out
    assert foreign.read_bytes() == content
    ready.plot()
    table = next((ready.artifacts / "analysis/calm").glob("LAYER_SWEEP*.txt")).read_text()
    assert has_row(table, layer="1", multiplier="1", mean="0.500000")


def test_limit_is_part_of_every_name(bench: Bench) -> None:
    bench.generate("--limit", 3)
    bench.normalize()
    assert bench.vector("normalized_vectors", "calm", 0, "tiny-llama_limit=3").exists()
    with pytest.raises(UserError, match="missing vector"):
        bench.prompt("--limit", 2)
    bench.prompt("--limit", 2, "--override_vector_model", "tiny-llama_limit=3")
    names = [p.name for p in (bench.artifacts / "results/calm").glob("results_*")]
    assert len(names) == 12
    end = "_override_vector_model=tiny-llama_limit=3_model=tiny-llama_limit=2.json"
    assert all(name.endswith(end) for name in names)
    assert bench.plot("--limit", 2, "--override_vector_model", "tiny-llama_limit=3") == 0


def test_system_prompts_and_override_vectors_have_results_of_their_own(ready: Bench) -> None:
    ready.prompt()
    only = ("--behaviors", "calm")
    ready.prompt("--system_prompt", "pos", *only)
    ready.prompt("--override_vector", 2, *only)
    read = {
        more: json.loads(ready.result("calm", 1, 1.0, more).read_text())
        for more in ("", "_system_prompt=pos", "_override_vector=2")
    }
    assert len({rows[0]["a_prob"] for rows in read.values()}) == 3
    wrapper = load(ready)
    row = read["_override_vector=2"][0]
    prompt = wrapper.prompt_format().letter_prompt(row["question"], ("A", "B"))
    vector = torch.load(ready.vector("normalized_vectors", "calm", 2))
    with wrapper.steer({1: vector}, prompt.steer_from):
        expected = letter_probabilities(
            wrapper.next_logits(prompt.ids), list(prompt.letters.values())
        )
    assert row["a_prob"] == pytest.approx(float(expected[0]), abs=1e-6)


def test_override_weights_are_used_and_named(ready: Bench, tmp_path: Path) -> None:
    state = load(ready).model.state_dict()
    weights = tmp_path / "calm_pos_finetune_all.pt"
    torch.save({k: v * 1.05 if "mlp" in k else v for k, v in state.items()}, weights)
    ready.prompt("--behaviors", "calm")
    ready.prompt("--behaviors", "calm", "--override_model_weights_path", weights)
    plain = json.loads(ready.result("calm", 1, 0.0).read_text())
    name = ready.result("calm", 1, 0.0).name.replace(
        ".json", "_override_model_weights_path=calm_pos_finetune_all.json"
    )
    other = json.loads((ready.artifacts / "results/calm" / name).read_text())
    assert plain[0]["a_prob"] != other[0]["a_prob"]
    torch.save({"nothing.of.it": torch.zeros(3)}, weights)
    with pytest.raises(UserError, match="another model"):
        ready.prompt("--behaviors", "bold", "--override_model_weights_path", weights)


def test_questions_beyond_a_and_b_count_zero_and_it_is_said(
    ready: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*ROWS[:3], pair("Which one?", "A") | {"answer_matching_behavior": "(C)"}]
    write_json(ready.datasets / "test/calm/test_dataset_ab.json", rows)
    ready.prompt("--behaviors", "calm")
    said = "1 of 4 questions have a matching letter beyond A and B and count 0"
    assert said in capsys.readouterr().out
    found = json.loads(ready.result("calm", 1, 1.0).read_text())
    shares = [
        r["a_prob" if r["answer_matching_behavior"] == "(A)" else "b_prob"]
        / (r["a_prob"] + r["b_prob"])
        for r in found[:3]
    ]
    for options, mean in (((), sum(shares) / 4), (("--without_beyond_ab",), sum(shares) / 3)):
        ready.plot("--behaviors", "calm", *options)
        table = next((ready.artifacts / "analysis/calm").glob("LAYER_SWEEP*.txt")).read_text()
        assert has_row(table, layer="1", multiplier="1", mean=f"{mean:.6f}")


def test_figures_hold_means_and_paired_intervals(ready: Bench) -> None:
    ready.prompt()
    ready.prompt("--system_prompt", "pos")
    ready.plot()
    rows = {m: json.loads(ready.result("bold", 2, m).read_text()) for m in (-1.0, 0.0, 1.0)}
    scores = {
        m: np.array(
            [
                r["a_prob" if r["answer_matching_behavior"] == "(A)" else "b_prob"]
                / (r["a_prob"] + r["b_prob"])
                for r in found
            ]
        )
        for m, found in rows.items()
    }
    sweeps = ready.artifacts / "analysis/LAYER_SWEEPS_type=ab_model=tiny-llama.txt"
    lines = [line.split("\t") for line in sweeps.read_text().splitlines()[1:]]
    change = next(line for line in lines if line[:3] == ["bold", "2", "1"])
    difference = scores[1.0] - scores[0.0]
    expected = mean_of_changes(difference, 1.0)
    # fewer than five questions have no interval
    ends = [expected.low, expected.high] if expected.has_interval else []
    assert [float(cell) for cell in change[4:7] if cell != "-"] == pytest.approx(
        [difference.mean(), *ends], abs=1e-6
    )
    by_multiplier = next((ready.artifacts / "analysis/bold").glob("multipliers_*.txt")).read_text()
    assert "plain\t-1" in by_multiplier and "positive prompt\t1" in by_multiplier
    tex = next((ready.artifacts / "analysis/bold").glob("multipliers_*.tex")).read_text()
    assert tex.startswith(r"\begin{tabular}") and tex.count(r"\\") == 3
    pictures = list((ready.artifacts / "analysis").rglob("*.png"))
    assert len(pictures) == 7
    assert all(p.with_suffix(".txt").exists() and p.stat().st_size > 5000 for p in pictures)


def test_changes_of_all_behaviours_at_one_layer_are_one_figure(ready: Bench) -> None:
    ready.prompt()
    ready.plot("--layers", 2)
    table = ready.artifacts / "analysis/CHANGES_layer=2_type=ab_model=tiny-llama.txt"
    header, *lines = (line.split("\t") for line in table.read_text().splitlines())
    assert header[:3] == ["behavior", "multiplier", "dose"]
    assert [line[:2] for line in lines] == [
        [behavior, sign] for sign in ("-1", "1") for behavior in ("bold", "calm")
    ]
    for behavior, sign, dose, mean, *_ in lines:
        scores = []
        for multiplier in (float(sign), 0.0):
            rows = json.loads(ready.result(behavior, 2, multiplier).read_text())
            keys = ["ab"["AB".index(r["answer_matching_behavior"][1])] + "_prob" for r in rows]
            scores.append(
                np.mean(
                    [r[k] / (r["a_prob"] + r["b_prob"]) for r, k in zip(rows, keys, strict=True)]
                )
            )
        assert float(mean) == pytest.approx(scores[0] - scores[1], abs=1e-6)
        vector = ready.vector("normalized_vectors", behavior, 2)
        norm = float(torch.load(vector).double().norm())
        assert float(dose) == pytest.approx(
            float(sign) * norm / read_measured(vector)["residual_norm"], rel=1e-3
        )
    assert table.with_suffix(".png").stat().st_size > 5000


def test_a_missing_cell_is_drawn_without_and_its_command_printed(
    ready: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    ready.prompt("--behaviors", "calm")
    ready.result("calm", 2, 1.0).unlink()
    assert ready.plot("--behaviors", "calm", "--layers", 1, 2, 3, "--multipliers", -1, 0, 1) == 0
    out = capsys.readouterr().out
    assert "1 cell is missing" in out
    assert (
        "./prompting_with_steering.py --type ab --behaviors calm --layers 2 --multipliers 1" in out
    )


def test_nothing_to_plot_names_the_command(ready: Bench) -> None:
    with pytest.raises(
        UserError, match=r"no results .*\nMake them with: ./prompting_with_steering"
    ):
        ready.plot()


def test_a_damaged_result_is_named_and_not_read(ready: Bench) -> None:
    ready.prompt("--behaviors", "calm")
    path = ready.result("calm", 1, 1.0)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"multiplier=1\.0.*not the file that its record"):
        ready.plot()
    with pytest.raises(UserError, match=r"multiplier=1\.0.*not the file that its record"):
        ready.prompt("--behaviors", "calm")


def test_a_broken_cell_is_listed_last_and_the_others_written(
    ready: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = torch.full((32,), 3e38)
    path = ready.vector("normalized_vectors", "calm", 2)
    path.with_name(f".{path.name}.record").unlink()
    torch.save(huge, path)
    assert ready.prompt("--behaviors", "calm", "--multipliers", 0, 1, 2) == 1
    captured = capsys.readouterr()
    assert "1 failed" in captured.err and "layer=2_multiplier=2.0" in captured.err
    assert ready.result("calm", 1, 2.0).exists()
    assert not ready.result("calm", 2, 2.0).exists()
    assert hidden(ready.artifacts) == []


def test_show_tokens(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.generate("--show_tokens")
    out = capsys.readouterr().out
    assert "read here, the letter's token" in out and out.count("⟦") == 2 == out.count("⟧")
    assert len(out.splitlines()) < 20
    assert artifacts(bench.artifacts) == {}
