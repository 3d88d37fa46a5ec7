"""Bootstrap: coverage, pairing, seeds and refusals."""

from __future__ import annotations

import math
import random

import pytest

from heedlm.errors import HeedError, NotFinite
from heedlm.evals.bootstrap import bootstrap_mean, paired_bootstrap


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """120 samples of 60 fair coins: a 95 % interval holds 0.5 in well over 100 of them, not in all."""
    generator = random.Random(5)
    held = 0
    for trial in range(120):
        sample = [float(generator.random() < 0.5) for _ in range(60)]
        result = bootstrap_mean(sample, seed=trial, resamples=400)
        held += result.low <= 0.5 <= result.high
    assert 104 <= held < 120


def test_groups_of_unequal_size_weigh_by_their_items() -> None:
    result = bootstrap_mean([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert result.estimate == pytest.approx(0.75)
    assert (result.low, result.high) == (0.0, 1.0)


def test_pairing_sees_what_separate_intervals_do_not() -> None:
    generator = random.Random(1)
    difficulty = [generator.gauss(0, 5) for _ in range(80)]
    a = [d + 0.5 + generator.gauss(0, 0.2) for d in difficulty]
    b = [d + generator.gauss(0, 0.2) for d in difficulty]
    result = paired_bootstrap(a, b, seed=2)
    assert 0.4 < result.low < 0.5 < result.high < 0.6
    assert result.p_value < 0.01
    assert bootstrap_mean(a).low < bootstrap_mean(b).high


def test_no_difference_is_not_significant() -> None:
    generator = random.Random(3)
    a = [generator.gauss(0, 1) for _ in range(50)]
    b = [generator.gauss(0, 1) for _ in range(50)]
    result = paired_bootstrap(a, b, seed=0)
    assert result.low < 0 < result.high
    assert result.p_value > 0.05


def test_same_seed_same_interval() -> None:
    values = [float(i % 7) for i in range(40)]
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_refusals() -> None:
    with pytest.raises(HeedError, match="no values"):
        bootstrap_mean([])
    with pytest.raises(HeedError, match="2 values but 1 group"):
        bootstrap_mean([1.0, 2.0], ["a"])
    with pytest.raises(NotFinite, match="value 1 is nan"):
        bootstrap_mean([1.0, math.nan])
    with pytest.raises(HeedError, match="2 values against 1"):
        paired_bootstrap([1.0, 2.0], [1.0])
