"""Medians, ratios with an interval, exponents: worked by hand, and found again in made-up data."""

import math
import random

import pytest
from benchmarks.stats import power_law, ratio_of_medians, spread


def test_spread_is_median_smallest_and_largest():
    found = spread([3.0, 1.0, 10.0, 2.0])
    assert (found.median, found.low, found.high) == (2.5, 1.0, 10.0)


def test_ratio_of_equal_rounds_has_no_width():
    found = ratio_of_medians([6.0, 6.0, 6.0], [2.0, 2.0, 2.0])
    assert (found.value, found.low, found.high) == (3.0, 3.0, 3.0)


def test_rounds_are_drawn_in_pairs():
    """A machine that slows down by half for both sides in one round does not move the ratio."""
    found = ratio_of_medians([10.0, 5.0, 10.0], [5.0, 2.5, 5.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_unequal_numbers_of_rounds_are_drawn_apart():
    found = ratio_of_medians([10.0, 5.0, 10.0], [5.0, 2.5])
    assert found.value == pytest.approx(10 / 3.75)
    assert found.low < found.value < found.high


def test_the_interval_covers_the_true_ratio():
    draw = random.Random(1)
    covered = 0
    for trial in range(60):
        first = [draw.gauss(30, 3) for _ in range(12)]
        second = [draw.gauss(10, 1) for _ in range(12)]
        found = ratio_of_medians(first, second, draws=400, seed=trial)
        covered += found.low <= 3.0 <= found.high
    assert covered >= 50


def test_an_exact_power_is_found():
    found = power_law([1, 2, 4, 8], [5.0, 20.0, 80.0, 320.0])
    assert found.exponent == pytest.approx(2.0)
    assert found.factor == pytest.approx(5.0)
    assert found.error == pytest.approx(0.0, abs=1e-9)


def test_standard_error_by_hand():
    """log y = 0, 1, 1 at log x = 0, 1, 2: slope ½, residuals −1/6, 1/3, −1/6, so SSR = 1/6 and SE = √(1/12)."""
    found = power_law([1, math.e, math.e**2], [1, math.e, math.e])
    assert found.exponent == pytest.approx(0.5)
    assert found.error == pytest.approx(math.sqrt(1 / 12))


def test_two_points_have_no_error_and_one_no_slope():
    assert math.isnan(power_law([1, 2], [1.0, 2.0]).error)
    with pytest.raises(ValueError, match="two different sizes"):
        power_law([2, 2], [1.0, 2.0])
    with pytest.raises(ValueError, match="above zero"):
        power_law([1, 2], [0.0, 2.0])
