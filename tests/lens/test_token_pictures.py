"""Tokens as pictures: where they stand, and that colours are those of their numbers."""

from __future__ import annotations

import io
import random

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import make_tokenizer, make_wrapper

from utils.errors import UserError
from utils.lens.block_parts import PARTS
from utils.lens.coloured_text import diverging_color
from utils.lens.logit_lens import Lens, read_lens
from utils.lens.token_pictures import _COLUMNS, _laid_out, lens_map, token_picture


def pixels(png: bytes) -> np.ndarray:
    """Shape (height, width, 3), 0 to 255."""
    return np.rint(255 * matplotlib.image.imread(io.BytesIO(png), format="png"))[..., :3]


def share(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((np.abs(picture - np.array(colour)).max(-1) <= 2).mean())


def test_every_character_stands_once_in_reading_order_and_on_the_page() -> None:
    generator = random.Random(0)
    alphabet = ["word", " two", ",", "\n", "é", " " * 3, "x" * 250, "a\n"]
    for _ in range(50):
        pieces = generator.choices(alphabet, k=60)
        cells, _ = _laid_out(pieces, None)
        shown = "".join(text for *_, text in cells)
        joined = "".join(pieces).replace("\n", "\N{RETURN SYMBOL}")
        assert shown.replace("\N{OPEN BOX}", " ") == joined
        places = [(line, column) for _, line, column, _ in cells]
        assert places == sorted(places) and len(set(places)) == len(places)
        assert all(column + len(text) <= _COLUMNS for _, _, column, text in cells)
        ends: dict[int, int] = {}
        for _, line, column, text in cells:
            assert column >= ends.get(line, 0), "two tokens on one place"
            ends[line] = column + len(text)


def test_an_answer_begins_below_a_line() -> None:
    cells, breaks = _laid_out(["question", "answer", " goes on"], 1)
    lines = {index: line for index, line, *_ in cells}
    assert lines[1] == lines[2] == breaks[0] > lines[0] + 1


def test_colours_are_those_of_the_numbers() -> None:
    values = [1.0, -1.0, 0.5]
    picture = pixels(token_picture(["wide " * 9] * 3, values, title="t", limit=1.0))
    for value in values:
        assert share(picture, diverging_color(value, 1.0)[0]) > 0.02
    assert share(picture, diverging_color(-0.5, 1.0)[0]) < 0.001


def test_the_map_has_the_colour_of_every_first_tokens_probability() -> None:
    rows = torch.tensor([[0.1, 0.9, 0.0], [0.6, 0.2, 0.2]])
    lens = Lens(rows[:, None].expand(-1, len(PARTS), -1))
    picture = pixels(lens_map(lens, make_tokenizer(), layers=[0, 1], title="map"))
    for probability in (0.9, 0.6):
        red, green, blue, _ = matplotlib.colormaps["Blues"](probability, bytes=True)
        assert share(picture, (int(red), int(green), int(blue))) > 0.1


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(UserError, match="1 tokens and 2 numbers"):
        token_picture(["a"], [1.0, 2.0], title="t")
    wrapper = make_wrapper("llama")
    lens = read_lens(wrapper, list(range(5, 12)))
    with pytest.raises(UserError, match="one layer"):
        lens_map(lens, wrapper.tokenizer, layers=[], title="t")
