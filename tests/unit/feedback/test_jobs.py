"""Jobs: one at a time, found again after a restart, stopped gently, how they ended told from what they left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.feedback.errors import Conflict
from heedlm.feedback.jobs import Jobs, last_word, run_of_process
from heedlm.runs import Run
from heedlm.runs.launch import Launcher, Process, born


class Pretend:
    """A launcher whose processes run until they are told to end."""

    def __init__(self):
        self.started, self.alive, self.asked = [], set(), []

    def start(self, words, log):
        process = Process(1000 + len(self.started), f"b{len(self.started)}")
        self.started.append((tuple(words), log))
        self.alive.add(process)
        log.parent.mkdir(parents=True, exist_ok=True)
        return process

    def running(self, process):
        return process in self.alive

    def stop(self, process):
        self.asked.append(process)

    def end(self, number, said=None):
        _, log = self.started[number]
        if said is not None:
            log.write_text(f"some noise\n{json.dumps(said)}\n")
        self.alive = {process for process in self.alive if process.pid != 1000 + number}


@pytest.fixture
def place(team, tmp_path, monkeypatch):
    monkeypatch.setattr(Jobs, "watch", lambda self: None)  # tests look themselves
    pretend = Pretend()
    return team, team.person("olga", "owner"), pretend, Jobs(team.database, tmp_path / "runs", pretend)


def test_one_at_a_time_in_the_order_of_asking(place):
    team, olga, pretend, jobs = place
    made = []
    for number in range(3):
        team.clock.time += 1
        made.append(jobs.add(olga, ["sft", f"seed={number}"], upto=number))
    assert [job.state for job in jobs.of()] == ["waiting", "waiting", "running"]
    pretend.end(0, {"run": None, "status": "complete"})
    jobs.look()
    assert [jobs.get(job.id).state for job in made] == ["done", "running", "waiting"]
    pretend.end(1, {"run": None, "status": "failed", "error": "model=x: no such model"})
    assert jobs.look()
    assert (jobs.get(made[1].id).state, jobs.get(made[1].id).note) == ("failed", "model=x: no such model")
    pretend.end(2)
    assert not jobs.look()
    assert (jobs.get(made[2].id).state, jobs.get(made[2].id).note) == ("failed", "it was killed")
    assert [words for words, _ in pretend.started] == [("sft", f"seed={number}") for number in range(3)]


def test_two_that_wait_do_not_fill_the_same_run(place, tmp_path):
    """Runs are named by settings and inputs, which are the same for who asks twice: the second would be refused."""
    _, olga, pretend, jobs = place
    (tmp_path / "runs" / "sft" / "Frogs-2-abcdef").mkdir(parents=True)
    names = [jobs.add(olga, ["sft"], name="Frogs").words[-1] for _ in range(3)]
    assert names == ["name=Frogs", "name=Frogs-3", "name=Frogs-4"]
    assert pretend.started[0][0] == ("sft", "name=Frogs")
    pretend.end(0, {"run": None, "status": "failed"})
    jobs.look()
    assert jobs.add(olga, ["sft"], name="Frogs").words[-1] == "name=Frogs"  # it made none


def test_waiting_jobs_are_taken_back_and_running_ones_asked_to_stop(place):
    team, olga, pretend, jobs = place
    first = jobs.add(olga, ["sft"])
    team.clock.time += 1
    second = jobs.add(olga, ["reward"])
    assert jobs.stop(olga, second.id).state == "stopped"
    assert jobs.stop(olga, first.id).state == "running"
    assert pretend.asked == [Process(1000, "b0")]
    pretend.end(0, {"run": None, "status": "interrupted", "error": "stopped by SIGTERM"})
    jobs.look()
    assert jobs.get(first.id).state == "stopped"
    with pytest.raises(Conflict):
        jobs.stop(olga, first.id)
    assert len(pretend.started) == 1


def test_the_run_of_a_job_is_found_and_tells_how_it_ended(place, tmp_path):
    _, olga, pretend, jobs = place
    job = jobs.add(olga, ["sft"])
    run = Run.create("sft", StageConfig(out=tmp_path / "runs"), argv=["heed"])
    inner = Run.create("reward", StageConfig(out=run.path), argv=["heed"])
    for each in (run, inner):
        each.info.platform["process"] = 1000
        each._save()
    os.utime(run.path / "run.json", (2e9, 2e9))
    os.utime(inner.path / "run.json", (2e9, 2e9))
    jobs.look()
    assert jobs.get(job.id).run == f"sft/{run.name}"
    run.finish()
    pretend.end(0)
    jobs.look()
    assert jobs.get(job.id).state == "done"
    assert run_of_process(tmp_path / "runs", 1000, 3e9) is None
    inner.finish()


def test_what_was_stopped_is_gone_on_with(place, tmp_path):
    _, olga, pretend, jobs = place
    job = jobs.add(olga, ["sft"], upto=7)
    pretend.end(0, {"run": None, "status": "interrupted", "error": "stopped"})
    jobs.look()
    with pytest.raises(Conflict, match="nothing to go on with"):
        jobs.resume(olga, job.id)
    jobs._set(job, run="sft/x-000000")
    again = jobs.resume(olga, job.id)
    assert again.words == ("resume", str(tmp_path / "runs" / "sft" / "x-000000"))
    assert (again.run, again.upto, again.state) == ("sft/x-000000", 7, "running")
    with pytest.raises(Conflict):
        jobs.resume(olga, again.id)


def test_a_new_server_goes_on_where_the_old_one_was(place, tmp_path):
    team, olga, pretend, jobs = place
    running = jobs.add(olga, ["sft"])
    team.clock.time += 1
    waiting = jobs.add(olga, ["reward"])
    pretend.end(0, {"run": str(tmp_path / "runs" / "sft" / "x"), "status": "complete"})
    told = []
    again = Jobs(team.database, tmp_path / "runs", pretend, after=lambda job: told.append(job.run) or "9 items")
    assert again.look()
    assert (again.get(running.id).state, again.get(running.id).note) == ("done", "9 items")
    assert told == ["sft/x"]
    assert again.get(waiting.id).state == "running"


def test_nothing_is_started_without_a_launcher(team, tmp_path):
    with pytest.raises(BadInput, match="starts no commands"):
        Jobs(team.database, tmp_path, None).add(team.person("olga", "owner"), ["sft"])


def test_the_last_word_is_found_among_noise(tmp_path):
    log = tmp_path / "log"
    assert last_word(log) == {}
    log.write_text('{"status": "failed"}\n{"step": 3}\nTraceback\n{torn')
    assert last_word(log) == {"status": "failed"}


# ---------------------------------------------------------------- real processes


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    assert condition()


def test_real_processes_are_started_recognised_and_ended(tmp_path):
    launcher = Launcher()
    process = launcher.start(["lineage", "--of", "nothing"], tmp_path / "logs" / "a.log")
    wait_for(lambda: not launcher.running(process))
    said = last_word(tmp_path / "logs" / "a.log")
    assert (said["status"], said["exit_code"]) == ("failed", 2)
    assert born(process.pid) != process.born


def test_a_process_of_an_earlier_server_is_known_by_its_birth():
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        earlier, launcher = Process(sleeping.pid, born(sleeping.pid)), Launcher()
        assert launcher.running(earlier)
        assert not launcher.running(Process(sleeping.pid, "another"))
        launcher.stop(Process(sleeping.pid, "another"))
        assert sleeping.poll() is None
        launcher.stop(earlier)
        assert sleeping.wait(30) == -signal.SIGTERM
        assert not launcher.running(earlier)
    finally:
        sleeping.kill()
        sleeping.wait()


def test_words_reach_the_command_as_they_are(tmp_path):
    launcher, log = Launcher(tmp_path), tmp_path / "a.log"
    process = launcher.start(["score", "model=; touch hacked", "text=$(touch hacked)"], log)
    wait_for(lambda: not launcher.running(process))
    assert "no such model" in last_word(log)["error"]
    assert not Path(tmp_path / "hacked").exists()
