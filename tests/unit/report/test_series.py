"""Metrics as series: bad values, resumed steps, thinning, smoothing, throughput."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedlm.report.series import POINTS, Series, collect, smoothed, thin, throughput


def test_collect_counts_what_is_not_finite() -> None:
    rows = [{"step": 1, "a": 1.0}, {"step": 2, "a": math.nan}, {"step": 3, "a": math.inf}, {"step": 4, "a": 2.0}]
    series = collect(rows)["a"]
    assert (series.steps, series.values) == ([1.0, 4.0], [1.0, 2.0])
    assert (series.bad, series.first_bad) == (2, 2.0)


def test_a_step_logged_twice_keeps_its_last_values() -> None:
    rows = [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0, "b": 5.0}, {"step": 2, "a": 3.0}]
    assert collect(rows)["a"].values == [1.0, 3.0]
    assert collect(rows)["b"].values == [5.0]


def test_words_and_truth_values_are_no_numbers() -> None:
    assert set(collect([{"step": 1, "note": "x", "flag": True, "a": 1}])) == {"a"}


def test_rows_without_a_step_are_counted() -> None:
    assert collect([{"a": 1.0}, {"a": 2.0}])["a"].steps == [1.0, 2.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1500))
def test_thinning_keeps_the_range_and_the_ends(values: list[float]) -> None:
    series = Series("a", [float(i) for i in range(len(values))], values)
    thinned = thin(series)
    assert len(thinned.values) <= POINTS
    assert min(thinned.low) == min(values)
    assert max(thinned.high) == max(values)
    assert thinned.steps[-1] == series.steps[-1]
    assert thinned.steps == sorted(thinned.steps)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=100))
def test_smoothing_stays_within_the_values(values: list[float]) -> None:
    result = smoothed(values)
    assert len(result) == len(values)
    assert min(values) - 1e-9 <= min(result) <= max(result) <= max(values) + 1e-9


def test_throughput_is_tokens_by_the_time_between_steps() -> None:
    rows = [{"step": step, "tokens": 100, "seconds": 0.5 * step} for step in range(1, 5)]
    speed = throughput(collect(rows))
    assert speed is not None
    assert speed.values == pytest.approx([200.0, 200.0, 200.0])
    assert throughput(collect([{"step": 1, "tokens": 5}])) is None


def test_start_and_end_are_means_of_the_ends() -> None:
    series = Series("a", [float(i) for i in range(100)], [float(i) for i in range(100)])
    assert series.start() == pytest.approx(2.0)
    assert series.end() == pytest.approx(97.0)
