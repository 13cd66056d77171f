"""Figures as objects, in place of the files that they are saved in."""

from __future__ import annotations

from typing import Any

import pytest

from utils.drawing import plotting


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Every figure by the name of its file, as it is when it is saved."""
    return watch(monkeypatch)


def watch(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that are saved from now on, which are no longer turned into files."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(
        plotting, "save_figure", lambda figure, path: figures.__setitem__(path.name, figure)
    )
    return figures
