"""Checkpoints and crashes: whatever happens while one is written, an earlier one stays usable."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heedlm.config import StageConfig
from heedlm.errors import HeedError
from heedlm.runs import Run, checkpoints

WRITER = """
import sys
from pathlib import Path
from heedlm.config import StageConfig
from heedlm.runs import Run, checkpoints

root = Path(sys.argv[1])
found = list(root.glob("runs/ppo/*/run.json"))
run = Run.resume(found[0].parent) if found else Run.create("ppo", StageConfig(out=root / "runs"))
newest = checkpoints.newest(run)
step = checkpoints.step_of(newest) if newest else 0
total = int((newest / "state").read_text().split()[0]) if newest else 0
first = step + 1
while True:
    step += 1
    total += step
    run.metrics(step, {"total": total})
    def write(folder):
        (folder / "state").write_text(f"{total} " + "x" * 400_000)
        (folder / "optim").mkdir()
        (folder / "optim" / "moments").write_text("y" * 400_000)
    checkpoints.save(run, step, write)
    if step == first:
        print("ready", step, flush=True)
"""


def writes(text):
    def write(folder):
        (folder / "weights").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "moments").write_text(text * 2)

    return write


@pytest.fixture
def run(tmp_path):
    return Run.create("ppo", StageConfig(out=tmp_path / "runs"))


def names(run):
    return sorted(item.name for item in (run.path / "checkpoints").iterdir())


def test_a_checkpoint_lists_its_files_with_sizes_and_hashes(run):
    path = checkpoints.save(run, 400, writes("a"))
    assert path == run.path / "checkpoints" / "000400"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["step"] == 400
    assert {name: facts["bytes"] for name, facts in manifest["files"].items()} == {"weights": 1, "deep/moments": 2}
    assert checkpoints.newest(run) == path
    assert checkpoints.step_of(path) == 400


def test_only_the_newest_and_the_protected_are_kept(run):
    for step in range(1, 7):
        checkpoints.save(run, step, writes(str(step)), protect={2})
    assert names(run) == ["000002", "000005", "000006"]
    assert checkpoints.steps(run) == [2, 5, 6]
    assert checkpoints.at(run, 2).name == "000002"
    checkpoints.save(run, 7, writes("7"), keep_last=1)
    assert names(run) == ["000007"]
    with pytest.raises(HeedError, match="000002: cannot be gone back to, its manifest is missing"):
        checkpoints.at(run, 2)


def test_going_back_removes_what_came_after(run):
    for step in range(1, 5):
        checkpoints.save(run, step, writes(str(step)), protect={2})
    checkpoints.save(run, 2, writes("2, more careful"), protect={2})
    assert names(run) == ["000002"]


def test_one_within_a_step_is_for_resuming_only(run):
    for step in (1, 2):
        checkpoints.save(run, step, writes(str(step)))
    paused = checkpoints.save(run, 2, writes("half"), within=True)
    assert names(run) == ["000002", "000002+"]
    assert checkpoints.newest(run) == paused
    assert checkpoints.step_of(paused) == 2
    assert (checkpoints.at(run, 2) / "weights").read_text() == "2"
    assert checkpoints.steps(run) == [2]
    checkpoints.save(run, 3, writes("3"))
    assert names(run) == ["000002", "000003"]


def test_a_budget_removes_older_ones_but_never_the_newest_or_a_protected_one(run, capsys):
    for step in (1, 2, 3):
        checkpoints.save(run, step, writes("x" * 1000), keep_last=9, protect={1})
    checkpoints.save(run, 4, writes("x" * 1000), keep_last=9, protect={1}, budget_bytes=11_000)
    assert names(run) == ["000001", "000003", "000004"]
    assert capsys.readouterr().err == ""
    checkpoints.save(run, 5, writes("x" * 1000), keep_last=9, protect={1}, budget_bytes=10)
    assert names(run) == ["000001", "000005"]
    assert "over its budget of 10" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "manifest", "no manifest"])
def test_a_damaged_checkpoint_is_passed_over(run, capsys, harm):
    good = checkpoints.save(run, 1, writes("good"))
    bad = checkpoints.save(run, 2, writes("bad!"))
    if harm == "truncate":
        (bad / "weights").write_text("ba")
    elif harm == "flip":
        (bad / "weights").write_text("bad?")
    elif harm == "remove":
        (bad / "deep" / "moments").unlink()
    elif harm == "manifest":
        (bad / "manifest.json").write_text('{"files": {"wei')
    else:
        (bad / "manifest.json").unlink()
    assert checkpoints.newest(run) == good
    assert "000002: passed over" in capsys.readouterr().err


def test_a_damaged_checkpoint_does_not_count_among_those_kept(run):
    checkpoints.save(run, 1, writes("1"))
    (checkpoints.save(run, 2, writes("2")) / "weights").unlink()
    checkpoints.save(run, 3, writes("3"))
    assert names(run) == ["000001", "000003"]


def test_after_a_fall_back_later_steps_are_written_anew(run):
    checkpoints.save(run, 1, writes("1"))
    bad = checkpoints.save(run, 2, writes("2"))
    (bad / "weights").write_text("damaged")
    run.fail("crash")
    resumed = Run.resume(run.path)
    assert resumed.info.resumed == [1]
    checkpoints.save(resumed, 2, writes("new"))
    assert (checkpoints.newest(resumed) / "weights").read_text() == "new"
    assert names(resumed) == ["000001", "000002"]


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("number", [5, 28])
def test_a_failing_fsync_leaves_the_earlier_checkpoint(run, monkeypatch, call, number):
    run.metrics(1, {"loss": 1})
    good = checkpoints.save(run, 1, writes("good"))
    real, calls = os.fsync, []

    def fail_once(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(HeedError, match=r"could not be written .*000001 is intact.*heed resume"):
        checkpoints.save(run, 2, writes("next"))
    assert checkpoints.newest(run) == good
    monkeypatch.setattr(os, "fsync", real)
    assert checkpoints.newest(run) == good
    checkpoints.save(run, 2, writes("next"))
    assert names(run) == ["000001", "000002"]


def test_a_disk_that_fills_up_while_writing_leaves_the_earlier_checkpoint(run):
    good = checkpoints.save(run, 1, writes("good"))

    def fills_up(folder):
        (folder / "weights").write_text("half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(HeedError, match=r"\(No space left on device\)"):
        checkpoints.save(run, 2, fills_up)
    assert names(run) == ["000001"]
    assert checkpoints.newest(run) == good


def test_without_an_earlier_checkpoint_the_message_says_so(run):
    def fails(folder):
        raise OSError(5, "Input/output error")

    with pytest.raises(HeedError, match="none is left"):
        checkpoints.save(run, 1, fails)


def test_an_error_of_the_writer_leaves_nothing_behind(run):
    def breaks(folder):
        (folder / "weights").write_text("half")
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        checkpoints.save(run, 1, breaks)
    assert names(run) == []


def test_the_same_step_again_replaces_it_and_survives_a_crash_between_the_renames(run, monkeypatch):
    checkpoints.save(run, 1, writes("old"))
    real = Path.rename

    def crash(self, target):
        if self.name.startswith(".tmp-"):
            raise SystemExit("killed here")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(SystemExit):
        checkpoints.save(run, 1, writes("new"))
    monkeypatch.setattr(Path, "rename", real)
    assert (checkpoints.newest(run) / "weights").read_text() == "old"
    checkpoints.save(run, 1, writes("new"))
    assert (checkpoints.newest(run) / "weights").read_text() == "new"
    assert names(run) == ["000001"]


def test_kill_9_at_any_moment_leaves_a_run_that_resumes(tmp_path):
    chance = random.Random(0)
    reached = 0
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        word, step = child.stdout.readline().split()
        assert word == "ready"
        assert int(step) == reached + 1
        time.sleep(chance.uniform(0.05, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)
        child.stdout.close()
        path = next(tmp_path.glob("runs/ppo/*"))
        newest = checkpoints.newest(path)
        assert newest is not None
        reached = checkpoints.step_of(newest)
        # The state is the sum of all steps: a lost or doubled step would show.
        assert int((newest / "state").read_text().split()[0]) == reached * (reached + 1) // 2
    resumed = Run.resume(path)
    rows = resumed.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, reached + 1))
    assert [row["total"] for row in rows] == [step * (step + 1) // 2 for step in range(1, reached + 1)]
    assert len(resumed.info.resumed) == 6
