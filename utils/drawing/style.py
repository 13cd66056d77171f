"""matplotlib as all figures use it. The only module that imports it.

Figures are drawn in matplotlib's own defaults and this project's style, whatever the user's
``matplotlibrc`` says, and every text as it is written: ``$`` begins no formula.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from utils.errors import UserError

# A wrong value there ends the import; nothing is ever shown on a screen.
os.environ["MPLBACKEND"] = "agg"
try:
    import matplotlib
except ValueError as error:
    raise UserError(
        f"matplotlib cannot read its settings file (a matplotlibrc in this folder?): {error}"
    ) from error

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, MaxNLocator

__all__ = [
    "STYLE",
    "Axes",
    "Figure",
    "MaxNLocator",
    "PlainLogFormatter",
    "Text",
    "font_manager",
    "plt",
    "styled",
]


class PlainLogFormatter(LogFormatter):
    """Ticks between powers of ten as plain numbers, where matplotlib would have any."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


# The only font of a script may be a bold one; that is no news.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

FONT = "DejaVu Sans"
STYLE: Any = {
    "font.family": FONT,
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.dpi": 200,
    # letters that can be selected and edited; names inside an SVG that are the same in every run
    "pdf.fonttype": 42,
    "svg.hashsalt": "caa",
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """This project's style for a block, and after it the settings that were there before."""
    with plt.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield
