"""Looking at a run while it grows: only what is new is read, and what was rewritten is read again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.report.following import Following
from heedlm.runs import Run


def start(out: Path, stage: str = "ppo", steps: int | None = 100) -> Run:
    run = Run.create(stage, StageConfig(out=out, name="frogs"), argv=["heed"])
    (run.path / "config.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")
    return run


def test_a_run_that_is_starting(tmp_path: Path) -> None:
    run = start(tmp_path)
    look = Following(run.path).look()
    assert (look.step, look.steps, look.ended, look.sample, look.series) == (0, 100, "", {}, {})
    assert look.seconds_left() is None
    run.finish()


def test_each_look_adds_what_is_new(tmp_path: Path) -> None:
    run = start(tmp_path)
    following = Following(run.path)
    following.look()
    for step in range(1, 11):
        run.metrics(step, {"reward/mean": step / 10, "odd": float("nan")}, seconds=2.0 * step)
        run.samples(step, [{"answer": f"a{step}"}])
        look = following.look()
        assert look.series["reward/mean"].values == [each / 10 for each in range(1, step + 1)]
        assert look.sample["answer"] == f"a{step}"
    assert "odd" not in look.series
    assert look.seconds == 20.0
    assert look.seconds_left() == pytest.approx(180.0)
    run.finish()


def test_a_torn_line_waits_for_its_end(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.metrics(1, {"x": 1.0})
    file = (run.path / "metrics.jsonl").open("a", encoding="utf-8")
    file.write('{"step": 2, "x"')
    file.flush()
    following = Following(run.path)
    assert following.look().series["x"].values == [1.0]
    file.write(": 2.5}\n")
    file.close()
    assert following.look().series["x"].values == [1.0, 2.5]
    run.finish()


def test_after_going_back_only_the_consistent_rows_count(tmp_path: Path) -> None:
    """Even if the file has grown beyond its old size meanwhile."""
    run = start(tmp_path)
    following = Following(run.path)
    for step in range(1, 21):
        run.metrics(step, {"x": 1.0})
    run.samples(20, [{"answer": "lost"}])
    assert following.look().step == 20
    run.truncate_metrics(5)
    assert following.look().series["x"].steps == [1, 2, 3, 4, 5]
    assert following.look().sample == {}
    for step in range(6, 40):
        run.metrics(step, {"x": 2.0})
    assert following.look().series["x"].values == [1.0] * 5 + [2.0] * 34
    run.truncate_metrics(10)
    for step in range(11, 60):
        run.metrics(step, {"x": 3.0})
    assert following.look().series["x"].values == [1.0] * 5 + [2.0] * 5 + [3.0] * 49
    run.truncate_metrics(0)
    assert following.look().series == {}
    run.finish()


def test_the_jump_of_a_rollback_does_not_count_as_pace(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.note(guard={"rollbacks": [{"at": 40, "to": 20, "reasons": []}]})
    for step in range(1, 31):
        run.metrics(step, {"x": 1.0}, seconds=step + (1000.0 if step > 20 else 0.0))
    assert Following(run.path).look().seconds_left() == pytest.approx(70.0)
    run.finish()


def test_the_end_and_its_reason(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.fail("collapsed at step 9")
    assert Following(run.path).look().ended == "failed: collapsed at step 9"


def test_a_killed_run_is_told_from_a_silent_one(tmp_path: Path) -> None:
    run = start(tmp_path)
    long_ago = time.time() - 500
    os.utime(run.path / "run.json", (long_ago, long_ago))
    look = Following(run.path).look()
    assert look.silent == pytest.approx(500, abs=60)
    assert look.ended == ""
    assert run._lock is not None
    run._lock.release()
    assert Following(run.path).look().ended == "was killed"


def test_looking_makes_no_file(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.finish()
    (run.path / ".lock").unlink()
    record = json.loads((run.path / "run.json").read_text(encoding="utf-8")) | {"status": "running"}
    (run.path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    os.utime(run.path / "run.json", (0, 0))
    before = sorted(run.path.rglob("*"))
    assert Following(run.path).look().ended == ""
    assert sorted(run.path.rglob("*")) == before


def test_of_a_chain_the_newest_part_is_shown(tmp_path: Path) -> None:
    chain = start(tmp_path, "demo", None)
    following = Following(chain.path)
    assert following.look().path == chain.path
    part = start(chain.path, "sft")
    part.metrics(1, {"loss/train": 2.0})
    look = following.look()
    assert (look.path, look.step, look.ended) == (part.path, 1, "")
    part.finish()
    last = start(chain.path, "village")
    record = last.info.started
    assert record >= part.info.started
    last.finish()
    chain.finish()
    assert following.look().path == part.path
    assert following.look().ended == "complete"


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a run"):
        Following(tmp_path / "nothing").look()
