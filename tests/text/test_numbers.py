"""Numbers for people and for files: a sign means something."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest

from utils.stats import Estimate
from utils.text.number_tables import estimate_cells, tex_table
from utils.text.numbers import formatted, rounded, signed, six_digits, with_interval

TINY = Estimate(-0.0002, -0.0007, 0.0003, 50)


@pytest.mark.parametrize("sign", ["", "+"])
def test_a_number_has_a_sign_exactly_where_its_digits_do_not_say_zero(sign: str) -> None:
    generator = np.random.default_rng(0)
    values = [*generator.normal(scale=0.003, size=400), 0.0, -0.0, 0.0005, -0.0005, 1e-300]
    zeros = 0
    for value in values:
        digits = Decimal(float(value)).quantize(Decimal("0.001"), rounding=ROUND_HALF_EVEN)
        shown = "-" if digits < 0 else sign if digits > 0 else ""
        assert formatted(value, f"{sign}.3f") == f"{shown}{abs(digits)}"
        zeros += digits == 0
    assert 20 < zeros < 200


def test_all_that_print_numbers_agree_on_zero() -> None:
    assert [signed(v) for v in (-2.0, 0.0, -0.0, 0.25)] == ["\N{MINUS SIGN}2", "0", "0", "+0.25"]
    assert (
        signed(-0.00004, "+.4f") == rounded(-0.00004, 4) == formatted(-0.00004, ".4f") == "0.0000"
    )
    assert six_digits(-1e-9) == "0.000000"
    assert with_interval(TINY, "+.3f") == "0.000 [-0.001, 0.000]"
    assert estimate_cells(Estimate(-1e-9, -1e-9, 1e-9, 9)) == ["0.000000"] * 3 + ["9"]
    assert b"0.000 {\\scriptsize [-0.001, 0.000]}" in tex_table("x", ["y"], [("a", [TINY])])


def test_what_is_no_number_keeps_its_name() -> None:
    assert formatted(float("nan"), "+.2f") == "+nan"
    assert rounded(float("nan")) == "\N{EN DASH}"
    assert formatted(float("-inf"), ".2f") == "-inf"
