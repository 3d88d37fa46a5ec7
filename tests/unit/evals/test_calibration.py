"""Accuracy with ties, calibration (worked number N24), temperature and bins."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedlm.errors import HeedError, NotFinite
from heedlm.evals import calibration


def test_n24() -> None:
    """Bins of .1 on [.5, 1]: (.45 + .62 + .3 + .19 + 2·.05)/6; 0.7 belongs to [.7, .8)."""
    result = calibration.ece([0.55, 0.62, 0.7, 0.81, 0.93, 0.97], [1, 0, 1, 1, 1, 1], bins=5)
    assert result == pytest.approx(0.276667, abs=1e-6)


def test_certainty_of_one_falls_into_the_last_bin() -> None:
    bins = calibration.reliability([0.5, 1.0], [1.0, 1.0], bins=5)
    assert [each.n for each in bins] == [1, 0, 0, 0, 1]
    assert bins[1].accuracy is None


def test_equal_scores_count_half() -> None:
    assert calibration.accuracy([1.0, -2.0, 0.0, 0.5]) == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    with pytest.raises(NotFinite, match="pair 1"):
        calibration.accuracy([1.0, math.nan])
    with pytest.raises(HeedError, match="no pairs"):
        calibration.accuracy([])


@given(st.floats(-1e4, 1e4))
def test_sigmoid_is_symmetric_and_never_overflows(x: float) -> None:
    assert calibration.sigmoid(x) + calibration.sigmoid(-x) == pytest.approx(1.0)


def test_temperature_recovers_over_confidence() -> None:
    """Margins three times too large for the labels they explain give T near 3."""
    generator = random.Random(0)
    margins = []
    for _ in range(4000):
        true = generator.gauss(0, 1.5)
        preferred = true if generator.random() < calibration.sigmoid(true) else -true
        margins.append(3 * preferred)
    assert calibration.fit_temperature(margins) == pytest.approx(3.0, rel=0.1)


def test_accuracy_by_bin_and_group() -> None:
    bins = calibration.accuracy_by_bin([1, -1, 2, 3], [0.0, 0.5, 1.0, 2.0], [0, 1, 2])
    assert [(each.n, each.accuracy) for each in bins] == [(2, 0.5), (2, 1.0)]
    groups = calibration.accuracy_by_group([1.0, -1.0, 0.0], ["a", "a", "b"])
    assert groups == {"a": (2, 0.5), "b": (1, 0.5)}


def test_correlation() -> None:
    assert calibration.correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert calibration.correlation([1, 2, 3], [5, 5, 5]) == 0.0
