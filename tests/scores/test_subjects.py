"""The layer at which a behaviour is shown."""

from __future__ import annotations

import numpy as np
import pytest

from utils.files.names import Variant
from utils.scores.subjects import strongest
from utils.scores.tables import ScoreTable


def test_strongest_layer() -> None:
    table = ScoreTable(Variant("ab"))
    for layer, effect in ((3, 0.1), (5, 0.3), (7, -0.4)):
        for multiplier in (-1.0, 0.0, 1.0):
            table.scores[layer, multiplier] = np.full(4, 0.5 + effect * multiplier)
    found = strongest(table)
    assert found is not None and found[0] == 7 and found[1].mean == pytest.approx(-0.8)
