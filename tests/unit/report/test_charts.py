"""Charts: axes, paths that stay inside, words for those who do not see them, numbers as written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedlm.report.charts import Chart, chart, marks, nice_ticks
from heedlm.report.panels import Line, Panel, arrange
from heedlm.report.series import Series, collect
from heedlm.report.words import count, duration, number


def draw(values: list[float], level: float | None = None) -> Chart:
    series = Series("a", [float(i + 1) for i in range(len(values))], values)
    return chart("c0", Panel("Loss", "Loss", "nats", (Line("a", "training"),), level=level), {"a": series})


def heights(path: str) -> list[int]:
    return [int(y) for _, y in re.findall(r"(-?\d+) (-?\d+)", path)]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=80))
def test_every_curve_stays_on_its_grid(values: list[float]) -> None:
    curve = draw(values).curves[0]
    assert all(0 <= y <= 1000 for y in heights(curve.line) + heights(curve.faint) + heights(curve.area))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_nice_ticks_span_the_range_evenly(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width, 4)
    assert ticks[0] <= low + 1e-6 * width
    assert ticks[-1] >= low + width * (1 - 1e-6)
    assert 2 <= len(ticks) <= 12


def test_marks_have_the_decimals_that_tell_them_apart() -> None:
    assert [text for _, text in marks(0.9993, 1.0006, 4)] == ["0.9995", "1.0000", "1.0005"]
    assert [text for _, text in marks(-1.2, 2.1, 4)] == ["\u22121", "0", "1", "2"]


def test_a_constant_lies_in_the_middle_whatever_the_last_digit() -> None:
    assert heights(draw([0.2] * 5).curves[0].line) == [500] * 5
    wobbling = [6606.45 + 1e-9 * (i % 3) for i in range(10)]
    assert all(abs(y - 500) < 5 for y in heights(draw(wobbling).curves[0].line))


def test_one_wild_value_does_not_squash_the_rest() -> None:
    values = [1.0 + 0.01 * (i % 10) for i in range(100)]
    values[50] = 1e6
    spread = heights(draw(values).curves[0].faint)
    assert max(spread) - min(y for y in spread if y > 0) > 100


def test_summary_and_table_say_what_the_picture_shows() -> None:
    made = draw([3.0, 2.0, 1.5, 1.0])
    assert made.summary == ("Loss (nats). training: 3 at step 1, 1 at step 4, lowest 1, highest 3.")
    assert made.columns == ["step", "training"]
    assert made.rows == [["1", "3"], ["2", "2"], ["3", "1.500"], ["4", "1"]]
    assert len(draw([float(i) for i in range(500)]).rows) == 11


def test_level_is_always_in_sight() -> None:
    made = draw([5.0, 6.0], level=1.0)
    assert made.level is not None
    assert 0 <= made.level <= 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (200.0, "200"), (0.69, "0.690"), (1.3333, "1.33"), (25.2, "25.2"), (123.456, "123"),
        (-0.25, "\u22120.250"), (1234.5, "1234"), (50000.0, "50\u202f000"), (4.2e-5, "4.2e\u22125"), (3e8, "3.0e8"),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(value: float, text: str) -> None:
    assert number(value) == text


def test_durations_and_counts() -> None:
    assert [duration(s) for s in (2.345, 83, 600, 20000)] == ["2.3 s", "83 s", "10.0 min", "5.6 h"]
    assert [count(n) for n in (512, 3072, 1_210_432, 7e9)] == ["512", "3.07 k", "1.21 M", "7 B"]


def test_unknown_metrics_get_a_chart_under_their_prefix() -> None:
    series = collect([{"step": i, "reward/part_form": 0.1 * i, "odd": 1.0, "first/ratio": 1.0} for i in range(3)])
    groups = arrange(series)
    assert [panel.title for panel, _ in groups["Reward"]] == ["Part form"]
    assert [panel.title for panel, _ in groups["Other"]] == ["Odd"]
    assert set(groups) == {"Reward", "Other"}


def test_related_metrics_share_a_chart_and_bands_need_both_ends() -> None:
    rows = [{"step": i, "reward/p50": 0.0, "reward/p01": -1.0, "perplexity/policy": 5.0} for i in range(3)]
    groups = arrange(collect(rows))
    spread, _ = groups["Reward"][0]
    assert spread.title == "Spread of the reward"
    assert spread.band is None
    [(perplexity, _)] = groups["Perplexity and entropy"]
    assert [line.label for line in perplexity.lines] == ["policy"]
