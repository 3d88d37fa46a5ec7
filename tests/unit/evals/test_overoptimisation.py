"""Over-optimisation: worked number N15, fits that recover planted laws, and the gold peak."""

from __future__ import annotations

import math

import pytest

from heedlm.errors import HeedError
from heedlm.evals.overoptimisation import Law, fit, gold_peak


def test_n15_best_of_n() -> None:
    """α 1.2, β .15: d* = 1.2/.3, R* = 1.44/.6."""
    law = Law("best_of_n", 1.2, 0.15)
    assert law.peak == pytest.approx((4.0, 2.4), abs=1e-6)
    assert law.peak_kl == pytest.approx(16.0, abs=1e-6)
    assert law.reward(4.0) == pytest.approx(2.4)


def test_n15_rl() -> None:
    """α 1.2, β .5: d* = e^(1.4), R* = .5·d*, R(2) = 2(1.2 − .5 ln 2)."""
    law = Law("rl", 1.2, 0.5)
    assert law.peak == pytest.approx((4.055200, 2.027600), abs=1e-6)
    assert law.peak_kl == pytest.approx(16.444647, abs=1e-6)
    assert law.reward(2.0) == pytest.approx(1.706853, abs=1e-6)
    assert law.reward(0.0) == 0.0


@pytest.mark.parametrize("law", [Law("best_of_n", 1.2, 0.15), Law("rl", 1.2, 0.5)])
def test_fit_recovers_a_law_and_leaves_the_origin_out(law: Law) -> None:
    kl = [0.001, 0.5, 1.0, 2.0, 6.0, 12.0, 20.0]
    reward = [9.0, *(law.reward(math.sqrt(k)) for k in kl[1:])]
    found = fit(law.method, kl, reward)
    assert (found.alpha, found.beta) == pytest.approx((law.alpha, law.beta))


def test_a_reward_that_never_falls_has_no_peak() -> None:
    assert Law("rl", 1.0, 0.0).peak == (math.inf, math.inf)
    with pytest.raises(HeedError, match="too few"):
        fit("rl", [1.0, 1.0], [0.5, 0.6])


def test_gold_peak_lies_inside_when_the_policy_went_past_its_best() -> None:
    found = gold_peak([0.0, 1.0, 4.0, 9.0], [0.6, 0.8, 0.9, 1.0], [0.6, 0.75, 0.7, 0.5])
    assert (found.index, found.kl, found.inside) == (1, 1.0, True)
    assert (found.lost, found.gap) == pytest.approx((0.25, 0.05))
    assert not gold_peak([0.0, 1.0], [0.5, 0.6], [0.5, 0.6]).inside
