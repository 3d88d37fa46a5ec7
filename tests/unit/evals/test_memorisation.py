"""Exposure of planted secrets: worked number N19, chance, ties, and what is refused."""

import math
import random
from statistics import fmean

import pytest

from heedlm.errors import HeedError, NotFinite
from heedlm.evals.memorisation import exposure


@pytest.mark.parametrize(("lower", "expected"), [(0, 19.931569), (36, 14.722115)])
def test_n19(lower, expected):
    """A million secrets: rank 1, and rank 37."""
    assert exposure(lower + 0.5, range(1, 1_000_000)) == pytest.approx(expected, abs=1e-6)


def test_a_secret_that_was_not_learned_has_a_bit_and_a_half():
    """The mean of log₂(R/rank) over all ranks nears log₂ e."""
    draw = random.Random(0)
    others = [draw.random() for _ in range(2000)]
    found = [exposure(draw.random(), others) for _ in range(2000)]
    assert fmean(found) == pytest.approx(math.log2(math.e), abs=0.1)


def test_equal_losses_share_their_ranks():
    assert exposure(1.0, [1.0, 2.0, 3.0]) == pytest.approx(2 - math.log2(1.5))
    assert exposure(3.0, [0.0, 1.0, 2.0]) == 0.0


def test_refusals():
    with pytest.raises(HeedError, match="no other secrets"):
        exposure(1.0, [])
    with pytest.raises(NotFinite, match="NaN or infinite"):
        exposure(math.nan, [1.0])
