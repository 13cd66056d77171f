"""Everything that a page can show, measured on a tiny model; and a behaviour that is an attack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import QUESTIONS, write_json
from planted import MODEL, plant
from running import call

from utils.files.names import DOSE, ResultName, Variant
from utils.files.paths import Paths

ATTACK = "</script><img src=x onerror=\"document.title='hacked'\"><!--"
LAYERS, DOSES = (0, 1, 2), (-0.2, 0.0, 0.2)
GRID = ("--layers", *LAYERS, "--doses", *DOSES)
OPEN = ("letters=inf", "rollout_kl=inf", "knowledge=inf", "loops=inf")
LOOP = "and so on and on again " * 8


def flags(paths: Paths, model: object) -> tuple[object, ...]:
    folders = ("--artifacts_dir", paths.artifacts, "--datasets_dir", paths.datasets)
    return ("--model", model, *folders)


def fill(root: Path, model: Path) -> Paths:
    """Calm: swept in one order and in both, beside controls, tuned, answered, judged; bold by hand.

    Args:
        root: gets data and artefacts.
        model: the tiny model's folder.
    """
    paths = plant(root)
    questions = [{"question": q} for q in QUESTIONS[:4]]
    write_json(paths.test_data("calm", "open_ended"), questions)
    own = flags(paths, model)
    steer = (*own, *GRID)
    call(
        "prompting_with_steering",
        *steer,
        "--controls",
        "random",
        "--control_draws",
        19,
    )
    call("prompting_with_steering", *steer, "--both_orders")
    call("prompting_with_steering", *own, "--type", "open_ended", "--max_new_tokens", 8,
         "--layers", 1, "--doses", *DOSES)  # fmt: skip
    call("tune", *own, "--layers", "0-2", "--doses", 0.1, 0.2, "--budget", "kl=1", *OPEN)
    judge(paths)
    attack(paths)
    return paths


def judge(paths: Paths) -> None:
    """Scores of calm's answers, 2 to 8."""
    for place, dose in enumerate(DOSES):
        named = ResultName(1, dose, "calm", Variant("open_ended", model=MODEL, unit=DOSE))
        rows: list[dict[str, Any]] = json.loads(paths.result(named).read_text())
        scored = [row | {"score": 2.0 + 3 * place + n % 2} for n, row in enumerate(rows)]
        write_json(paths.scores(named), scored)


def attack(paths: Paths) -> None:
    """A behaviour whose name, questions and answers want to run."""
    pairs = json.loads(paths.generate_data("calm").read_text())
    write_json(paths.generate_data("bold"), pairs)
    write_json(paths.description("bold"), {"name": ATTACK, "matching": ATTACK})
    for layer in LAYERS:
        for dose in DOSES:
            named = ResultName(layer, dose, "bold", Variant("ab", model=MODEL, unit=DOSE))
            rows = []
            for number in range(6):
                p = 0.4 + 0.02 * number - 0.3 * dose * (layer + 1) + 0.01 * (number % 2) * dose
                letters = {"answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}
                rows.append({"question": f"{number}?", "a_prob": p, "b_prob": 0.9 - p} | letters)
            write_json(paths.result(named), rows)
    for dose, text in zip(DOSES, ("No. ", "Well, ", "Yes, "), strict=True):
        named = ResultName(1, dose, "bold", Variant("open_ended", model=MODEL, unit=DOSE))
        answers = [f"{text}{ATTACK}", f"{text}{LOOP}", text, f"{text}needle"]
        rows = [
            {"question": f"{n} {ATTACK}", "model_output": a, "raw_model_output": a}
            for n, a in enumerate(answers)
        ]
        write_json(paths.result(named), rows)
