"""Training from a project, what became of it, exports, and erasure, as the browser asks for them."""

import itertools
import json
from dataclasses import replace

import pytest

from heedlm.config import StageConfig
from heedlm.feedback.jobs import Jobs
from heedlm.records import Answer, Answers, Comparison, Message, write
from heedlm.runs import Run
from heedlm.runs.launch import Process

PASSWORD = "correct horse battery"
_keys = (f"key-{number:06}" for number in itertools.count())


class Pretend:
    """Starts nothing; the test says when a process has ended and what it said."""

    def __init__(self):
        self.started, self.alive, self.asked = [], set(), []

    def start(self, words, log):
        process = Process(500_000_000 + len(self.started), "then")
        self.started.append((list(words), log))
        self.alive.add(process.pid)
        log.parent.mkdir(parents=True, exist_ok=True)
        return process

    def running(self, process):
        return process.pid in self.alive

    def stop(self, process):
        self.asked.append(process.pid)

    def end(self, number, **said):
        words, log = self.started[number]
        log.write_text(f"{words[0]} says <b>this</b>\n{json.dumps({'run': None, 'status': 'complete'} | said)}\n")
        self.alive.discard(500_000_000 + number)


def a_model(folder, stage="sft", name="start"):
    run = Run.create(stage, StageConfig(out=folder, name=name), argv=["heed"])
    with run:
        (run.path / "model").mkdir()
        (run.path / "model" / "config.json").write_text("{}")
        run.add_output("model", run.path / "model")
    return f"{stage}/{run.name}"


def label(home, person, project, reply=None):
    while (task := home.state.assigner.next(person, project.id)) is not None:
        given = reply or {"ranks": [1, 2, 3]}
        home.state.assigner.submit(person, task.id, given, key=next(_keys), base=0, seconds=2)


@pytest.fixture
def place(home, monkeypatch):
    monkeypatch.setattr(Jobs, "watch", lambda self: None)
    pretend = Pretend()
    home.state.services = replace(home.state.services, launcher=pretend)
    mia, ann = home.person("mia", "manager"), home.person("ann")
    project = home.project(mia, people=(ann,), count=12)
    label(home, ann, project)
    return home, pretend, project, a_model(home.state.services.runs)


def test_a_manager_trains_a_reward_model_from_the_labels_as_they_are(place, ok):
    home, pretend, project, model = place
    mia = home.client("mia")
    page = ok(mia.get(f"/projects/{project.id}/train")).text
    assert model in page
    asked = {"way": "reward", "model": model}
    job = ok(mia.post(f"/api/projects/{project.id}/train", json=asked), 201).json()
    assert (job["state"], job["upto"], job["stage"]) == ("running", 12, "reward")
    words = dict(word.split("=", 1) for word in pretend.started[0][0] if "=" in word)
    assert pretend.started[0][0][:2] == ["reward", "tiny"]
    export = Run.open(words["data"])
    assert export.info.results["labels"]["count"] == 12
    assert words["model"].endswith(model)
    assert words["batch"] == "2"
    again = ok(mia.post(f"/api/projects/{project.id}/train", json=asked), 201).json()
    assert again["state"] == "waiting"
    assert [word for word in again["words"] if word.startswith("name=")] != [f"name={words['name']}"]
    assert ok(mia.post(f"/api/jobs/{again['id']}/stop", json={})).json()["state"] == "stopped"
    pretend.end(0)
    home.state.jobs.look()
    assert ok(mia.get(f"/api/jobs/{job['id']}")).json()["state"] == "done"
    log = ok(mia.get(f"/api/jobs/{job['id']}/log"))
    assert "<b>this</b>" in log.text
    assert log.headers["content-type"].startswith("text/plain")
    assert export.name in ok(mia.get(f"/projects/{project.id}/train")).text


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        ("prefer", ["prefer", "tiny"]),
        ("align", ["align"]),
        ("ppo", ["ppo", "tiny"]),
    ],
)
def test_every_way_has_its_command(place, ok, way, wanted):
    home, pretend, project, model = place
    reward = a_model(home.state.services.runs, "reward", "judge")
    asked = {"way": way, "model": model, "reward": reward if way == "ppo" else None}
    ok(home.client("mia").post(f"/api/projects/{project.id}/train", json=asked), 201)
    words = pretend.started[0][0]
    assert words[: len(wanted)] == wanted
    keys = {word.split("=")[0] for word in words if "=" in word}
    needed = {"prefer": {"data"}, "align": {"comparisons", "prompts", "preset"}, "ppo": {"reward", "prompts"}}[way]
    assert needed | {"model", "out", "name"} <= keys


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"way": "sft"}, "labels of this kind cannot train that"),
        ({"way": "reward", "model": "sft/none-000000"}, "no run with a model"),
        ({"way": "reward", "model": "../../etc/passwd"}, "no run with a model"),
        ({"way": "reward", "model": "x data=/etc/passwd"}, "no run with a model"),
        ({"way": "ppo"}, "PPO needs a reward model"),
        ({"way": "rm -rf"}, "Input should be"),
        ({"way": "reward", "words": ["x"]}, "Extra inputs"),
    ],
)
def test_only_what_is_offered_is_started(place, ok, asked, message):
    home, pretend, project, model = place
    answer = home.client("mia").post(f"/api/projects/{project.id}/train", json={"model": model, **asked})
    assert message in ok(answer, 422).json()["error"]["message"]
    assert pretend.started == []


def test_the_next_round_becomes_tasks(place, ok):
    home, pretend, project, model = place
    mia, runs = home.client("mia"), home.state.services.runs
    job = ok(mia.post(f"/api/projects/{project.id}/train", json={"way": "prefer", "model": model}), 201).json()
    made = a_model(runs, "prefer", "better")
    pretend.end(0, run=str(runs / made))
    home.state.jobs.look()
    done = ok(mia.get(f"/api/jobs/{job['id']}")).json()
    assert (done["run"], done["policy"]) == (made, True)
    second = ok(mia.post(f"/api/jobs/{job['id']}/next", json={"answers": 3, "limit": 5}), 201).json()
    words = pretend.started[1][0]
    assert words[0] == "sample"
    assert {"answers=3", "limit=5"} <= set(words)
    sampled = Run.create("sample", StageConfig(out=runs, name="s"), argv=["heed"])
    with sampled:
        texts = [Answer(text=f"new {n}", model="better") for n in range(3)]
        write(sampled.path / "answers.jsonl", [Answers(prompt=(Message(role="user", content="q"),), answers=texts)])
        sampled.add_output("answers", sampled.path / "answers.jsonl", rows=1)
    pretend.end(1, run=str(sampled.path))
    home.state.jobs.look()
    assert ok(mia.get(f"/api/jobs/{second['id']}")).json()["note"] == "1 new items"
    ok(mia.post("/language", data={"to": "zh"}), 303)
    assert ok(mia.get(f"/api/jobs/{second['id']}")).json()["note"] == "新增 1 个条目"
    assert home.state.projects.progress(project)["items"] == 13


def test_jobs_are_for_the_managers_of_their_project(place, ok):
    home, _, project, model = place
    home.person("max", "manager")
    mia, other, olga = home.client("mia"), home.client("max"), home.client("olga")
    job = ok(mia.post(f"/api/projects/{project.id}/train", json={"way": "reward", "model": model}), 201).json()
    for path in (f"/api/jobs/{job['id']}", f"/api/jobs/{job['id']}/log", f"/projects/{project.id}/train"):
        ok(other.get(path), 404)
        ok(olga.get(path))
    ok(other.post(f"/api/jobs/{job['id']}/stop", json={}), 404)
    ok(other.post(f"/api/jobs/{job['id']}/next", json={}), 404)
    ok(other.post(f"/api/jobs/{job['id']}/resume", json={}), 404)
    ok(mia.post(f"/api/jobs/{job['id']}/resume", json={}), 409)
    ok(other.post(f"/api/projects/{project.id}/train", json={"way": "reward", "model": model}), 404)
    ok(other.get("/jobs"), 403)
    ok(other.get("/projects/chat/train"), 404)
    assert job["id"] in ok(olga.get("/jobs")).text
    ok(olga.get("/projects/chat/train"))


def test_labels_are_taken_along_as_a_file(place, ok, tmp_path):
    home, _, project, _ = place
    mia = home.client("mia")
    answer = ok(mia.get(f"/projects/{project.id}/export", params={"form": "heed"}))
    assert answer.headers["content-disposition"] == 'attachment; filename="Frogs-12-heed.jsonl"'
    rows = [Comparison.model_validate_json(line) for line in answer.text.splitlines()]
    assert len(rows) == 12
    assert "ann" not in {row.annotator for row in rows}
    named = ok(mia.get(f"/projects/{project.id}/export", params={"names": "true"})).text
    assert '"annotator": "ann"' in named
    assert len(ok(mia.get(f"/projects/{project.id}/export", params={"form": "pairs"})).text.splitlines()) == 36
    ok(mia.get(f"/projects/{project.id}/export", params={"form": "sft"}), 422)
    home.person("max", "manager")
    ok(home.client("max").get(f"/projects/{project.id}/export"), 404)


def test_nothing_starts_where_there_is_no_launcher(home, ok):
    mia = home.person("mia", "manager")
    project = home.project(mia)
    model = a_model(home.state.services.runs)
    client = home.client("mia")
    assert "starts no commands" in ok(client.get(f"/projects/{project.id}/train")).text
    ok(client.post(f"/api/projects/{project.id}/train", json={"way": "reward", "model": model}), 422)


def test_a_person_erases_themselves_with_their_password(place, ok):
    home, _, project, model = place
    ok(home.client("mia").post(f"/api/projects/{project.id}/train", json={"way": "reward", "model": model}), 201)
    ann = home.client("ann")
    assert "Delete my data" in ok(ann.get("/account")).text
    ok(ann.get("/account/erase"))
    ok(ann.post("/account/erase", data={"password": "a wrong one, really"}), 422)
    assert home.state.accounts.find("ann") is not None
    done = ok(ann.post("/account/erase", data={"password": PASSWORD})).text
    assert "12 labels" in done
    assert "export/Frogs" in done
    assert home.state.accounts.find("ann") is None
    ok(ann.get("/account"), 401)
    assert ok(home.client("olga").get("/erasures")).text.count("12 labels") == 1


def test_owners_erase_others_by_name_alone_owners(place, ok):
    home, *_ = place
    ann = home.people["ann"]
    for name, status in (("ann", 403), ("mia", 403), ("olga", 200)):
        ok(home.client(name).get(f"/people/{ann.id}/erase"), status)
    ok(home.client("mia").post(f"/people/{ann.id}/erase", data={"name": "ann"}), 403)
    olga = home.client("olga")
    ok(olga.post(f"/people/{ann.id}/erase", data={"name": "anna"}), 422)
    ok(olga.get("/people/nobody/erase"), 404)
    ok(olga.post(f"/people/{ann.id}/erase", data={"name": "ann"}))
    assert home.state.accounts.find("ann") is None
    last = ok(olga.post("/account/erase", data={"password": PASSWORD}), 422)
    assert "last owner" in last.text


def test_a_model_is_put_up_for_chat(place, ok):
    home, _, _, model = place
    asked = []
    home.state.services = replace(home.state.services, load=lambda run: asked.append(run) or object())
    mia = home.client("mia")
    assert ok(mia.post(f"/api/runs/{model}/chat")).json() == {"model": model}
    assert model in home.state.services.models
    ok(mia.post("/api/runs/../../etc/chat"), 404)
    ok(mia.post("/api/runs/sft/none/chat"), 404)
    assert len(asked) == 1
