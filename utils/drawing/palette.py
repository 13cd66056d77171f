"""The colours of figures and of the page; no matplotlib here."""

from __future__ import annotations

# Okabe and Ito's, told apart by colour-blind readers.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
GREY = "#555555"
