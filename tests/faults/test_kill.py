"""`heed ppo` killed at random moments, on failing disks and on full ones: resumed, it ends as if nothing had happened.

The loop of kills is `reproductions/kill-9/run.py`, which does the same fifty times.
"""

import importlib.util
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.train import tiny

from heedlm.cli import main
from heedlm.runs import Run

SCRIPT = Path(__file__).parents[2] / "reproductions" / "kill-9" / "run.py"
HEED = [sys.executable, "-c", "import sys; from heedlm.cli import main; sys.exit(main())"]
STEPS = 4
STEPS_KILLED = 50  # the five kills are waited for through 27 of them and half a second more


@pytest.fixture(scope="module")
def story():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("kill_9", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def undisturbed(story, tmp_path_factory):
    """The script's command, and the run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole")
    command = story.words(story.prepare(out), steps=STEPS_KILLED)
    subprocess.run([*HEED, *command, f"out={out}", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return command, Run.open(story.found(out))


@pytest.mark.slow
def test_kill_9_at_random_moments(story, undisturbed, tmp_path):
    command, whole = undisturbed
    run, tally = story.killed_again_and_again(command, tmp_path / "killed", kills=5, seed=0)
    assert not tally.faults
    assert tally.kills == 5
    assert tally.reached == sorted(tally.reached)
    assert len(run.info.resumed) >= 4  # one that is killed while it starts may not get so far as to say so
    assert len(run.read_metrics()) == STEPS_KILLED
    assert not story.differences(whole, run)


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(story, undisturbed, tmp_path):
    command, whole = undisturbed
    told = story.on_a_small_disk(command, whole, tmp_path)
    if not told["possible"]:
        pytest.skip(f"no disk of its own can be mounted here: {told['why']}")
    assert told["exit_codes"] == [1, 0]
    assert len(told["said"]) == 1
    assert "No space left on device" in told["said"][0]
    assert told["resumed_at"][0] > 0
    assert not told["differences"]


def test_the_script_sees_a_difference(story, undisturbed, tmp_path):
    """Or its claims would be worth nothing."""
    _, whole = undisturbed
    other = Run.open(whole.path)
    assert not story.differences(whole, other)
    rows = other.read_metrics()
    rows[3]["reward/mean"] += 1e-9
    other.read_metrics = lambda: rows
    assert story.differences(whole, other) == ["metrics"]
    other = Run.open(whole.path)
    other.output = lambda role: tmp_path
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert story.differences(whole, other) == ["model/model.safetensors", "critic/model.safetensors"]


# ---------------------------------------------------------------- errors while writing


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    tiny.folder(folder / "model", seed=1)
    tiny.prompts(folder / "prompts.jsonl")
    return folder


def words(material, out, steps=STEPS):
    return [
        *("ppo", f"model={material / 'model'}", f"prompts={material / 'prompts.jsonl'}", "reward=near_length"),
        *(f"out={out}", f"steps={steps}", "rollouts=4", "minibatch=2", "sampling.max_new_tokens=6", "watch=3"),
        *("critic.init=policy", "critic.pretrain=1", "guard=off", "cadence.checkpoint=1", "threads=1", "--quiet"),
    ]


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory):
    """A run on a sound disk, and how often it put something on it."""
    out, real, calls = tmp_path_factory.mktemp("sound"), os.fsync, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (calls.append(1), real(descriptor)))
        assert main(words(material, out)) == 0
    return the_run(out), len(calls)


def the_run(out):
    (file,) = out.glob("ppo/*/run.json")
    return Run.open(file.parent)


def taken_up(material, out):
    """Go on with what is there; with nothing there, begin."""
    begun = list(out.glob("ppo/*/run.json"))
    if begun and the_run(out).info.status == "complete":  # only the last flush failed, after all had been written
        return the_run(out)
    again = ["resume", str(begun[0].parent), "--quiet"] if begun else words(material, out)
    assert main(again) == 0
    return the_run(out)


@pytest.mark.parametrize("number", [5, 28], ids=["broken", "full"])
@pytest.mark.parametrize("part", range(8))
def test_one_failing_fsync_anywhere(story, material, whole, tmp_path, monkeypatch, capsys, number, part):
    """Input/output error or no space, at eight places spread over the run's life."""
    sound, total = whole
    real, calls, fails_at = os.fsync, [], 1 + part * (total - 1) // 7

    def fsync(descriptor):
        calls.append(1)
        if len(calls) == fails_at:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert main(words(material, tmp_path)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("heed ppo: ")
    assert os.strerror(number) in said[0]
    assert not story.differences(sound, taken_up(material, tmp_path))


def test_a_file_that_may_not_grow_further(story, material, tmp_path):
    """From some moment on the system refuses to let files of the process grow beyond 100 kB."""
    said = tmp_path / "said"
    with (
        said.open("w") as file,
        subprocess.Popen([*HEED, *words(material, tmp_path, steps=40)], stdout=file, stderr=file) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while not list(tmp_path.glob("ppo/*/checkpoints/000002")) and time.monotonic() < deadline:
                assert process.poll() is None, said.read_text()
                time.sleep(0.01)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
            process.wait(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, said.read_text()
    lines = said.read_text().strip().splitlines()
    assert len(lines) == 1
    assert "File too large" in lines[0]
    assert story.newest_number(the_run(tmp_path).path) >= 2
    resumed = taken_up(material, tmp_path)
    assert resumed.info.resumed[0] >= 2
    assert main(words(material, tmp_path / "sound", steps=40)) == 0
    assert not story.differences(the_run(tmp_path / "sound"), resumed)
