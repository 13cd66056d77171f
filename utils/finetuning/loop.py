"""The loop of a finetuning run: tests on held-out questions, steps, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tqdm import tqdm

from utils.data.evaluation import AB
from utils.data.items import ABItem
from utils.finetuning.checkpoints import Checkpoints, HeldOutRow, StepRow
from utils.finetuning.tuner import Example, Finetuner, schedule
from utils.prompts.format import LetterPrompt
from utils.stats import mean_of_scores


@dataclass(frozen=True)
class HeldOut:
    """The behaviour's A/B test."""

    items: Sequence[ABItem]
    prompts: Sequence[LetterPrompt]

    def row(self, tuner: Finetuner, step: int) -> HeldOutRow:
        """Score with its 95 % interval, and accuracy, after a number of steps.

        Raises:
            ArithmeticError: the model's probabilities are not finite.
        """
        test = AB
        found = tuner.probabilities(self.prompts)
        if not all(math.isfinite(p) for pair in found for p in pair):
            raise ArithmeticError(f"after step {step} the model's probabilities are not finite")
        rows = [test.row(item.row, *pair) for item, pair in zip(self.items, found, strict=True)]
        scores = test.scores(rows, "held-out questions")
        mean = mean_of_scores(scores, (0.0, 1.0))
        accuracy = float((scores > 0.5).mean())
        return {
            "step": step,
            "accuracy": accuracy,
            "score": mean.mean,
            "low": mean.low,
            "high": mean.high,
            "n": mean.n,
        }


def train(
    tuner: Finetuner,
    examples: Sequence[Example],
    held_out: HeldOut,
    checkpoints: Checkpoints,
    *,
    checkpoint_every: int,
    eval_every: int | None,
) -> tuple[list[StepRow], list[HeldOutRow]]:
    """All steps, from the last checkpoint on.

    Args:
        tuner: model and optimizer.
        examples: what is learned.
        held_out: tested before, after and every ``eval_every`` steps.
        checkpoints: where states go every ``checkpoint_every`` steps.

    Returns:
        The loss curve (a row a step: its loss and gradient norm before the update), and the tests.

    Raises:
        ArithmeticError: a loss or gradient that is not finite; names the step.
    """
    steps = schedule(len(examples), tuner.recipe)
    start, rows = checkpoints.restore()
    curve = [cast(StepRow, row) for row in rows if "loss" in row]
    tests = [cast(HeldOutRow, row) for row in rows if "score" in row]
    tested = {row["step"] for row in tests}
    for number in tqdm(range(start, len(steps)), total=len(steps), initial=start, unit="step"):
        due = number == 0 or (eval_every is not None and number % eval_every == 0)
        if due and number not in tested:
            tests.append(held_out.row(tuner, number))
        loss, norm = tuner.gradients([examples[i] for i in steps[number]])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise ArithmeticError(
                f"step {number + 1} of {len(steps)}: loss {loss:g}, gradient norm {norm:g}"
            )
        if number > start and number % checkpoint_every == 0:
            checkpoints.save(number, [*curve, *tests])
        tuner.update()
        curve.append({"step": number + 1, "loss": loss, "gradient_norm": norm})
    tests.append(held_out.row(tuner, len(steps)))
    return curve, tests
