"""The section on stability: a story in plain words, charts on one axis, alarms and rollbacks where they happened."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from heedlm.config import StageConfig
from heedlm.report import Source, render
from heedlm.report.alarms import Stretch
from heedlm.report.charts import Overlay
from heedlm.report.series import collect
from heedlm.report.stability import Stability, stability
from heedlm.runs import Run

EVIL = "</script><script>alert(1)</script>{{ 7*7 }}\u2028"


def row(step: int, bad: float, rng: random.Random) -> dict[str, float]:
    values = {
        "reward/mean": step / 1000 + 3 * bad + rng.gauss(0, 0.1),
        "length/mean": 22 + 20 * bad,
        "perplexity/policy": 8 - 5 * bad,
        "perplexity/reference": 9.0,
        "kl/token_nats": 0.05 + bad,
    }
    if step % 20 == 0:
        rate = 0.6 - 0.3 * bad
        values |= {"watch/win_rate": rate, "watch/win_rate_low": rate - 0.05, "watch/win_rate_high": rate + 0.05}
    return values


def said(step: int, state: str, **reasons: str) -> dict[str, Any]:
    alarms = [{"signal": signal, "level": "on", "reason": reason} for signal, reason in reasons.items()]
    return {"step": step, "state": state, "alarms": alarms}


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")


def numbers(path: Path, steps: Sequence[int], collapse: int | None = None) -> None:
    rng = random.Random(7)
    bad = {step: 0.0 if collapse is None else max(0.0, (step - steps[0]) / (collapse - steps[0])) for step in steps}
    lines(path / "metrics.jsonl", ({"step": step, "seconds": step / 2, **row(step, bad[step], rng)} for step in steps))


def make(out: Path, stage: str = "ppo", guard: str = "rollback") -> Run:
    run = Run.create(stage, StageConfig(out=out, name="frogs"), argv=["heed", stage])
    (run.path / "config.json").write_text(json.dumps({"guard": guard} if guard else {}), encoding="utf-8")
    return run


def section(run: Run) -> Stability:
    source = Source.read(run.path)
    found = stability(source, collect(source.metrics))
    assert found is not None
    return found


@pytest.fixture
def saved(tmp_path: Path) -> Run:
    """Collapsed at 430, gone back to 200, collapsed at 900, gone back to 400, a warning, then quiet to 1,500."""
    run = make(tmp_path)
    numbers(run.path, range(1, 1501))
    numbers(run.path / "abandoned" / "1", range(201, 431), 430)
    numbers(run.path / "abandoned" / "2", range(401, 901), 900)
    lines(run.path / "alarms.jsonl", [said(740, "warn", S4="KL 0.08 nats a token"), said(880, "healthy")])
    lines(
        run.path / "abandoned" / "1" / "alarms.jsonl",
        [said(310, "warn", S3="NLL at 59%"), said(420, "collapsed", S1="reward jumps", S3="NLL at 40%")],
    )
    lines(run.path / "abandoned" / "2" / "alarms.jsonl", [said(900, "collapsed", S5="win rate falls")])
    first = {"at": 430, "to": 200, "reasons": ["reward jumps"], "lr_scale": 0.5, "kl_coef": 0.4}
    second = {"at": 900, "to": 400, "reasons": ["win rate falls"], "lr_scale": 0.25, "kl_coef": 0.8}
    run.note(guard={"state": "healthy", "off": [], "rollbacks": [first, second]})
    run.finish()
    return run


def test_the_story_of_a_run_that_was_saved(saved: Run) -> None:
    assert section(saved).story == [
        "The run ended healthy at step 1500.",
        "The first warning came at step 310 (S3: NLL at 59%).",
        "Collapse was found at step 420 (S1: reward jumps; S3: NLL at 40%).",
        "The guard went back from step 430 to step 200 and trained on with learning rate × 0.5, β 0.4.",
        "The guard went back again, from step 900 to step 400 and trained on with learning rate × 0.25, β 0.8.",
    ]


def test_events_in_the_order_they_happened(saved: Run) -> None:
    found = section(saved)
    assert [(fact.level, fact.text) for fact in found.events] == [
        ("warn", "Step 310 to 420, try 1: warning. S3: NLL at 59%."),
        ("bad", "Step 420 to 430, try 1: collapsed. S1: reward jumps; S3: NLL at 40%."),
        ("note", "At step 430 the guard went back to step 200. Training went on with learning rate × 0.5, β 0.4."),
        ("bad", "Step 900, try 2: collapsed. S5: win rate falls."),
        ("note", "At step 900 the guard went back to step 400. Training went on with learning rate × 0.25, β 0.8."),
        ("warn", "Step 740 to 880, try 3: warning. S4: KL 0.08 nats a token."),
    ]
    assert found.unlisted == 0


def test_a_lane_for_every_try(saved: Run) -> None:
    found = section(saved)
    spans = [(lane.name, lane.lost, round(lane.at), round(lane.at + lane.width)) for lane in found.lanes]
    assert spans == [("try 1", True, 0, 29), ("try 2", True, 13, 60), ("try 3", False, 27, 100)]
    states = [[(zone.state, zone.lost) for zone in lane.zones] for lane in found.lanes]
    assert states == [[("warn", True), ("collapsed", True)], [("collapsed", True)], [("warn", False)]]
    assert "try 1: given up at step 430 for step 200" in found.lanes_in_words
    assert found.lanes_in_words.endswith("try 3: up to step 1500, now healthy")


def test_charts_share_one_axis_and_show_what_was_given_up(saved: Run) -> None:
    found = section(saved)
    assert [each.title for each in found.charts] == ["Reward", "Win rate over the start", "Length", "Perplexity", "KL"]
    assert {tuple(each.data["range"]) for each in found.charts} == {(1.0, 1500.0)}
    assert {tuple(tick.text for tick in each.x_ticks) for each in found.charts} == {
        ("200", "400", "600", "800", "1000", "1200", "1400")
    }
    for each in found.charts:
        assert [round(at) for at in each.backs] == [29, 60]
        assert [index for index, _ in each.given_up] == [0, 0]
        assert len(each.zones) == 4
    # What was given up lies within the chart: the collapse is part of its range.
    kl = found.charts[-1]
    assert float(kl.y_ticks[-1].text) >= 1.0
    assert math.isclose(kl.data["zones"][0][0], 100 * 739 / 1499, abs_tol=0.01)
    assert kl.data["zones"][0][2] == "warning; S4: KL 0.08 nats a token"


def test_no_alarm_at_all(tmp_path: Path) -> None:
    run = make(tmp_path)
    numbers(run.path, range(1, 301))
    run.note(guard={"state": "healthy", "off": ["S5 is off: no win rate in this log"], "rollbacks": []})
    run.finish()
    found = section(run)
    assert found.story == ["No alarm in 300 steps: the run is healthy."]
    assert (found.lanes, found.events, found.off) == ([], [], ["S5 is off: no win rate in this log"])
    assert "<h3>Alarms and rollbacks" not in render(Source.read(run.path))


@pytest.mark.parametrize(
    ("guard", "end"),
    [("stop", "Training was stopped there."), ("off", "The guard was off, so training went on.")],
)
def test_a_collapse_that_was_not_undone(tmp_path: Path, guard: str, end: str) -> None:
    run = make(tmp_path, guard=guard)
    numbers(run.path, range(1, 301), 300)
    lines(run.path / "alarms.jsonl", [said(200, "warn", S3="NLL"), said(290, "collapsed", S3="NLL", S4="KL")])
    run.fail("collapsed")
    assert section(run).story == [
        "The run ended collapsed at step 300.",
        "The first warning came at step 200 (S3: NLL).",
        "Collapse was found at step 290 (S3: NLL; S4: KL).",
        end,
    ]


def test_after_the_last_rollback_nothing_more(tmp_path: Path) -> None:
    run = make(tmp_path)
    numbers(run.path, range(1, 301))
    lines(run.path / "alarms.jsonl", [said(50, "warn", S3="NLL"), said(90, "healthy")])
    lines(run.path / "abandoned" / "1" / "alarms.jsonl", [said(150, "collapsed", S4="KL")])
    run.note(guard={"rollbacks": [{"at": 150, "to": 100, "reasons": ["KL"]}]})
    found = section(run)
    assert found.story == [
        "The run was healthy at step 300.",
        "The first warning came at step 50 (S3: NLL).",
        "Collapse was found at step 150 (S4: KL).",
        "The guard went back from step 150 to step 100 and trained on.",
        "Since then there has been no alarm in 200 steps.",
    ]
    assert [fact.text for fact in found.events] == [
        "Step 50 to 90: warning. S3: NLL.",
        "Step 150, try 1: collapsed. S4: KL.",
        "At step 150 the guard went back to step 100.",
    ]
    assert [len(lane.zones) for lane in found.lanes] == [2, 0]
    run.finish()


def test_a_run_nobody_watched(tmp_path: Path) -> None:
    run = make(tmp_path, guard="")
    numbers(run.path, range(1, 31))
    run.finish()
    assert section(run).story[0].startswith("No collapse detector watched this run.")


def test_other_stages_have_no_such_section(chain: dict[str, Path]) -> None:
    for name in ("village", "pretrain", "sft", "reward"):
        source = Source.read(chain[name])
        assert stability(source, collect(source.metrics)) is None
        assert 'id="stability"' not in render(source)


def test_a_restless_run_of_ten_thousand_steps_stays_small_and_readable(tmp_path: Path) -> None:
    run = make(tmp_path)
    numbers(run.path, range(1, 10_001))
    changes = []
    for step in range(200, 9_000, 60):
        changes += [said(step, "warn", S2="a long reason " * 100), said(step + 25, "healthy")]
    lines(run.path / "alarms.jsonl", changes)
    run.finish()
    page = render(Source.read(run.path))
    assert len(page.encode()) < 400_000
    found = section(run)
    assert len(found.events) == 1
    assert found.events[0].text.startswith("Step 200 to 8985: warning, 147 times. S2: a long reason")
    assert len(found.events[0].text) < 500
    assert len(found.charts[0].zones) == 1
    assert found.charts[0].curves[0].line.count("L") < 250


def test_many_separate_alarms_are_counted_beyond_the_list(tmp_path: Path) -> None:
    run = make(tmp_path)
    numbers(run.path, range(1, 1001))
    changes = [each for step in range(20, 1000, 30) for each in (said(step, "warn", S2="x"), said(step + 5, "healthy"))]
    lines(run.path / "alarms.jsonl", changes)
    found = section(run)
    assert (len(found.events), found.unlisted) == (20, 13)
    run.finish()


def test_hostile_reasons_stay_text(tmp_path: Path) -> None:
    run = make(tmp_path)
    numbers(run.path, range(1, 301))
    lines(run.path / "alarms.jsonl", [said(50, "warn", S3=EVIL), {"step": 60, "state": EVIL}])
    lines(run.path / "abandoned" / "1" / "alarms.jsonl", [said(150, "collapsed", S4=EVIL)])
    run.note(guard={"off": [EVIL], "rollbacks": [{"at": 150, "to": 100, "reasons": [EVIL]}, EVIL]})
    run.fail(EVIL)
    page = render(Source.read(run.path))
    assert page.count("alert(1)") >= 5
    assert "<script>alert" not in page
    assert ">49<" not in page


def test_a_short_alarm_is_still_seen() -> None:
    zones = Overlay(0, 10_000, kept=[Stretch(5_000, 5_000, "collapsed", ())]).zones()
    assert [(zone.at, zone.text) for zone in zones] == [(50.0, "collapsed")]
    assert zones[0].width >= 0.3
