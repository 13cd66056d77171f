"""Controls through the pipeline: every number by slow passes, kills, seeds, what is refused."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from control_bench import DRAWS, ControlBench
from running import artifacts, hidden
from torch import Tensor

from llama_wrapper import LlamaWrapper
from utils.blocks.vocabulary import letter_probabilities
from utils.data.items import ABItem
from utils.data.orders import both_orders
from utils.models.choice import choose_model
from utils.prompts.format import PromptFormat
from utils.scores.control_effects import Controls, effects_of
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer, slow_logits
from utils.sweeps import control_sweep
from utils.vectors.controls import letter_control, random_controls, shuffled_controls

ALL = ("--controls", "letter", "others", "shuffled", "random")


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ControlBench:
    """With all controls of calm measured."""
    bench = ControlBench(tiny_folder, tmp_path_factory.mktemp("made")).fill()
    assert bench.prompt() == 0
    before = artifacts(bench.artifacts / "results")
    assert bench.prompt(*ALL, "--control_draws", DRAWS) == 0
    after = artifacts(bench.artifacts / "results")
    assert before.items() <= after.items(), "results are what they are without controls"
    assert len(after) == 2 * len(before)
    return bench


@pytest.fixture
def bench(made: ControlBench, tmp_path: Path) -> ControlBench:
    """The same before any control was measured."""
    copy = made.copy(tmp_path / "copy")
    for path in (copy.artifacts / "results" / "calm").glob("*controls_*"):
        path.unlink()
    return copy


@pytest.fixture(scope="module")
def wrapper(tiny_folder: Path) -> LlamaWrapper:
    return LlamaWrapper.load(choose_model(str(tiny_folder), None, False), device="cpu")


def by_hand(bench: ControlBench, kind: str, layer: int) -> Tensor:
    """Controls from the files, by the functions that have tests of their own."""
    folder, letters = bench.artifacts / "activations" / "calm", ["A", "B"] * 4
    pos, neg = (
        torch.load(folder / f"activations_{sign}_{layer}_tiny-llama.pt", weights_only=True)
        for sign in ("pos", "neg")
    )
    if kind == "random":
        return random_controls("calm", layer, pos.shape[1], draws=DRAWS)
    if kind == "mean":
        return (pos.double() - neg.double()).mean(0, keepdim=True)
    if kind == "shuffled":
        return shuffled_controls("calm", pos.double() - neg.double(), letters, draws=DRAWS)
    if kind == "letter":
        return letter_control(pos.double() - neg.double(), letters)[None]
    path = bench.artifacts / "normalized_vectors" / "bold" / f"vec_layer_{layer}_tiny-llama.pt"
    return torch.load(path, weights_only=True)[None].double()


@functools.cache
def unsteered(wrapper: LlamaWrapper, question: str) -> float:
    return difference(wrapper, question, None)


def difference(wrapper: LlamaWrapper, question: str, steer: Steer | None) -> float:
    """log P(A) / P(B), from one forward pass."""
    prompt = PromptFormat(wrapper.tokenizer).letter_prompt(question, ("A", "B"))
    logits = slow_logits(wrapper, prompt, steer)
    a, b = letter_probabilities(logits, list(prompt.letters.values())).tolist()
    return math.log(a / b)


def slow_effects(bench: ControlBench, wrapper: LlamaWrapper, steer: Steer) -> list[float]:
    """Mean change of content, letter and score, from one forward pass each."""
    rows = json.loads((bench.datasets / "test/calm/test_dataset_ab.json").read_text())
    content, letter, score = [], [], []
    for number, row in enumerate(rows):
        sign = 1 if row["answer_matching_behavior"] == "(A)" else -1
        question = row["question"]
        head, _, choices = question.partition(" (A) ")
        a, _, b = choices.partition("\n (B) ")
        exchanged = f"{head} (A) {b}\n (B) {a}"
        d1, d2 = (
            (unsteered(wrapper, text), difference(wrapper, text, steer))
            for text in (question, exchanged)
        )
        shares = [1 / (1 + math.exp(-sign * d)) for d in d1]
        score.append(shares[1] - shares[0])
        if number != 3:
            content.append(sign * ((d1[1] - d2[1]) - (d1[0] - d2[0])) / 2)
            letter.append(((d1[1] + d2[1]) - (d1[0] + d2[0])) / 2)
    return [sum(values) / len(values) for values in (content, letter, score)]


@pytest.mark.parametrize("layer", [1, 2])
def test_every_kind_has_the_numbers_of_one_slow_pass_each(
    made: ControlBench, wrapper: LlamaWrapper, layer: int
) -> None:
    path = made.artifacts / "normalized_vectors" / "calm" / f"vec_layer_{layer}_tiny-llama.pt"
    vector = torch.load(path, weights_only=True)
    content = made.read(layer, -2.0)
    rows = {row["vector"]: row for row in content["rows"]}
    drawn = [f"{kind}:{r}" for kind in ("random", "shuffled") for r in range(DRAWS)]
    assert list(rows) == ["calm", *drawn, "letter", "other:bold"]
    kinds = {"random:7": ("random", 7), "shuffled:3": ("shuffled", 3), "letter": ("letter", 0)}
    kinds["other:bold"] = ("others", 0)
    deltas = {"calm": vector}
    for name, (kind, number) in kinds.items():
        control = by_hand(made, kind, layer)[number]
        # a shuffled one has its own length in parts of that of the pairs' mean difference
        whole = by_hand(made, "mean", layer)[0] if kind == "shuffled" else control
        deltas[name] = (control / whole.norm() * vector.norm()).float()
        same = kind != "shuffled"
        assert (deltas[name].norm() == pytest.approx(float(vector.norm()), rel=1e-5)) == same
    for name, delta in deltas.items():
        expected = slow_effects(made, wrapper, Steer(layer, -2.0 * delta))
        found = [rows[name][quantity] for quantity in ("content", "letter", "score")]
        assert found == pytest.approx(expected, abs=2e-5), name
        assert max(map(abs, found)) > 1e-3 and rows[name]["n"] == 5
    assert content["kept"] == [{"question": 4, "reason": "a choice names a letter or a place"}]
    own = [question["content"] for question in content["questions"]]
    assert own[3] is None and len(own) == 6
    mean = sum(value for value in own if value is not None) / 5
    assert mean == pytest.approx(rows["calm"]["content"])


def test_a_kill_in_any_group_of_layers_changes_no_byte(
    made: ControlBench, bench: ControlBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_sweep, "MOST_COLUMNS", 15)
    append = control_sweep.Journal.append
    appended: list[int] = []

    def killed(self: control_sweep.Journal, questions: list[int], values: list[object]) -> None:
        append(self, questions, values)
        appended.extend(questions)
        if len(appended) in (3, 14):
            raise KeyboardInterrupt

    monkeypatch.setattr(control_sweep.Journal, "append", killed)
    options = (*ALL, "--control_draws", 2, "--batch_tokens", 100)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bench.prompt(*options)
        assert len(hidden(bench.artifacts / "results")) == 1
    assert bench.prompt(*options) == 0
    # no prompt twice: 6 questions, 5 of them in both orders, two groups of a layer each
    assert len(appended) == 22
    assert hidden(bench.artifacts / "results") == []
    monkeypatch.setattr(control_sweep.Journal, "append", append)
    found = artifacts(bench.artifacts / "results")
    for path in (bench.artifacts / "results" / "calm").glob("controls_*"):
        path.unlink()
    assert bench.prompt(*options) == 0
    assert artifacts(bench.artifacts / "results") == found, "the uninterrupted run"
    one_group = artifacts(made.artifacts / "results")
    assert found.keys() == one_group.keys()
    for name, data in found.items():
        rows = json.loads(data)["rows"] if "controls" in name else []
        known = {r["vector"]: r for r in json.loads(one_group[name])["rows"]} if rows else {}
        assert len(rows) in (0, 7)
        for row in rows:
            assert row["content"] == pytest.approx(known[row["vector"]]["content"], abs=2e-5)


def test_a_direction_that_carries_the_content_is_told_from_chance(
    bench: ControlBench, wrapper: LlamaWrapper, capsys: pytest.CaptureFixture[str]
) -> None:
    """The direction of steepest content, measured axis by axis; its file has no record."""
    rows = json.loads((bench.datasets / "test/calm/test_dataset_ab.json").read_text())
    items = [ABItem(r["question"], r["answer_matching_behavior"][1], "", r) for r in rows]
    items = [replace(item, other="B" if item.matching == "A" else "A") for item in items]
    turned, kept = both_orders(items)
    known = [(item, other) for item, other in zip(items, turned, strict=True) if other is not None]
    assert len(kept) == 1
    form = PromptFormat(wrapper.tokenizer)
    texts = [item.question for item, _ in known] + [other.question for _, other in known]
    prompts = [form.letter_prompt(text, ("A", "B")) for text in texts]
    axes = torch.eye(wrapper.width)
    grid = LetterGrid(
        wrapper, prompts, [Steer(2, 0.02 * s * axis) for axis in axes for s in (1, -1)]
    )
    found = torch.zeros(len(prompts), 1 + 2 * wrapper.width, 2).double()
    for batch in grid.batches:
        found[batch] = grid.probabilities(batch)
    logits = found[..., 0].log() - found[..., 1].log()
    signs = torch.tensor([1.0 if item.matching == "A" else -1.0 for item, _ in known]).double()
    content = signs @ (logits[: len(known)] - logits[len(known) :])
    steepest = (content[1::2] - content[2::2]).float()
    path = bench.artifacts / "normalized_vectors" / "calm" / "vec_layer_2_tiny-llama.pt"
    torch.save(0.1 * steepest / steepest.norm(), path)
    path.with_name(f".{path.name}.record").unlink()
    options = ("--overwrite", "--layers", 2, "--control_draws", DRAWS)
    assert bench.prompt("--controls", "random", "shuffled", *options) == 0
    out = capsys.readouterr().out
    assert "no shuffled controls: no record says which pairs the vectors were made from" in out
    (effect,) = effects_of({(2, m): Controls.read(bench.place(2, m)) for m in (-2.0, 2.0)})
    assert effect.p("random") == 1 / (DRAWS + 1) and effect.both
    assert effect.controls.estimate("content").mean > 0  # type: ignore[union-attr]
    assert "0.050" in out
