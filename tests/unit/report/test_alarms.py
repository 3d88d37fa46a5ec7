"""What the detector said and the guard did, read back from a run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from heedlm.report.alarms import Change, Record, Stretch, stretches


def change(step: float, state: Any, *reasons: tuple[str, str]) -> Change:
    return Change(step, state, reasons)


def line(step: float, state: str, **reasons: str) -> dict[str, Any]:
    alarms = [{"signal": signal, "level": "on", "reason": reason} for signal, reason in reasons.items()]
    return {"step": step, "state": state, "alarms": alarms}


def write(path: Path, rows: Iterable[Mapping[str, Any]], torn: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + torn, encoding="utf-8")


@pytest.fixture
def rolled_back(tmp_path: Path) -> Path:
    """Warned at 150, collapsed at 430 and gone back to 200; warned again at 600, and quiet since 700."""
    write(
        tmp_path / "alarms.jsonl",
        [line(150, "warn", S3="NLL falls"), line(600, "warn", S4="KL 0.08"), line(700, "healthy")],
        torn='{"step": 800, "sta',
    )
    write(tmp_path / "abandoned" / "1" / "alarms.jsonl", [line(430, "collapsed", S3="NLL 0.5", S1="reward jumps")])
    return tmp_path


GUARD = {
    "state": "healthy",
    "off": ["S5 is off: no win rate"],
    "rollbacks": [{"at": 430, "to": 200, "reasons": ["NLL 0.5", "reward jumps"], "lr_scale": 0.5, "kl_coef": 0.4}],
}


def test_a_record_holds_all_that_was_said(rolled_back: Path) -> None:
    record = Record.read(rolled_back, {"guard": GUARD}, {})
    assert record.watched
    assert (record.state, record.since, record.reasons) == ("healthy", None, ())
    assert record.off == ("S5 is off: no win rate",)
    assert [each.step for each in record.told] == [150, 430, 600, 700]
    back = record.rollbacks[0]
    assert (back.at, back.to, back.reasons) == (430, 200, ("NLL 0.5", "reward jumps"))
    assert back.settings == "learning rate × 0.5, β 0.4"
    assert back.folder == rolled_back / "abandoned" / "1"


def test_what_was_given_up_began_in_the_state_before_it(rolled_back: Path) -> None:
    record = Record.read(rolled_back, {"guard": GUARD}, {})
    back = record.rollbacks[0]
    assert stretches([*record.carried(back.to), *back.changes], back.at) == [
        Stretch(200, 430, "warn", ("S3: NLL falls",)),
        Stretch(430, 430, "collapsed", ("S1: reward jumps", "S3: NLL 0.5")),
    ]


def test_while_a_run_goes_on_its_last_change_counts(tmp_path: Path) -> None:
    write(tmp_path / "alarms.jsonl", [line(20, "warn", S2="long"), line(25, "warn", S2="longer"), line(30, "warn")])
    record = Record.read(tmp_path, {"guard": {"state": "healthy"}}, {})
    assert (record.state, record.since, record.reasons) == ("warn", 20, ("S2: longer",))


def test_a_run_without_a_detector_is_told_from_one_without_alarms(tmp_path: Path) -> None:
    assert not Record.read(tmp_path, {}, {"steps": 5}).watched
    assert Record.read(tmp_path, {}, {"guard": {"action": "rollback"}}).watched
    assert Record.read(tmp_path, {"guard": {"state": "collapsed"}}, {}).state == "collapsed"


def test_odd_files_are_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path / "alarms.jsonl", [{"step": "x", "state": "warn"}, {"step": 3, "state": "?"}, {"step": 4}])
    odd = {"rollbacks": [{"at": 3}, 7, {"at": 9, "to": 2, "reasons": "x", "lr_scale": None}], "off": None, "state": 1}
    record = Record.read(tmp_path, {"guard": odd}, {})
    assert (record.changes, record.state, record.off) == ((), "healthy", ())
    assert [(each.at, each.reasons, each.settings, each.folder.name) for each in record.rollbacks] == [(9, (), "", "3")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], []),
        ([change(5, "warn", ("S1", "a")), change(9, "healthy")], [Stretch(5, 9, "warn", ("S1: a",))]),
        (
            [change(5, "warn", ("S1", "a")), change(7, "warn", ("S1", "b"), ("S2", "c"))],
            [Stretch(5, 20, "warn", ("S1: b", "S2: c"))],
        ),
        (
            [change(5, "warn", ("S1", "a")), change(9, "collapsed", ("S5", "d")), change(20, "collapsed", ("S5", "e"))],
            [Stretch(5, 9, "warn", ("S1: a",)), Stretch(9, 20, "collapsed", ("S5: e",))],
        ),
    ],
)
def test_stretches(changes: list[Change], expected: list[Stretch]) -> None:
    assert stretches(changes, 20) == expected
