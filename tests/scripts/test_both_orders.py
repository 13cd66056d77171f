"""Both orders of the choices through the scripts: rows, vectors, names, effects, interruptions."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUESTIONS, make_model, make_tokenizer, write_json
from running import artifacts, call, hidden

from utils.errors import UserError
from utils.files.contents import read_record
from utils.sweeps.journal import Journal

GRID = ("--layers", 1, 2, "--multipliers", -3, 0, 3)
YES, NO = "Yes, that is so.", "No, that is not so."
KEPT = "Neither answer above."


def row(question: str, first: str, second: str, matching: str) -> dict[str, str]:
    """Written out by hand, in either order."""
    other = {"A": "B", "B": "A"}[matching]
    return {
        "question": f"{question}\n\nChoices:\n (A) {first}\n (B) {second}",
        "answer_matching_behavior": f"({matching})",
        "answer_not_matching_behavior": f"({other})",
    }


LETTERS = "AABABAAB"
PAIRS = list(zip(QUESTIONS, LETTERS, strict=True))
PUBLISHED = [row(q, YES, NO, letter) for q, letter in PAIRS]
EXCHANGED = [row(q, NO, YES, "BA"["AB".index(letter)]) for q, letter in PAIRS]
ONE_ORDER = row("What now?", YES, KEPT, "A")


def data(folder: Path, rows: Sequence[object], pairs: Sequence[object] = PUBLISHED) -> Path:
    """A data folder with one behaviour."""
    write_json(folder / "generate/calm/generate_dataset.json", pairs)
    write_json(folder / "generate/calm/behavior.json", {"name": "Calm"})
    write_json(folder / "test/calm/test_dataset_ab.json", rows)
    questions = [{"question": q} for q in QUESTIONS]
    write_json(folder / "test/calm/test_dataset_open_ended.json", questions)
    return folder


class Bench:
    """A model, its data, and an artefact folder with normalised vectors."""

    def __init__(self, model: Path, folder: Path, rows: Sequence[object]) -> None:
        self.model, self.folder = model, folder / "out"
        shared = ("--datasets_dir", data(folder / "data", rows), "--artifacts_dir", self.folder)
        self.shared, self.flags = shared, (*shared, "--model", model)
        call("generate_vectors", "--layers", 1, 2, *self.flags)
        call("normalize_vectors", *shared)

    def prompt(self, *more: object) -> int:
        return call("prompting_with_steering", *GRID, *self.flags, *more)

    def path(self, layer: int, multiplier: float, more: str = "") -> Path:
        name = f"results_layer={layer}_multiplier={multiplier}_behavior=calm_type=ab_model="
        return self.folder / "results/calm" / f"{name}{self.model.name}{more}.json"

    def rows(self, layer: int, multiplier: float, more: str = "") -> list[dict[str, Any]]:
        return list(json.loads(self.path(layer, multiplier, more).read_text()))


@pytest.fixture(scope="module")
def both(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Eight questions and one that is kept, in both orders, beside a run as ever."""
    bench = Bench(tiny_folder, tmp_path_factory.mktemp("both"), [*PUBLISHED, ONE_ORDER])
    bench.prompt()
    bench.prompt("--both_orders")
    return bench


@pytest.fixture(scope="module")
def habit(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A model that looks at its last token only, and there answers A."""
    folder = tmp_path_factory.mktemp("habit")
    model, tokenizer = make_model("llama"), make_tokenizer()
    bracket, a = (tokenizer.encode(text, add_special_tokens=False)[0] for text in "(A")
    weights = model.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.zero_()
    last = weights["model.embed_tokens.weight"][bracket]
    last = last / last.square().mean().sqrt()
    weights["lm_head.weight"][a] = 4 * last / last.square().sum()
    model.save_pretrained(folder / "always-a")
    tokenizer.save_pretrained(folder / "always-a")
    return Bench(folder / "always-a", folder, PUBLISHED)


def test_published_rows_are_followed_by_what_a_run_on_exchanged_data_gives(
    both: Bench, tiny_folder: Path, tmp_path: Path
) -> None:
    by_hand = Bench(tiny_folder, tmp_path, EXCHANGED)
    by_hand.prompt()
    for layer in (1, 2):
        for multiplier in (-3.0, 0.0, 3.0):
            found = both.rows(layer, multiplier, "_both_orders")
            orders = [r.pop("order") for r in found]
            assert orders == ["published", "exchanged"] * 8 + ["published"], "one is kept"
            expected = both.rows(layer, multiplier)
            turned = by_hand.rows(layer, multiplier)
            for ours, theirs in ((found[::2], expected), (found[1::2], turned)):
                for one, other in zip(ours, theirs, strict=True):
                    assert list(one) == list(other)
                    for name, value in other.items():
                        assert one[name] == (
                            pytest.approx(value, abs=1e-6) if name.endswith("prob") else value
                        )


def test_a_plain_run_knows_nothing_of_orders(both: Bench) -> None:
    plain = [p for p in both.folder.rglob("results_*.json") if "both_orders" not in p.name]
    assert len(plain) == 6
    for path in plain:
        record = read_record(path)
        assert record is not None and "both_orders" not in record["inputs"]
        assert all(
            list(r) == [*ONE_ORDER, "a_prob", "b_prob"] for r in json.loads(path.read_text())
        )


def test_the_record_names_the_questions_that_were_kept_and_a_rerun_finds_all_made(
    both: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(both.path(1, 3.0, "_both_orders"))
    assert record is not None
    assert record["inputs"]["both_orders"] == {"kept": [9]} and record["inputs"]["items"] == 17
    capsys.readouterr()
    both.prompt("--both_orders")
    out = capsys.readouterr().out
    assert "6 cells, 0 of them made now" in out and "nothing to do" in out
    kept = "1 of 9 questions in the published order only (item 9: a choice names a letter"
    assert kept in " ".join(out.split())
    header = next(line for line in out.splitlines() if line.startswith("behaviour"))
    assert header.count("−3") == header.count("+3") == 2, "score and content"
    assert max(map(len, out[out.index("mean P") :].splitlines())) <= 80


def test_the_table_and_the_summary_tell_content_from_letter(
    both: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    call("plot_results", *both.flags, "--both_orders", "--summary", "--layers", 2)
    assert "consistent" in capsys.readouterr().out
    stem = "analysis/summary_type=ab_model=tiny-llama_both_orders_layers=2"
    with (both.folder / f"{stem}.csv").open() as file:
        (found,) = csv.DictReader(file)
    effects = {}
    for multiplier in (-3.0, 0.0, 3.0):
        rows = both.rows(2, multiplier, "_both_orders")[:16]
        d = np.log([r["a_prob"] / r["b_prob"] for r in rows]).reshape(8, 2)
        sign = np.array([1 if x == "A" else -1 for x in LETTERS])
        effects[multiplier] = sign * (d[:, 0] - d[:, 1]) / 2, d.sum(axis=1) / 2
    (low_c, low_b), (high_c, high_b) = effects[-3.0], effects[3.0]
    assert float(found["content_change"]) == pytest.approx((high_c - low_c).mean(), abs=1e-4)
    assert float(found["letter_change"]) == pytest.approx((high_b - low_b).mean(), abs=1e-4)
    letter, content = ((high_b - low_b) ** 2).sum(), ((high_c - low_c) ** 2).sum()
    assert float(found["letter_share"]) == pytest.approx(letter / (letter + content), abs=1e-3)
    wins = {m: np.mean(abs(c) > abs(b)) for m, (c, b) in effects.items()}
    for name, multiplier in (("negative", -3.0), ("zero", 0.0), ("positive", 3.0)):
        assert float(found[f"consistent_{name}"]) == pytest.approx(wins[multiplier], abs=1e-3)
    assert (found["questions"], found["exchanged"]) == ("9", "8")
    assert "letter share" in (both.folder / f"{stem}.md").read_text()


def test_a_summary_of_one_order_has_the_columns_that_it_had(both: Bench) -> None:
    call("plot_results", *both.flags, "--summary")
    text = (both.folder / "analysis/summary_type=ab_model=tiny-llama.csv").read_text()
    assert text.splitlines()[0].endswith(",loops,words") and "content" not in text
    assert not list((both.folder / "analysis").rglob("orders_*llama.*"))


def test_a_model_that_always_answers_a_has_no_content_effect(habit: Bench) -> None:
    habit.prompt("--both_orders")
    for found in habit.rows(1, 0.0, "_both_orders"):
        assert found["a_prob"] > 2 * found["b_prob"]
    call("plot_results", *habit.flags, "--both_orders", "--summary")
    path = habit.folder / "analysis/summary_type=ab_model=always-a_both_orders.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for found in rows:
        assert abs(float(found["letter_change"])) > 0.1, "steering moves the letter"
        assert abs(float(found["content_change"])) < 1e-4
        assert float(found["letter_share"]) == 1
        assert [found[f"consistent_{x}"] for x in ("negative", "zero", "positive")] == ["0.000"] * 3


def test_letters_leave_vectors_of_both_orders(habit: Bench, both: Bench, tmp_path: Path) -> None:
    call("generate_vectors", "--layers", 1, *habit.flags, "--both_orders")
    plain, balanced = (
        torch.load(habit.folder / f"vectors/calm/vec_layer_1_always-a{end}.pt")
        for end in ("", "_both_orders")
    )
    assert plain.norm() > 0.1, "five of eight match A"
    assert balanced.norm() < 1e-6
    # and of any model they are those of twice the pairs, written out by hand
    call("generate_vectors", "--layers", 1, *both.flags, "--both_orders")
    twice = [form for forms in zip(PUBLISHED, EXCHANGED, strict=True) for form in forms]
    folder = data(tmp_path / "data", PUBLISHED, twice)
    flags = ("--model", both.model, "--datasets_dir", folder, "--artifacts_dir", tmp_path)
    call("generate_vectors", "--layers", 1, *flags)
    ours = both.folder / "vectors/calm/vec_layer_1_tiny-llama_both_orders.pt"
    assert ours.read_bytes() == (tmp_path / "vectors/calm/vec_layer_1_tiny-llama.pt").read_bytes()
    record = read_record(ours)
    assert record is not None and record["inputs"]["both_orders"] == {"kept": []}


def test_vectors_of_both_orders_steer_under_their_own_name(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, label = Bench(tiny_folder, tmp_path, PUBLISHED), "tiny-llama_both_orders"
    steer = ("--layers", 1, "--multipliers", 3, *bench.flags, "--override_vector_model", label)
    with pytest.raises(UserError, match=r"generate_vectors\.py .*--model tiny-llama --both_orders"):
        call("prompting_with_steering", *steer)
    with pytest.raises(UserError, match=r"no vectors under --both_orders(.|\n)*py --both_orders"):
        call("normalize_vectors", *bench.shared, "--both_orders")
    call("generate_vectors", "--layers", 1, *bench.flags, "--both_orders")
    assert "all 8 pairs in both orders" in capsys.readouterr().out
    plain = artifacts(bench.folder)
    call("normalize_vectors", *bench.shared, "--both_orders", "--model", "tiny-llama")
    made = "normalized_vectors/calm/vec_layer_1_tiny-llama_both_orders.pt"
    assert artifacts(bench.folder).keys() - plain.keys() == {made}
    call("prompting_with_steering", *steer)
    name = f"results_layer=1_multiplier=3.0_behavior=calm_type=ab_override_vector_model={label}"
    (result,) = bench.folder.rglob("results_*.json")
    assert result.name == f"{name}_model=tiny-llama.json"
    (own,) = (bench.folder / "normalized_vectors/calm").glob("*1_tiny-llama_both_orders.pt")
    record = read_record(result)
    vector = read_record(own)
    assert record is not None and vector is not None
    assert record["inputs"]["vector"] == vector["sha256"]


def test_an_interrupted_run_goes_on_with_the_same_bytes(
    tiny_folder: Path, tmp_path: Path, both: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tiny_folder, tmp_path, [*PUBLISHED, ONE_ORDER])
    small = ("--both_orders", "--batch_tokens", 150)
    bench.prompt(*small)
    whole = {p.name: p.read_bytes() for p in bench.folder.rglob("results_*.json")}
    for path in bench.folder.rglob("results_*.json"):
        path.unlink()
    append, computed = Journal.append, 0

    def once(journal: Journal, questions: Sequence[int], values: Sequence[Any]) -> None:
        nonlocal computed
        append(journal, questions, values)
        computed += len(questions)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "append", once)
        bench.prompt(*small)
    assert 0 < computed < 17 and len(hidden(bench.folder)) == 1, "in the middle"
    bench.prompt(*small)
    assert {p.name: p.read_bytes() for p in bench.folder.rglob("results_*.json")} == whole
    assert hidden(bench.folder) == []


@pytest.mark.parametrize(
    ("script", "more", "message"),
    [
        ("prompting_with_steering", ("--type", "open_ended"), r"exchanges the choices \(A\) and"),
        ("plot_results", ("--type", "open_ended"), "It goes with --type ab, truthful_qa"),
        ("generate_vectors", ("--save_activations",), "goes without --both_orders"),
    ],
)
def test_what_has_no_other_order_is_refused(
    both: Bench, script: str, more: tuple[str, ...], message: str
) -> None:
    before = artifacts(both.folder)
    with pytest.raises(UserError, match=message):
        call(script, *both.flags, "--both_orders", *more)
    assert artifacts(both.folder) == before


def test_a_model_of_a_name_that_only_the_flag_may_give_is_refused(
    both: Bench, tmp_path: Path
) -> None:
    model = tmp_path / "mine_both_orders"
    shutil.copytree(both.model, model)
    with pytest.raises(UserError, match="another name"):
        call("generate_vectors", *both.flags, "--model", model)
