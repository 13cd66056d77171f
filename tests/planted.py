"""A tiny model with a direction that raises the content effect at one layer, planted in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from conftest import QUESTIONS, make_wrapper, write_json

from llama_wrapper import LlamaWrapper
from utils.data.items import load_ab_items
from utils.data.orders import LETTERS
from utils.files.artifacts import save, torch_bytes
from utils.files.contents import sha256_file
from utils.files.paths import Paths
from utils.scores.order_effects import order_effects
from utils.steering.grid import LetterGrid
from utils.steering.one_pass import Steer
from utils.tuning.splits import Question, hold_out

PLANTED, LAYERS, MODEL, H = 1, 4, "tiny-llama", 5.0
PLACES = ["Here", "There", "At home"]


def row(question: str, letter: str) -> dict[str, str]:
    """A question whose matching answer says yes, behind either letter."""
    texts = ("Yes, that is so.", "No, that is not so.")
    first, second = texts if letter == "A" else texts[::-1]
    other = "B" if letter == "A" else "A"
    return {
        "question": f"{question}\n\nChoices:\n (A) {first}\n (B) {second}",
        "answer_matching_behavior": f"({letter})",
        "answer_not_matching_behavior": f"({other})",
    }


def contents(
    wrapper: LlamaWrapper, questions: Sequence[Question], steers: Sequence[Steer]
) -> np.ndarray:
    """Content of every question, unsteered and under every steer; (questions, 1 + steers)."""
    made = wrapper.prompt_format()
    asked = [q.published for q in questions] + [q.exchanged for q in questions]
    prompts = [made.letter_prompt(item.question, LETTERS) for item in asked]
    grid = LetterGrid(wrapper, prompts, steers)
    found = np.zeros((len(prompts), 1 + len(steers), 2))
    for batch in grid.batches:
        found[batch] = grid.probabilities(batch).numpy()
    first, second = found[: len(questions)], found[len(questions) :]
    letters = [q.published.matching for q in questions]
    columns = [
        order_effects(first[:, i], second[:, i], letters).content for i in range(found.shape[1])
    ]
    return np.stack(columns, axis=1)


def direction(wrapper: LlamaWrapper, questions: Sequence[Question]) -> np.ndarray:
    """The shortest direction along which every question's content rises alike, at one layer."""
    step = 0.02
    steers = [
        Steer(PLANTED, sign * step * unit) for unit in torch.eye(wrapper.width) for sign in (1, -1)
    ]
    found = contents(wrapper, questions, steers)[:, 1:]
    slopes = (found[:, ::2] - found[:, 1::2]) / (2 * step)
    return np.linalg.lstsq(slopes, np.ones(len(questions)), rcond=None)[0]


def plant(root: Path) -> Paths:
    """Data, activations and vectors of one behaviour, calm; artefacts in ``root``/made."""
    paths = Paths(root / "made", root / "datasets")
    rows = [
        row(f"{place}: {q}", "AB"[(i + j) % 2])
        for i, q in enumerate(QUESTIONS)
        for j, place in enumerate(PLACES)
    ]
    write_json(paths.generate_data("calm"), rows)
    write_json(paths.description("calm"), {"name": "Calm"})
    tests = [row(f"Now: {q}", "AB"[i % 2]) for i, q in enumerate(QUESTIONS)]
    write_json(paths.test_data("calm", "ab"), tests)
    neutral = [{"question": f"{place}, {q}"} for q in QUESTIONS[:5] for place in PLACES[:2]]
    write_json(paths.neutral_prompts(), neutral)
    knowledge = [
        {
            "prompt": row(q, letter)["question"],
            "correct": f"({letter})",
            "incorrect": "(B)" if letter == "A" else "(A)",
            "category": "all",
        }
        for q, letter in zip(QUESTIONS[:2], "AB", strict=True)
    ]
    write_json(paths.choice_test("mmlu", "knowledge_bundled"), knowledge)
    wrapper = make_wrapper("llama")
    items = load_ab_items(paths.generate_data("calm"), made_by="")
    generator = np.random.default_rng(3)
    for layer in range(LAYERS):
        vector = generator.normal(size=wrapper.width)
        if layer == PLANTED:
            vector = direction(wrapper, hold_out(items, "calm").questions)
        vector /= np.linalg.norm(vector)
        _save(paths, layer, vector, len(items), generator)
    return paths


def _save(
    paths: Paths, layer: int, vector: np.ndarray, pairs: int, generator: np.random.Generator
) -> None:
    data = sha256_file(paths.generate_data("calm"))
    inputs = {"layer": layer, "data": data, "pairs": pairs}
    noise = generator.normal(size=(pairs, len(vector))) / 100
    matrices = {"pos": vector + noise, "neg": np.zeros_like(noise)}
    for sign, matrix in matrices.items():
        place = paths.activations("calm", sign, layer, MODEL)
        save(place, torch_bytes(torch.from_numpy(matrix).float()), inputs)
    mean = torch.from_numpy(vector + noise.mean(0)).float()
    for normalized in (False, True):
        place = paths.vector("calm", layer, MODEL, normalized=normalized)
        save(place, torch_bytes(mean), inputs, {"residual_norm": H})
