"""Win rates: worked number N21, both orders, length matching, and inputs that must be refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedlm.errors import HeedError, NotFinite
from heedlm.evals.winrate import (
    LOSS,
    TIE,
    WIN,
    Setting,
    bootstrap_win_rate,
    length_matched,
    outcomes_from_scores,
    outcomes_from_verdicts,
    position_consistency,
    wilson,
    win_rate,
)


def counts(wins: int, ties: int, losses: int) -> list[float]:
    return [WIN] * wins + [TIE] * ties + [LOSS] * losses


def test_n21_first_row() -> None:
    """44/26/30: s = (44 + 13)/100; SE² = (44·.43² + 26·.07² + 30·.57²)/100²; Wilson on 44 of 74."""
    result = win_rate(counts(44, 26, 30))
    assert result.n == 100
    assert result.rate == pytest.approx(0.57, abs=1e-6)
    assert result.se == pytest.approx(0.042438, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((0.486823, 0.653177), abs=1e-6)
    assert (result.wilson_low, result.wilson_high) == pytest.approx((0.480758, 0.699094), abs=1e-6)


def test_n21_second_row() -> None:
    result = win_rate(counts(62, 33, 5))
    assert result.rate == pytest.approx(0.785, abs=1e-6)
    assert (result.low, result.high) == pytest.approx((0.727431, 0.842569), abs=1e-6)


@given(st.lists(st.sampled_from([WIN, TIE, LOSS]), min_size=1, max_size=60))
def test_swapping_the_models_mirrors_everything(outcomes: list[float]) -> None:
    ours, theirs = win_rate(outcomes), win_rate([1 - value for value in outcomes])
    assert ours.rate == pytest.approx(1 - theirs.rate)
    assert ours.low == pytest.approx(1 - theirs.high)
    assert ours.wilson_low == pytest.approx(1 - theirs.wilson_high)
    assert 0 <= ours.low <= ours.rate <= ours.high <= 1


def test_all_ties_say_nothing_about_decided_prompts() -> None:
    result = win_rate([TIE] * 5)
    assert (result.rate, result.low, result.high) == (0.5, 0.5, 0.5)
    assert (result.wilson_low, result.wilson_high) == (0.0, 1.0)


def test_wilson_stays_inside_at_the_ends() -> None:
    low, high = wilson(10, 10)
    assert 0.72 < low < 0.73
    assert high == 1.0
    with pytest.raises(HeedError, match="11 successes of 10"):
        wilson(11, 10)


def test_scores_become_outcomes() -> None:
    assert outcomes_from_scores([1.0, 0.5, 0.2], [0.5, 0.5, 0.9]) == [WIN, TIE, LOSS]
    assert outcomes_from_scores([1.0, 0.2], [0.95, 0.9], tie_band=0.1) == [TIE, LOSS]


def test_nan_is_not_a_tie() -> None:
    with pytest.raises(NotFinite, match="prompt 1"):
        outcomes_from_scores([0.0, math.nan], [0.0, 0.0])


def test_lists_of_different_length_are_refused() -> None:
    with pytest.raises(HeedError, match="2 scores against 1"):
        outcomes_from_scores([0.0, 1.0], [0.0])
    with pytest.raises(HeedError, match="no outcomes"):
        win_rate([])
    with pytest.raises(HeedError, match=r"outcome 1 is 0\.7"):
        win_rate([1.0, 0.7])


def test_a_win_needs_both_orders() -> None:
    """Conflict, and "better" in one order only, are ties; equal verdicts stand."""
    first = [0.9, 0.9, 0.2, 0.9, 0.5]
    second = [0.8, 0.1, 0.3, 0.5, 0.5]
    assert outcomes_from_verdicts(first, second) == [WIN, TIE, LOSS, TIE, TIE]


def test_a_judge_that_always_picks_the_first_decides_nothing() -> None:
    first, second = [0.8] * 6, [0.2] * 6
    assert win_rate(outcomes_from_verdicts(first, second)).rate == 0.5
    assert position_consistency(first, second) == 0.0
    assert position_consistency([0.8, 0.8], [0.7, 0.2]) == 0.5


def test_length_matched_keeps_the_closed_range() -> None:
    """Ratios .8 and 1.25 stay; .79 and 1.26 go; two empty answers match, one empty never."""
    outcomes = [WIN, WIN, LOSS, LOSS, TIE, WIN]
    result = length_matched(outcomes, [80, 125, 79, 126, 0, 5], [100, 100, 100, 100, 0, 0])
    assert result is not None
    assert (result.wins, result.ties, result.losses) == (2, 1, 0)
    assert length_matched([WIN], [10], [100]) is None


def test_bootstrap_redraws_prompts() -> None:
    """Ten copies of each answer carry no more evidence than one: the interval over prompts is as wide."""
    single = [WIN, LOSS, WIN, WIN, LOSS, TIE, WIN, LOSS, WIN, WIN]
    repeated = [value for value in single for _ in range(10)]
    prompts = [index for index in range(10) for _ in range(10)]
    alone = bootstrap_win_rate(single, seed=3)
    grouped = bootstrap_win_rate(repeated, prompts, seed=3)
    naive = bootstrap_win_rate(repeated, seed=3)
    assert grouped.estimate == pytest.approx(alone.estimate)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.5 * (grouped.high - grouped.low)


def test_bootstrap_agrees_with_the_formula() -> None:
    outcomes = counts(44, 26, 30)
    result = bootstrap_win_rate(outcomes, seed=1, resamples=4000)
    assert (result.low, result.high) == pytest.approx((0.4868, 0.6532), abs=0.012)
    assert bootstrap_win_rate(outcomes, seed=1, resamples=4000) == result


def test_a_setting_is_plain_json() -> None:
    row = Setting("greedy", win_rate(counts(6, 1, 3)), None, temperature=0.0, counts=True).to_dict()
    assert row["win_rate"]["rate"] == 0.65  # type: ignore[index]
    assert row["win_rate"]["n"] == 10  # type: ignore[index]
    assert row["length_matched"] is None
    assert row["counts"] is True
