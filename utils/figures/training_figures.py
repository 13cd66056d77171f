"""The loss curves of finetuning runs, and the held-out scores on the way.

A run has a figure of its own; where the run of the other direction has left its numbers too,
both are drawn once more on one scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.drawing.files import write_numbers
from utils.drawing.fonts import shown_names
from utils.drawing.palette import COLORS
from utils.drawing.plotting import COLUMN_WIDTH, MARKERS, draw_legend, drawing, finish
from utils.text.number_tables import tab_separated

__all__ = ["Run", "both_figure", "curve_figure", "curve_table", "read_run", "shown_names"]
_WINDOW = 5
_STEPS = ("step", "loss", "gradient_norm")
_TESTS = ("after_step", "matching_probability", "low95", "high95", "accuracy", "n")
_SCORES = ("score", "low", "high", "accuracy")
_DIRECTION = re.compile(r"^finetune_(pos|neg)_")
_OTHER = {"pos": "neg", "neg": "pos"}
DIRECTIONS = {"pos": "on the matching answers", "neg": "on the other answers"}
# Losses below this say the same: the letter is certain.
_LEAST_LOSS = 1e-3


@dataclass(frozen=True)
class Run:
    """What a run was and what it measured.

    Attributes:
        curve: ``step`` (from 1), ``loss`` (nats, before that step's update), ``gradient_norm``.
        tests: ``step`` (updates done), ``score`` with its 95 % interval ``low`` and ``high``,
            ``accuracy``, ``n``.
        settings: model, pairs, optimizer and so on, for people.
    """

    curve: Sequence[Mapping[str, Any]]
    tests: Sequence[Mapping[str, Any]]
    settings: Mapping[str, str]

    @property
    def note(self) -> str:
        """Everything that the runs of a figure have in common."""
        n = self.tests[-1]["n"]
        named = [v if k == "model" else f"{k} {v}" for k, v in self.settings.items()]
        return "; ".join([*named, f"{n} held-out questions, 95 % intervals over questions"])


def running_mean(values: Sequence[float], window: int = _WINDOW) -> list[float]:
    """Mean of each value and those before it, ``window`` at most."""
    return [float(np.mean(values[max(0, i - window + 1) : i + 1])) for i in range(len(values))]


def curve_table(run: Run) -> bytes:
    """A run as tab-separated text: training steps, tests on held-out questions, settings."""
    steps = [[str(r["step"]), f"{r['loss']:.6f}", f"{r['gradient_norm']:.6f}"] for r in run.curve]
    tests = [
        [str(r["step"]), *(f"{r[name]:.6f}" for name in _SCORES), str(r["n"])] for r in run.tests
    ]
    blocks = ((_STEPS, steps), (_TESTS, tests), (("setting", "value"), run.settings.items()))
    return b"\n".join(tab_separated(header, rows) for header, rows in blocks)


def read_run(table: Path) -> Run | None:
    """The run whose figure has this text; ``None`` if that is not what :func:`curve_table` wrote.

    A text of before settings were written has none.
    """
    try:
        blocks = table.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
        first, second, *more = [[row.split("\t") for row in b.split("\n")] for b in blocks]
        curve = [
            {"step": int(s), "loss": float(loss), "gradient_norm": float(norm)}
            for s, loss, norm in first[1:]
        ]
        tests = [
            {"step": int(s), **dict(zip(_SCORES, map(float, numbers), strict=True)), "n": int(n)}
            for s, *numbers, n in second[1:]
        ]
        settings = dict(more[0][1:]) if more else {}
    except (OSError, ValueError):
        return None
    return Run(curve, tests, settings) if curve and tests else None


def curve_figure(run: Run, title: str, path: Path) -> list[Path]:
    """Loss against optimizer step above, held-out score below; the numbers beside them.

    Returns:
        The files written.
    """
    _draw({"": run}, title, path, run.note)
    return write_numbers(path, curve_table(run))


def both_figure(path: Path, title: str) -> list[Path]:
    """The same of both directions, if the text of the other's figure is there and alike.

    Args:
        path: the picture of one direction, whose text has been written.
        title: above the figure.

    Returns:
        The files written: none if the other direction has not been trained likewise.
    """
    found = _DIRECTION.match(path.name)
    if found is None:
        return []
    start = {d: path.name.replace(found[0], f"finetune_{d}_", 1) for d in _OTHER}
    runs = {d: read_run(path.with_name(name).with_suffix(".txt")) for d, name in start.items()}
    known = {DIRECTIONS[d]: run for d, run in runs.items() if run is not None}
    if len(known) < 2 or len({tuple(run.settings.items()) for run in known.values()}) > 1:
        return []
    both = path.with_name(path.name.replace(found[0], "finetune_both_", 1))
    _draw(known, title, both, next(iter(known.values())).note)
    tables = [f"{name}\n".encode() + curve_table(run) for name, run in known.items()]
    return write_numbers(both, b"\n".join(tables))


def _draw(runs: Mapping[str, Run], title: str, path: Path, note: str) -> None:
    """Axes of fixed meaning: losses on a logarithm from one bound on, scores from 0 to 1."""
    with drawing(2, 1, size=(COLUMN_WIDTH, 4.0), sharex=True) as (figure, ((above,), (below,))):
        for index, (name, run) in enumerate(runs.items()):
            color = COLORS[(1, 0)[index]]
            steps = [r["step"] for r in run.curve]
            losses = [max(r["loss"], _LEAST_LOSS) for r in run.curve]
            above.plot(steps, losses, linestyle="", marker="o", color=color, alpha=0.35, ms=2.5)
            smooth = [max(x, _LEAST_LOSS) for x in running_mean([r["loss"] for r in run.curve])]
            label = f"{name}; " if name else ""
            above.plot(steps, smooth, color=color, label=f"{label}mean of {_WINDOW} steps")
            at, scores = [r["step"] for r in run.tests], [r["score"] for r in run.tests]
            below.plot(at, scores, marker=MARKERS[index], color=color)
            low, high = [r["low"] for r in run.tests], [r["high"] for r in run.tests]
            below.vlines(at, low, high, color=color, lw=1)
        above.set_yscale("log")
        above.set_ylim(_LEAST_LOSS * 0.8, max(10.0, above.get_ylim()[1]))
        least = f"\N{LESS-THAN OR EQUAL TO} {_LEAST_LOSS}"
        above.set_yticks([_LEAST_LOSS, 0.01, 0.1, 1, 10], [least, "0.01", "0.1", "1", "10"])
        above.minorticks_off()
        above.set_ylabel("loss (nats)")
        below.axhline(0.5, color="#888888", linewidth=0.8, zorder=1)
        below.set_ylim(-0.03, 1.03)
        below.set_ylabel("held-out\nP(matching answer)")
        below.set_xlabel("optimizer steps")
        figure.align_ylabels()
        handles, labels = above.get_legend_handles_labels()
        draw_legend(figure, handles, labels, title)
        finish(figure, path, title, note)
