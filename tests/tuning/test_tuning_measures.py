"""What a choice measures, each against a plain pass of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUESTIONS, make_wrapper
from planted import row

from llama_wrapper import LlamaWrapper
from utils.data.items import ABItem
from utils.errors import UserError
from utils.files.names import Cell
from utils.files.paths import Paths
from utils.ranks import Ranks
from utils.scores.loops import distinct_share
from utils.steering.one_pass import Steer
from utils.tuning.budgets import Budgets
from utils.tuning.cells import Answered, Signed, effects, worst
from utils.tuning.measuring import UNSTEERED, Bench
from utils.tuning.rollouts import Rollouts
from utils.tuning.splits import FEWEST, asked_twice, hold_out


@pytest.fixture(scope="module")
def tiny() -> LlamaWrapper:
    return make_wrapper("llama")


@pytest.fixture
def bench(tiny: LlamaWrapper, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tiny, Paths(tmp_path, tmp_path), "calm", {}, Ranks())
    yield made
    made.close()
    assert not list(tmp_path.rglob(".journal*"))


def items(count: int) -> list[ABItem]:
    letters = ["AB"[i % 2] for i in range(count)]
    asked = [row(f"{i}: {QUESTIONS[i % 8]}", letter) for i, letter in enumerate(letters)]
    return [
        ABItem(r["question"], letter, "AB".replace(letter, ""), r)
        for r, letter in zip(asked, letters, strict=True)
    ]


def steers(width: int) -> list[Steer | None]:
    generator = torch.Generator().manual_seed(2)
    weak, strong = torch.randn(2, width, generator=generator)
    return [None, Steer(0, 0.3 * weak), Steer(2, strong)]


def test_divergences_along_answers_are_those_of_one_pass_per_token(tiny: LlamaWrapper) -> None:
    prompts = [tiny.prompt_format().open_prompt(text) for text in QUESTIONS[:3]]
    cells = steers(tiny.width)
    run = Rollouts(tiny, prompts, cells, tokens=5)
    checked = 0
    for batch in run.batches:
        for number, answers in zip(batch, run.measure(batch), strict=True):
            prompt = prompts[number]
            assert answers[0]["kl"] == [] and answers[0]["tokens"]
            for steer, answer in zip(cells[1:], answers[1:], strict=True):
                assert steer is not None and len(answer["kl"]) == len(answer["tokens"])
                for place, found in enumerate(answer["kl"]):
                    ids = [*prompt.ids, *answer["tokens"][:place]]
                    plain = tiny.next_logits(ids).double().log_softmax(-1)
                    with tiny.steer({steer.layer: steer.delta}, prompt.steer_from):
                        steered = tiny.next_logits(ids).double().log_softmax(-1)
                    assert int(steered.argmax()) == answer["tokens"][place]
                    expected = float((steered.exp() * (steered - plain)).sum())
                    assert found == pytest.approx(expected, rel=1e-3, abs=2e-6)
                    checked += expected > 1e-4
    assert checked > 10


def test_a_model_that_says_one_word_is_refused_by_loops(tiny: LlamaWrapper, bench: Bench) -> None:
    """Steering towards one token at the last block: it is said over and over."""
    prompts = [tiny.prompt_format().open_prompt(text) for text in QUESTIONS[:4]]
    head = tiny.model.get_output_embeddings().weight.detach()
    word = int(head.norm(dim=1)[10:].argmax()) + 10
    delta = 1000 * head[word] / head[word].norm()
    cells: list[Cell] = [UNSTEERED, (3, 1.0)]
    found = bench.rollouts("answers", prompts, cells, lambda cell: Steer(cell[0], delta))
    share = found[(3, 1.0)].distinct / found[UNSTEERED].distinct
    assert share < 0.2 < found[UNSTEERED].distinct
    assert Budgets.of([("rollout_kl", math.inf)]).exceeded({"rollout_kl": 9.0, "loops": share}) == [
        "loops"
    ]


def test_distinct_runs_of_tokens() -> None:
    assert distinct_share([1, 2, 3, 4, 5]) == 1
    assert distinct_share([7] * 12) == pytest.approx(1 / 10)
    assert distinct_share([1, 2, 1, 2, 1, 2]) == pytest.approx(2 / 4)
    assert distinct_share([1, 2]) == distinct_share([]) == 1


def test_what_was_measured_is_read_and_not_measured_again(
    tiny: LlamaWrapper, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [tiny.prompt_format().open_prompt(text) for text in QUESTIONS[:3]]
    cells: list[Cell] = [UNSTEERED, (1, 0.5), (1, -0.5)]
    delta = torch.ones(tiny.width)

    def steer(cell: Cell) -> Steer:
        return Steer(cell[0], cell[1] * delta)

    first = bench.next_kl("neutral", prompts, cells, steer)
    assert first[UNSTEERED] == 0 and min(first[(1, 0.5)], first[(1, -0.5)]) > 1e-4
    monkeypatch.setattr(tiny, "logits", None)
    assert bench.next_kl("neutral", prompts, cells, steer) == first


def test_a_cell_that_breaks_the_model_is_nan_in_every_measure(
    tiny: LlamaWrapper, bench: Bench
) -> None:
    prompts = [tiny.prompt_format().open_prompt(text) for text in QUESTIONS[:2]]
    cells: list[Cell] = [UNSTEERED, (1, 1.0), (2, 1.0)]
    deltas = {1: torch.ones(tiny.width), 2: torch.full((tiny.width,), torch.inf)}
    with pytest.warns(UserWarning, match="overflow"):
        found = bench.next_kl("n", prompts, cells, lambda cell: Steer(cell[0], deltas[cell[0]]))
    assert math.isnan(found[(2, 1.0)]) and found[(1, 1.0)] > 0
    assert math.isnan(worst([0.1, found[(2, 1.0)]])) and math.isnan(
        worst([math.nan, 2], least=True)
    )


@pytest.mark.parametrize(("direction", "expected"), [("both", 1.5), ("pos", 2.0), ("neg", 1.0)])
def test_effects_of_known_content(direction: str, expected: float) -> None:
    """Content 1 less at -m, 2 more at +m, 0.3 without; and a letter habit that must not show."""
    questions, kept = asked_twice(items(9))
    assert not kept
    cells: list[Cell] = [UNSTEERED, (2, 0.4), (2, -0.4)]
    content = np.array([0.3, 2.3, -0.7])
    habit = np.linspace(-3, 3, 9)[:, None] + np.array([0, 5, -1])
    sign = np.array([1 if q.published.matching == "A" else -1 for q in questions])[:, None]
    found = np.zeros((9, 2, 3, 2))
    for order, side in ((0, 1), (1, -1)):
        odds = np.exp(side * sign * content + habit)
        found[:, order, :, 0] = 0.6 * odds / (1 + odds)
        found[:, order, :, 1] = 0.6 / (1 + odds)
    answered = Answered(questions, found, cells)
    effect, error, _ = effects(answered, (2, 0.4), Signed(direction))
    assert (effect.mean, effect.low, effect.high) == pytest.approx((expected,) * 3)
    assert error == pytest.approx(0, abs=1e-9) and effect.n == 9
    assert answered.letters(UNSTEERED) == pytest.approx(0.6)


@pytest.mark.parametrize(("count", "held"), [(206, 41), (100, 25), (60, 30), (8, 4)])
def test_a_fifth_is_held_out_or_25_or_a_half_letter_by_letter(count: int, held: int) -> None:
    split = hold_out(items(count), "calm")
    assert abs(len(split.questions) - held) <= 1 and split.held_out.sum() == len(split.questions)
    letters = [q.published.matching for q in split.questions]
    assert abs(letters.count("A") - letters.count("B")) <= 1
    assert bool(split.short) == (len(split.questions) < FEWEST)


def test_pairs_of_one_order_are_left_out_and_too_few_are_told() -> None:
    some = items(10)
    alike = ABItem("Is it?\n\nChoices:\n (A) Yes\n (B) Yes", "A", "B", {})
    split = hold_out([*some, *[alike] * 4], "calm")
    assert all(q.number <= 10 for q in split.questions)
    assert len(split.kept) == int(split.held_out[10:].sum()) > 0
    with pytest.raises(UserError, match="3 pairs; to hold some out, at least 4"):
        hold_out(some[:3], "calm")
    with pytest.raises(UserError, match="both choices say the same"):
        hold_out([alike] * 6, "calm")
