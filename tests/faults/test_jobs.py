"""The server is killed while a training that somebody asked for in the browser runs: what the next one says of it."""

import os
import signal
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest
from tests.unit.train import tiny

from heedlm.config import StageConfig
from heedlm.feedback.accounts import Accounts
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.database import Database
from heedlm.feedback.jobs import Jobs
from heedlm.feedback.projects import Projects
from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Message
from heedlm.runs import Run
from heedlm.runs.launch import born

sys.path.insert(0, str(Path(__file__).parents[2] / "reproductions" / "annotators"))
from crowd import PASSWORD, Server

ITEMS = 12


class Desk:
    """A server on a project of twelve ranked questions, and its owner, who is logged in over HTTP."""

    def __init__(self, folder):
        self.folder, self.url = folder, str(folder / "feedback.db")
        with Run.create("sft", StageConfig(out=folder / "runs", name="start"), argv=["heed"]) as run:
            tiny.folder(run.path / "model", seed=1)
            run.add_output("model", run.path / "model")
        self.model, self.project = f"sft/{run.name}", self._ranked()
        self.server, self.client = Server(self.url, folder, {"OMP_NUM_THREADS": "1"}), httpx.Client(timeout=20)
        self.server.start()
        answer = self.client.post(f"{self.server.base}/login", data={"name": "owner", "password": PASSWORD})
        assert answer.status_code == 303
        page = self.client.get(f"{self.server.base}/projects/{self.project}/train").text
        self.client.headers["x-csrf-token"] = page.split('name="csrf" content="')[1].split('"')[0]

    def _ranked(self):
        database = Database(self.url)
        projects, assigner = Projects(database), Assigner(database)
        owner = Accounts(database).create("owner", PASSWORD, "owner")
        project = projects.create(owner, "Houses", "rank")
        texts = ("In the red house.", "I do not know.", "no")
        contents = [
            Content(
                prompt=(Message(role="user", content=f"Where does {tiny.NAMES[n % 6]} live? {n}"),),
                answers=tuple(Answer(text=text) for text in texts),
            )
            for n in range(ITEMS)
        ]
        projects.add_items(owner, project.id, contents)
        projects.join(owner, project.id, owner.id)
        while (task := assigner.next(owner, project.id)) is not None:
            ranks = [answer + 1 for answer in task.order]
            assigner.submit(owner, task.id, {"ranks": ranks}, key=str(uuid.uuid4()), base=0, seconds=2)
        database.close()
        return project.id

    def call(self, method, path, body=None):
        """What the server answers, as JSON; the session outlives servers."""
        answer = self.client.request(method, self.server.base + path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def train(self):
        """Ask for a reward model of this project, as its page does."""
        return self.call("POST", f"/api/projects/{self.project}/train", {"way": "reward", "model": self.model})["id"]

    def job(self, key):
        """What the server says of a job."""
        return self.call("GET", f"/api/jobs/{key}")

    def process(self, key):
        """The process of a job, from the database, which a dead server has left."""
        database = Database(self.url)
        try:
            return Jobs(database, self.folder / "runs", None).get(key).process
        finally:
            database.close()

    def runs(self):
        """What the trainings have made."""
        return [Run.open(file.parent) for file in sorted((self.folder / "runs" / "reward").glob("*/run.json"))]


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    assert found
    return found


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.client.close()
    if made.server.process.poll() is None:
        made.server.kill()
    database = Database(made.url)
    left = [job.process for job in Jobs(database, tmp_path / "runs", None).of() if job.process is not None]
    database.close()
    for process in left:
        if born(process.pid) == process.born:
            os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_training_outlives_its_server_and_the_next_one_waits_for_it(desk):
    first, second = desk.train(), desk.train()
    running = wait_for(lambda: desk.process(first))
    os.kill(running.pid, signal.SIGSTOP)  # or it might be over before the next server is there
    desk.server.kill()
    assert born(running.pid) == running.born
    desk.server.start()
    assert (desk.job(first)["state"], desk.job(second)["state"]) == ("running", "waiting")
    os.kill(running.pid, signal.SIGCONT)
    wait_for(lambda: desk.job(second)["state"] == "done")
    assert (desk.job(first)["state"], desk.job(first)["note"]) == ("done", None)
    assert [run.info.status for run in desk.runs()] == ["complete", "complete"]  # each of them once
    assert {desk.job(first)["run"], desk.job(second)["run"]} == {f"reward/{run.name}" for run in desk.runs()}
    assert running.pid in {run.info.platform["process"] for run in desk.runs()}
    assert desk.server.stop() == 0


@pytest.mark.slow
def test_a_training_that_died_with_its_server_is_told_as_killed_and_can_be_taken_up(desk):
    key = desk.train()
    running = wait_for(lambda: desk.process(key))
    begun = desk.folder / "runs" / "reward"
    wait_for(lambda: list(begun.glob("*/config.json")))
    os.kill(running.pid, signal.SIGSTOP)
    assert [run.info.status for run in desk.runs()] == ["running"]
    wait_for(lambda: desk.job(key)["run"])
    desk.server.kill()
    os.kill(running.pid, signal.SIGKILL)
    wait_for(lambda: born(running.pid) != running.born)
    desk.server.start()
    wait_for(lambda: desk.job(key)["state"] == "failed")
    told = desk.job(key)
    assert told["note"] == "it was killed"
    assert [f"reward/{run.name}" for run in desk.runs()] == [told["run"]]
    again = desk.call("POST", f"/api/jobs/{key}/resume", {})
    assert again["run"] == told["run"]
    wait_for(lambda: desk.job(again["id"])["state"] == "done")
    assert [(f"reward/{run.name}", run.info.status) for run in desk.runs()] == [(told["run"], "complete")]
    assert desk.job(key)["state"] == "failed"  # what happened stays written
    assert desk.server.stop() == 0
