"""The loss curve of a finetuning run, and the held-out score on the way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.durable import write_bytes
from utils.fonts import shown_names
from utils.plotting import COLORS, COLUMN_WIDTH, drawing, save_figure

__all__ = ["curve_figure", "curve_table", "running_mean", "shown_names"]
_WINDOW = 5


def running_mean(values: Sequence[float], window: int = _WINDOW) -> list[float]:
    """Mean of each value and those before it, ``window`` at most."""
    return [float(np.mean(values[max(0, i - window + 1) : i + 1])) for i in range(len(values))]


def curve_table(curve: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]) -> bytes:
    """Both curves as tab-separated text: training steps first, then tests on held-out questions."""
    lines = ["step\tloss\tgradient_norm"]
    lines += [f"{r['step']}\t{r['loss']:.6f}\t{r['gradient_norm']:.6f}" for r in curve]
    lines += ["", "after_step\tmatching_probability\tlow95\thigh95\taccuracy\tn"]
    for r in tests:
        numbers = (f"{r[name]:.6f}" for name in ("score", "low", "high", "accuracy"))
        lines.append("\t".join([str(r["step"]), *numbers, str(r["n"])]))
    return ("\n".join(lines) + "\n").encode()


def curve_figure(
    curve: Sequence[Mapping[str, Any]],
    tests: Sequence[Mapping[str, Any]],
    title: str,
    path: Path,
) -> list[Path]:
    """Loss against optimizer step above, held-out score below; the numbers beside them.

    Args:
        curve: ``step`` (from 1), ``loss`` (nats, before that step's update), ``gradient_norm``.
        tests: ``step`` (updates done), ``score`` with its 95 % interval ``low`` and ``high``,
            ``accuracy``, ``n``.
        title: above both.
        path: of the picture.

    Returns:
        The files written.
    """
    with drawing(2, 1, size=(COLUMN_WIDTH, 3.6), sharex=True) as (figure, ((above,), (below,))):
        steps, losses = [r["step"] for r in curve], [r["loss"] for r in curve]
        color = COLORS[0]
        above.plot(steps, losses, linestyle="", marker="o", color=color, alpha=0.35, ms=3)
        label = f"mean of {_WINDOW} steps"
        above.plot(steps, running_mean(losses), color=color, label=label)
        above.set_ylabel("loss (nats)")
        above.legend(frameon=False)
        at, scores = [r["step"] for r in tests], [r["score"] for r in tests]
        color = COLORS[1]
        below.plot(at, scores, marker="s", color=color)
        below.fill_between(
            at, [r["low"] for r in tests], [r["high"] for r in tests], color=color, alpha=0.13, lw=0
        )
        below.set_ylabel("held-out score")
        below.set_xlabel("optimizer steps")
        figure.suptitle(title, fontsize=9.5, x=0.02, ha="left")
        save_figure(figure, path)
    write_bytes(path.with_suffix(".txt"), curve_table(curve, tests))
    return [path, path.with_suffix(".txt")]
