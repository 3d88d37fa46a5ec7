"""Thresholds for models that move fast: levels between healthy and failing runs, windows that follow their pace."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from heedlm.monitor import Detector, Thresholds, calibrate
from heedlm.monitor.calibrate import pace_of
from heedlm.monitor.timeline import Timeline, play


def fast(seed: int, end: int = 60, steps: int = 200, moved: float = 0.01) -> list[dict]:
    """A run that is ruined at step `end`: drift, certainty and reward grow with the square of the time."""
    random = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        done = min(step / end, 1.5) ** 2
        row = {"reward/mean": 1.0 + 3.0 * done + random.normal() * 0.1, "reward/std": 1.0}
        row |= {"kl/token_nats": 0.02 + 2.0 * done + random.normal() * 0.02}
        row |= {"nll/policy": max(2.0 * (1 - 0.75 * done), 0.1) + random.normal() * 0.02}
        row |= {"length/mean": 20.0 + random.normal(), "length/truncated": 0.0}
        row |= {"policy/approx_kl": moved * math.exp(random.normal() * 0.3), "step": step}
        if step % 20 == 0:
            row["watch/win_rate"] = max(0.55 - 0.3 * max(done - 0.3, 0.0), 0.2)
        rows.append(row)
    return rows


def slow(seed: int, steps: int, level: float = 0.2, moved: float = 0.0002) -> list[dict]:
    """A healthy run of a tiny model: KL settles at `level` nats a token, with noise that hangs together."""
    random, drift, rows = np.random.default_rng(seed), 0.0, []
    for step in range(1, steps + 1):
        drift = 0.9 * drift + random.normal() * 0.005
        done = 1 - math.exp(-step / 100)
        row = {"reward/mean": 1.0 + 1.5 * done + random.normal() * 0.1, "reward/std": 1.0, "step": step}
        row |= {"kl/token_nats": level * done + drift, "nll/policy": 2.0 - 0.3 * done + random.normal() * 0.03}
        row |= {"length/mean": 20.0 + random.normal(), "length/truncated": 0.05}
        row |= {"policy/approx_kl": moved * math.exp(random.normal() * 0.3)}
        if step % 20 == 0:
            row["watch/win_rate"] = 0.5 + 0.2 * done + random.normal() * 0.02
        rows.append(row)
    return rows


def outcome(rows: list[dict], limits: Thresholds, cap: int = 64) -> tuple[str, Timeline]:
    detector = Detector(limits, cap)
    story = play(rows, detector)
    return detector.state, story


@pytest.fixture(scope="module")
def tiny() -> Thresholds:
    return calibrate([slow(1, 400)], [fast(1)])


def test_the_thresholds_of_7b_are_what_its_own_traces_give(traces):
    """N29's two runs lead back to its thresholds, and as they are slow the windows stay as they are."""
    healthy = [{**row, "step": step} for step, row in traces.healthy()]
    failing = [{**row, "step": step} for step, row in traces.failing()]
    limits, given = calibrate([healthy], [failing]), Thresholds()
    for key in ("kl", "kl_warn", "nll", "nll_warn"):
        assert getattr(limits, key) == pytest.approx(getattr(given, key), rel=0.25), key
    for key in ("every", "window", "baseline", "trend", "min_steps", "pace"):
        assert getattr(limits, key) == getattr(given, key), key
    assert outcome(failing, limits, traces.cap)[0] == "collapsed"
    assert outcome(healthy, limits, traces.cap)[1].changes == []


def test_levels_lie_between_healthy_and_failing_runs(tiny):
    assert 0.22 < tiny.kl_warn < tiny.kl < 1.0
    assert 0.25 < tiny.nll < tiny.nll_warn < 0.85
    assert tiny.window == tiny.baseline == 5
    assert (tiny.every, tiny.min_steps) == (1, 10)
    assert tiny.trend == 30


def test_a_collapse_within_60_steps_is_seen_in_time_on_runs_not_calibrated_on(tiny):
    """The win rate has lost 10 points at step 48; the thresholds of 7 B first look at step 140."""
    for seed in range(10, 30):
        state, story = outcome(fast(seed), tiny)
        assert state == "collapsed"
        assert story.first_warning <= 40
        assert story.collapsed_at <= 60
    assert outcome(fast(10), Thresholds())[1].first_warning == 140


@pytest.mark.parametrize("steps", [200, 3000])
def test_healthy_tiny_runs_raise_no_alarm(tiny, steps):
    for seed, level in zip(range(10, 18), (0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.20, 0.21), strict=True):
        state, story = outcome(slow(seed, steps, level), tiny)
        assert state == "healthy"
        assert not story.alarms
    assert outcome(slow(10, 200, 0.2), Thresholds())[0] == "warn"


def test_windows_shrink_with_the_square_root_of_the_pace():
    """A KL a step four times as large is twice the distance, so windows are half as long; slower runs keep them."""
    limits = Thresholds(pace=0.001)
    for moved, window, trend, minimum in ((0.004, 10, 50, 20), (0.001, 20, 100, 140), (0.0001, 20, 100, 140)):
        detector = Detector(limits, cap=64)
        for row in fast(0, moved=0.0)[:10]:
            detector.observe(row["step"], {**row, "policy/approx_kl": moved})
        assert (detector.limits.window, detector.limits.trend, detector.limits.min_steps) == (window, trend, minimum)
    for row in fast(0, moved=0.0)[:10]:
        assert Detector(limits, cap=64).observe(row["step"], row) is None


def test_a_faster_run_than_calibrated_on_is_seen_sooner():
    """Calibrated at 300 steps to ruin; a run ten times as fast has a hundred times the KL a step."""
    limits = calibrate([slow(1, 1000)], [fast(1, end=300, steps=600, moved=0.0004)])
    assert 8 <= limits.window < 20
    story = outcome(fast(2, end=30, moved=0.04), limits)[1]
    assert story.collapsed_at <= 35
    blind = limits.model_copy(update={"pace": None})
    assert outcome(fast(2, end=30, moved=0.04), blind)[1].collapsed_at >= story.collapsed_at + 5


def test_shortened_windows_survive_a_resume(tiny):
    limits = tiny.model_copy(update={"pace": tiny.pace / 4, "window": 20, "trend": 60, "min_steps": 90})
    rows = fast(3)
    straight, resumed = Detector(limits, cap=64), Detector(limits, cap=64)
    for row in rows:
        assert straight.observe(row["step"], row) == resumed.observe(row["step"], row)
        state = json.loads(json.dumps(resumed.state_dict(), allow_nan=False))
        resumed = Detector(limits, cap=64)
        resumed.load_state_dict(state)
    assert resumed.limits == straight.limits != limits


def test_scaled():
    given = Thresholds()
    assert given.scaled(1.0) is given.scaled(3.0) is given
    sizes = [given.scaled(factor).window for factor in (0.9, 0.5, 0.3, 0.01)]
    assert sizes == [18, 10, 6, 5]
    assert all(one.trend > two.trend for one, two in pairwise(given.scaled(f) for f in (1.0, 0.6, 0.4, 0.01)))
    least = given.scaled(0.01)
    assert (least.every, least.baseline, least.trend, least.min_steps) == (1, 5, 30, 10)
    assert Thresholds(window=2, baseline=3, trend=6, min_steps=4).scaled(0.1).window == 2


def test_what_the_runs_do_not_tell_stays():
    given = Thresholds()
    silent = [{"step": step, "reward/mean": 1.0} for step in range(50)]
    assert calibrate([silent], [silent]) == given
    assert calibrate([], []) == given
    assert pace_of(silent) is None
    no_drift = [{key: value for key, value in row.items() if key != "kl/token_nats"} for row in fast(1)]
    limits = calibrate([slow(1, 300)], [no_drift])
    assert (limits.kl, limits.kl_warn) == (given.kl, given.kl_warn)
    assert limits.nll != given.nll


def test_a_failing_run_no_farther_than_healthy_ones_leaves_them_a_margin():
    failing = [{**row, "kl/token_nats": 0.01, "watch/win_rate": 0.5} for row in fast(1)]
    healthy = slow(1, 300)
    farthest = max(np.convolve([row["kl/token_nats"] for row in healthy], np.ones(5) / 5, "valid"))
    assert calibrate([healthy], [failing]).kl == pytest.approx(1.25 * farthest)


def test_healthy_runs_whose_answers_are_often_cut_do_not_warn():
    often = [{**row, "length/truncated": 0.3} for row in slow(1, 300)]
    limits = calibrate([often], [fast(1)])
    assert (limits.truncated, limits.truncated_warn) == (0.5, pytest.approx(0.375))
    assert "S2" not in {name for name, _ in outcome(often, limits)[1].alarms}
