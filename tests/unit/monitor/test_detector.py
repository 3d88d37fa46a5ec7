"""The detector on traces whose outcome is known (N29), under noise, cut at every step, and after a rollback."""

import itertools
import json
import math
from statistics import median

import pytest

from heedlm.monitor import Detector, Thresholds, Verdict

SIGNALS = ("S1", "S2", "S3", "S4", "S5")


def verdicts(rows, detector: Detector) -> list[Verdict]:
    seen = (detector.observe(step, row) for step, row in rows)
    return [verdict for verdict in seen if verdict is not None]


def first_on(found: list[Verdict]) -> dict[str, int]:
    """Signal → the first step at which it was on."""
    first: dict[str, int] = {}
    for verdict in found:
        for alarm in verdict.alarms:
            if alarm.level == "on":
                first.setdefault(alarm.signal, verdict.step)
    return first


def collapse(found: list[Verdict]) -> int | None:
    return next((verdict.step for verdict in found if verdict.state == "collapsed"), None)


def test_n29_failing(traces):
    detector = Detector(Thresholds(), traces.cap)
    found = verdicts(traces.failing(), detector)
    assert first_on(found) == {"S3": 395, "S1": 420, "S2": 465, "S4": 475, "S5": 500}
    assert collapse(found) == 430
    assert detector.state == "collapsed"
    assert detector.first_warn == 320
    assert [verdict.step for verdict in found] == list(range(140, 1001, 5))
    assert {verdict.state for verdict in found if verdict.step >= 430} == {"collapsed"}


def test_n29_healthy(traces):
    detector = Detector(Thresholds(), traces.cap)
    found = verdicts(traces.healthy(), detector)
    assert len(found) == (10_000 - 140) // 5 + 1
    assert not [verdict for verdict in found if verdict.alarms]
    assert (detector.state, detector.first_warn, detector.off, detector.not_finite) == ("healthy", None, {}, ())


@pytest.mark.parametrize(("deviation", "correlation"), list(itertools.product((0.25, 0.5), (0.0, 0.9))))
def test_noise_neither_hides_a_collapse_nor_makes_one(traces, deviation, correlation):
    """docs/methods.md §4.4 at fewer seeds: 430 to 470 at the median, 415 to 500 at the ends, healthy runs never."""
    steps = [
        collapse(
            verdicts(
                traces.failing(traces.noise(1000, deviation, correlation, seed)), Detector(Thresholds(), traces.cap)
            )
        )
        for seed in range(20)
    ]
    assert None not in steps
    assert 415 <= min(steps) <= max(steps) <= 500
    assert 425 <= median(steps) <= 475
    for seed in range(5):
        found = verdicts(
            traces.healthy(traces.noise(10_000, deviation, correlation, seed)), Detector(Thresholds(), traces.cap)
        )
        assert collapse(found) is None


def test_reasons_hold_the_numbers(traces):
    found = verdicts(traces.failing(), Detector(Thresholds(), traces.cap))
    said = {(alarm.signal, alarm.level): alarm.reason for verdict in reversed(found) for alarm in verdict.alarms}
    assert said["S2", "on"] == "mean length 494 of at most 512 tokens, 4.8 times the 102 at the start"
    assert said["S3", "on"] == "NLL 1.05 nats a token, 50% of 2.1 at the start"
    assert said["S4", "on"] == "KL 0.101 nats a token to the reference, alarm from 0.1"
    assert said["S5", "on"] == "win rate 45%, 18 points below the 63% of step 300, while reward rose by 6.02"
    assert said["S1", "on"].startswith("reward 5.22 is 0.68 (0.27 standard deviations")


def test_cut_at_every_step_it_goes_on_exactly(traces):
    straight, resumed = Detector(Thresholds(), traces.cap), Detector(Thresholds(), traces.cap)
    for step, row in traces.failing():
        assert straight.observe(step, row) == resumed.observe(step, row)
        state = json.loads(json.dumps(resumed.state_dict(), allow_nan=False))
        assert state == straight.state_dict()
        resumed = Detector(Thresholds(), traces.cap)
        resumed.load_state_dict(state)
    assert resumed.first_warn == straight.first_warn == 320
    assert resumed.off == straight.off


def test_after_a_rollback_it_watches_as_if_the_lost_rows_had_not_been(traces):
    rows = list(traces.failing())
    detector, untouched = Detector(Thresholds(), traces.cap), Detector(Thresholds(), traces.cap)
    verdicts(rows[:501], detector)
    verdicts(rows[:261], untouched)
    assert detector.state == "collapsed"
    detector.restart(260)
    assert (detector.state, detector.first_warn) == ("healthy", None)
    assert verdicts(rows[261:], detector) == verdicts(rows[261:], untouched)
    assert detector.state == "collapsed"


def test_a_rollback_beyond_what_is_remembered_still_knows_the_baseline(traces):
    rows = list(traces.failing())
    detector = Detector(Thresholds(), traces.cap)
    verdicts(rows, detector)
    detector.restart(100)
    again = verdicts(rows[101:], detector)
    assert first_on(again) == {"S3": 395, "S1": 420, "S2": 465, "S4": 475, "S5": 500}


def test_a_step_that_goes_back_without_restart_is_refused():
    detector = Detector(Thresholds(), 512)
    detector.observe(3, {})
    with pytest.raises(ValueError, match="call restart"):
        detector.observe(3, {})


def flat(**changes: float) -> dict[str, float]:
    """A row of a run in which nothing happens."""
    row = {"reward/mean": 1.0, "reward/std": 1.0, "length/mean": 20.0, "length/truncated": 0.0, "nll/policy": 2.0}
    return row | {"kl/token_nats": 0.01} | {key.replace("__", "/"): value for key, value in changes.items()}


QUICK = Thresholds(every=1, window=2, baseline=2, trend=6, min_steps=2, clear=3)


def run(rows: list[dict], *, cap: int | None = 100, thresholds: Thresholds = QUICK, **more) -> tuple[Detector, list]:
    detector = Detector(thresholds, cap, **more)
    return detector, verdicts(enumerate(rows), detector)


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({"length__mean": 95.0}, ("S2", "on")),
        ({"length__mean": 94.0}, ("S2", "warn")),
        ({"length__mean": 40.0}, None),
        ({"length__truncated": 0.5}, ("S2", "on")),
        ({"length__truncated": 0.2}, ("S2", "warn")),
        ({"length__truncated": 0.19}, None),
        ({"nll__policy": 1.0}, ("S3", "on")),
        ({"nll__policy": 1.2}, ("S3", "warn")),
        ({"nll__policy": 1.21}, None),
        ({"kl__token_nats": 0.1}, ("S4", "on")),
        ({"kl__token_nats": 0.07}, ("S4", "warn")),
        ({"kl__token_nats": 0.069}, None),
        ({"kl__token_nats": -5.0}, None),
    ],
)
def test_levels(changes, alarm):
    _, found = run([flat()] * 2 + [flat(**changes)] * 2)
    assert [(a.signal, a.level) for a in found[-1].alarms] == ([alarm] if alarm else [])


def test_a_controllers_target_raises_the_level_of_drift():
    """Target 8 nats an answer of 20 tokens is 0.4 a token; the alarm is at twice that, the warning in proportion."""
    for kl, level in ((0.55, None), (0.57, "warn"), (0.79, "warn"), (0.81, "on")):
        _, found = run([flat(kl__token_nats=kl)] * 3, kl_target=8.0)
        assert [alarm.level for alarm in found[-1].alarms] == ([level] if level else [])


def test_one_signal_alone_only_warns_and_two_must_stay():
    detector, _ = run([flat()] * 2 + [flat(kl__token_nats=3.0)] * 50)
    assert (detector.state, detector.first_warn) == ("warn", 2)
    both = flat(kl__token_nats=3.0, nll__policy=0.1)
    detector, found = run([flat()] * 2 + [both] * 2 + [flat(), flat()] + [both] * 4)
    assert collapse(found) == 9, "two looks, a pause of one, and three in a row from step 7 on"


def test_a_warning_ends_after_quiet_looks_and_begins_anew():
    detector, found = run([flat()] * 2 + [flat(kl__token_nats=0.3)] + [flat()] * 4 + [flat(kl__token_nats=0.3)])
    assert [verdict.state for verdict in found] == ["healthy", "warn", "warn", "warn", "warn", "healthy", "warn"]
    assert [verdict.step for verdict in found] == [1, 2, 3, 4, 5, 6, 7]
    assert detector.first_warn == 7


def test_a_length_near_the_limit_is_not_quiet():
    """Between 85 % of the cap and twice the first length nothing is raised, but a warning does not end either."""
    start = flat(length__mean=50.0)
    rows = [start] * 2 + [flat(length__mean=99.0)] * 2 + [flat(length__mean=86.0)] * 20
    assert run(rows)[0].state == "warn"
    assert run([*rows, *[flat(length__mean=80.0)] * 4])[0].state == "healthy"


def wins(*rates: float, low: float | None = None, gain: float = 1.0) -> list[dict]:
    more = {"watch/drop_low": low} if low is not None else {}
    return [flat(reward__mean=gain * place) | {"watch/win_rate": r} | more for place, r in enumerate(rates)]


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        (wins(0.5, 0.5, 0.6, 0.6, 0.5), "collapsed"),
        (wins(0.5, 0.5, 0.6, 0.6, 0.51), "healthy"),
        (wins(0.5, 0.5, 0.6, 0.6, 0.3, gain=0.0), "healthy"),
        (wins(0.5, 0.5, 0.6, 0.6, 0.3, low=-0.01), "healthy"),
        (wins(0.5, 0.5, 0.6, 0.6, 0.3, low=0.01), "collapsed"),
        (wins(0.5, 0.5, 0.6, 0.6, 0.3, low=math.nan), "collapsed"),
    ],
)
def test_win_rate(rows, state):
    calm = QUICK.model_copy(update={"reward_jump": 100.0})
    assert run(rows, thresholds=calm)[0].state == state


def test_what_is_missing_is_said_and_the_rest_goes_on(traces):
    rows = [(step, {k: v for k, v in row.items() if k != "nll/policy"}) for step, row in traces.failing()]
    rows = [(step, {k: v for k, v in row.items() if k != "watch/win_rate"}) for step, row in rows]
    detector = Detector(Thresholds(), None)
    found = verdicts(rows, detector)
    assert detector.off == {
        "S2": "S2 can only warn: the longest answer allowed (cap) is not given, "
        "and no share of cut answers in this log",
        "S3": "S3 is off: no NLL in this log",
        "S5": "S5 is off: no win rate in this log",
    }
    assert first_on(found) == {"S1": 420, "S4": 475}
    assert list(Detector(Thresholds(), 512).off) == list(SIGNALS)


@pytest.mark.parametrize(
    ("rows", "signal", "words"),
    [
        ([{"reward/mean": 1.0}] * 4, "S1", "S1 is off: no spread of rewards (reward/std) in this log"),
        ([flat(reward__std=0.0)] * 4, "S1", "S1 is off: all rewards of the first 2 rows are equal"),
        (
            [flat(reward__std=0.0) | {"watch/win_rate": 0.5}] * 4,
            "S5",
            "S5 is off: all rewards of the first 2 rows are equal",
        ),
        ([{}, {}, flat(), flat()], "S3", "S3 is off: no NLL in the first 2 rows"),
        ([flat(), {}, {}, {}], "S4", "S4 is off: KL a token in only 1 of 4 rows"),
        ([{}] * 4, "S2", "S2 is off: no length in this log"),
    ],
)
def test_what_a_log_lacks_in_words(rows, signal, words):
    assert run(rows)[0].off[signal] == words


def test_values_that_are_not_finite_are_left_out_and_told():
    rows = [flat()] * 4 + [flat(nll__policy=math.nan, kl__token_nats=math.inf)] + [flat(nll__policy=-math.inf)]
    detector, found = run([*rows, flat(), flat()])
    assert detector.state == "healthy"
    assert len(found) == 7
    assert detector.not_finite == (
        "nll/policy was NaN or infinite in 2 rows, first at step 4; they were left out",
        "kl/token_nats was NaN or infinite in 1 rows, first at step 4; they were left out",
    )
    all_bad = dict.fromkeys(flat(), math.nan) | {"watch/win_rate": math.nan, "watch/drop_low": math.nan}
    detector, _ = run([all_bad] * 9)
    assert (detector.state, set(detector.off)) == ("healthy", set(SIGNALS))


def test_a_gap_in_a_log_does_not_silence_the_rest(traces):
    """Every third value is missing, and steps are logged two apart: alarms come within a few looks of N29's."""
    rows = [(step, {} if step % 3 == 0 else row) for step, row in traces.failing() if step % 2 == 0]
    found = verdicts(rows, Detector(Thresholds(min_steps=70, trend=50, window=10, baseline=10), traces.cap))
    assert collapse(found) == pytest.approx(430, abs=15)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kl_warn": 0.2}, "kl_warn may not be above kl"),
        ({"nll": 0.7}, "nll may not be above nll_warn"),
        ({"truncated_warn": 0.6}, "truncated_warn may not be above truncated"),
        ({"length_full": 0.8}, "length_clear may not be above length_full"),
        ({"min_steps": 10}, "min_steps may not be below window or baseline"),
    ],
)
def test_thresholds_that_contradict_each_other_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Thresholds(**given)


def test_a_known_start_is_the_first_best():
    """Reward rises and the win rate is below ½ from its first measure on: without the start there is no fall."""
    rows = [
        {"reward/mean": 0.1 * step, "reward/std": 1.0, "watch/win_rate": 0.35, "watch/drop_low": 0.05}
        for step in range(1, 61)
    ]
    limits = Thresholds(every=1, window=5, baseline=5, trend=30, min_steps=10)
    for start, collapsed in ((None, False), (0.5, True), (0.4, False)):
        detector = Detector(limits, None, start_win_rate=start)
        for step, row in enumerate(rows, start=1):
            detector.observe(step, row)
        assert (detector.state == "collapsed") is collapsed, start
