"""Projects: making, changing, members, guidelines, and the pages of all of it."""

import re

import pytest
import sqlalchemy as sa
from tests.web.conftest import said

from heedlm.config import StageConfig
from heedlm.evals.human import human_win_rate
from heedlm.feedback.tables import assignments
from heedlm.records import Answer, Answers, Message, write
from heedlm.runs import Run

HTML = {"accept": "text/html"}


@pytest.fixture
def olga(home):
    return home.client("olga")


def label(home, person, project, reply):
    """Everything there is for a person; `reply` makes it from the task, by the answers' own indices."""
    while (task := home.state.assigner.next(person, project.id)) is not None:
        shown = project.kind.shown(reply(task), task.order)
        home.state.assigner.submit(person, task.id, shown, key=f"{task.id}-key", base=0, seconds=30)


def sampled(runs, name, texts):
    """A run with answers: prompt number → text."""
    with Run.create("sample", StageConfig(out=runs, name=name), argv=[]) as run:
        rows = [
            Answers(prompt=(Message(role="user", content=f"question {n}"),), answers=(Answer(text=text, model=name),))
            for n, text in texts.items()
        ]
        write(run.path / "answers.jsonl", rows)
        run.add_output("answers", run.path / "answers.jsonl", rows=len(rows))
    return f"sample/{run.name}"


# ------------------------------------------------------------------------------------------ making and changing


def test_a_project_is_made_shown_changed_closed_and_opened(home, ok, olga):
    settings = {
        "lease_minutes": 10,
        "gold_every": 5,
        "qualify": 0.8,
        "adjudicate_below": 0.5,
        "cost": 0.25,
        "warn": "!",
    }
    asked = {"name": "Frogs", "kind": "rank", "criterion": "helpful", "overlap": 3, "settings": settings}
    made = ok(olga.post("/api/projects", json={**asked, "guideline": "Be kind."}), 201).json()
    assert (made["kind"], made["overlap"], made["settings"]["cost"]) == ("rank", 3, 0.25)
    path = f"/api/projects/{made['id']}"
    assert [each["name"] for each in ok(olga.get("/api/projects")).json()["projects"]] == ["Frogs"]
    assert "Frogs" in ok(olga.get("/projects", headers=HTML)).text
    assert "Rank the answers" in ok(olga.get("/projects/new", headers=HTML)).text
    changed = ok(olga.patch(path, json={"name": "Toads", "overlap": 2, "settings": {"cost": 1}})).json()
    assert (changed["name"], changed["overlap"], changed["settings"]["cost"]) == ("Toads", 2, 1.0)
    assert changed["settings"]["qualify"] == 0.8
    assert ok(olga.patch(path, json={"settings": {"qualify": None}})).json()["settings"]["qualify"] is None
    assert ok(olga.patch(path, json={"closed": True})).json()["closed"]
    assert "Open it again" in ok(olga.get(f"/projects/{made['id']}/settings", headers=HTML)).text
    assert ok(olga.patch(path, json={"closed": False})).json()["closed"] is None
    assert ok(olga.get(f"{path}/guidelines")).json()["versions"][0]["text"] == "Be kind."


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"kind": "guess"}, "kind='guess'"),
        ({"overlap": 0}, "overlap"),
        ({"criterion": "nice"}, "criterion"),
        ({"settings": {"lease_minutes": -1}}, "settings.lease_minutes"),
        ({"settings": {"unheard": 1}}, "settings.unheard"),
        ({"name": "   "}, "name"),
        ({"more": 1}, "more"),
    ],
)
def test_what_cannot_be_made_is_told_by_its_field(ok, olga, asked, why):
    answer = ok(olga.post("/api/projects", json={"name": "Frogs", "kind": "rank", **asked}), 422)
    assert why in answer.json()["error"]["message"]


def test_the_overview_tells_progress_pace_cost_and_forecast(home, ok, olga):
    ann = home.person("ann")
    project = home.project(home.people["olga"], count=4, overlap=2, people=[ann], settings={"cost": 0.5})
    label(home, ann, project, lambda task: {"ranks": [1, 2, 3]})
    found = ok(olga.get(f"/api/projects/{project.id}")).json()
    assert found["progress"]["given"] == 4
    assert found["progress"]["wanted"] == 8
    assert (found["progress"]["spent"], found["progress"]["to_come"]) == (2.0, 2.0)
    assert found["progress"]["days_left"] == 1.0
    assert (found["seconds"], found["hours_left"]) == (30, pytest.approx(4 * 30 / 3600))
    assert len(found["days"]) == 14
    assert found["days"][-1][1] == 4
    shown = ok(olga.get(f"/projects/{project.id}", headers=HTML)).text
    assert "Replies a day" in shown
    assert "2.00" in shown


def test_managers_see_their_own_projects_only_and_annotators_none(home, ok):
    mia, max_, ann = home.person("mia", "manager"), home.person("max", "manager"), home.person("ann")
    project = home.project(mia, people=[ann, max_])
    for name in ("max", "ann"):
        client = home.client(name)
        for path in ("", "/members", "/items", "/agreement", "/adjudication", "/guidelines"):
            status = 403 if name == "ann" else 404
            ok(client.get(f"/api/projects/{project.id}{path}"), status)
            ok(client.get(f"/projects/{project.id}{path}"), status)
    assert ok(home.client("max").get("/api/projects")).json()["projects"] == []
    assert ok(home.client("mia").get("/api/projects")).json()["projects"][0]["id"] == project.id


# ------------------------------------------------------------------------------------------ guidelines


def test_guidelines_have_versions_and_differences(home, ok, olga):
    project = home.project(home.people["olga"], guideline="Be kind.\nBe brief.")
    path = f"/projects/{project.id}/guidelines"
    made = ok(olga.post(f"/api{path}", json={"text": "Be kind.\r\nBe exact."}), 201).json()
    assert made == {"version": 2, "text": "Be kind.\nBe exact."}
    shown = ok(olga.get(path, headers=HTML)).text
    assert "<del>Be brief.</del>" in shown
    assert "<ins>Be exact.</ins>" in shown
    assert "<p>Be kind.</p>" in shown
    assert "<ins>Be brief.</ins>" in ok(olga.get(f"{path}?version=1", headers=HTML)).text
    ok(olga.get(f"{path}?version=9", headers=HTML), 422)
    assert [each["version"] for each in ok(olga.get(f"/api{path}")).json()["versions"]] == [2, 1]


# ------------------------------------------------------------------------------------------ members


def test_members_are_added_given_roles_and_removed_with_what_they_hold(home, ok, olga):
    ann, mia = home.person("ann"), home.person("mia", "manager")
    project = home.project(home.people["olga"])
    path = f"/api/projects/{project.id}/members"
    assert ok(olga.post(path, json={"name": " ANN "}), 201).json()["user"] == ann.id
    ok(olga.post(path, json={"name": "mia"}), 201)
    ok(olga.post(path, json={"name": "nobody"}), 404)
    ok(olga.patch(f"{path}/{ann.id}", json={"role": "manager"}), 422)
    assert ok(olga.patch(f"{path}/{mia.id}", json={"role": "manager"})).json()["role"] == "manager"
    task = home.state.assigner.next(ann, project.id)
    ok(olga.delete(f"{path}/{ann.id}"))
    with home.state.database.read() as connection:
        state = connection.execute(sa.select(assignments.c.state).where(assignments.c.id == task.id)).scalar()
    assert state == "expired"
    assert [each["name"] for each in ok(olga.get(path)).json()["members"]] == ["mia", "olga"]
    ok(olga.delete(f"{path}/{ann.id}"), 404)
    ok(olga.patch(f"{path}/{ann.id}", json={"role": "annotator"}), 404)


def test_members_show_what_they_did_and_the_test_can_be_overruled(home, ok, olga):
    ann, bob = home.person("ann"), home.person("bob")
    project = home.project(
        home.people["olga"], "pair", answers=2, overlap=2, people=[ann, bob], settings={"qualify": 1.0}
    )
    expected = [{"better": 0, "strength": "better"}]
    home.state.projects.add_items(
        home.people["olga"], project.id, [home.content(9, 2)], purpose="qualification", expected=expected
    )
    for person, first in ((ann, 0), (bob, 1)):
        label(home, person, project, lambda task, first=first: {"better": first, "strength": "better"})
    path = f"/api/projects/{project.id}/members"
    rows = {each["name"]: each for each in ok(olga.get(path)).json()["members"]}
    assert (rows["ann"]["qualified"], rows["ann"]["done"], rows["ann"]["gold"]) == (True, 4, 1.0)
    assert (rows["bob"]["qualified"], rows["bob"]["done"], rows["bob"]["gold"]) == (False, 1, 0.0)
    assert rows["ann"]["seconds"] == 30
    assert ok(olga.patch(f"{path}/{bob.id}", json={"qualified": True})).json()["qualified"] is True
    label(home, bob, project, lambda task: {"better": 0, "strength": "better"})
    rows = {each["name"]: each for each in ok(olga.get(path)).json()["members"]}
    assert (rows["bob"]["done"], rows["bob"]["agreement"]) == (4, 1.0)
    shown = ok(olga.get(f"/projects/{project.id}/members", headers=HTML)).text
    assert "Let olga in" in shown
    assert "Let bob in" not in shown


def test_private_facts_are_told_as_totals_of_five_or_more(home, ok, olga):
    project = home.project(home.people["olga"])
    for number in range(12):
        person = home.person(f"person {number}")
        gender = "f" if number < 7 else "m"
        facts = {"gender": gender, "age": str(20 + number), "country": "NZ" if number == 3 else "FJ"}
        home.state.accounts.change(person.id, {"demographics": facts})
        home.state.projects.join(home.people["olga"], project.id, person.id)
    shown = ok(olga.get(f"/api/projects/{project.id}")).json()["demographics"]
    # The one from NZ would be told by the difference to twelve, and no age is shared by five.
    assert shown == {"gender": {"f": 7, "m": 5}}
    page = said(ok(olga.get(f"/projects/{project.id}", headers=HTML)).text)
    assert "NZ" not in page
    assert "FJ" not in page


# ------------------------------------------------------------------------------------------ blind comparison


def test_two_runs_are_compared_blindly_from_runs_to_a_win_rate(home, ok, olga, tmp_path):
    runs = tmp_path / "runs"
    first = sampled(runs, "ppo", {n: f"good {n}" for n in range(10)})
    second = sampled(runs, "sft", {n: "good 0" if n == 0 else f"poor {n}" for n in range(10)})
    assert first in ok(olga.get("/projects/new", headers=HTML)).text
    asked = {"name": "PPO or SFT", "first": first, "second": second, "overlap": 3}
    made = ok(olga.post("/api/blind", json=asked), 201).json()
    assert (made["kind"], made["blind"]["identical"], made["blind"]["prompts"]) == ("pair", 1, 10)
    path = f"/projects/{made['id']}"
    assert "Nobody has compared anything yet" not in ok(olga.get(path, headers=HTML)).text  # one tie is known already
    project = home.state.projects.managed(home.people["olga"], made["id"])
    for number in range(3):
        person = home.person(f"person {number}")
        home.state.projects.join(home.people["olga"], project.id, person.id)
        client = home.client(person.name)
        shown = ok(client.post(f"/api/projects/{project.id}/next")).text
        assert "ppo" not in shown
        assert "sft" not in shown
        label(
            home, person, project,
            lambda task: {"better": int(task.content.prompt[0].content == "question 9"), "strength": "better"},
        )  # fmt: skip
    found = ok(olga.get(f"/api{path}")).json()["human"]
    assert found["win_rate"]["rate"] == pytest.approx(0.85)  # 8 won, 1 lost, 1 tie
    file = tmp_path / "verdicts.jsonl"
    file.write_text(ok(olga.get(f"/api{path}/verdicts.jsonl")).text)
    assert human_win_rate(file).to_dict() == found
    assert "85 %" in ok(olga.get(path, headers=HTML)).text


def test_only_runs_below_the_folder_of_runs_are_read(home, ok, olga, tmp_path):
    sampled(tmp_path / "elsewhere", "secret", {1: "a"})
    inside = sampled(tmp_path / "runs", "ours", {1: "b"})
    for name in ("../elsewhere/sample/secret", "/etc/passwd", "sample/nothing", str(tmp_path / "runs" / inside)):
        asked = {"name": "x", "first": inside, "second": name}
        assert "is no run with answers" in ok(olga.post("/api/blind", json=asked), 422).json()["error"]["message"]
    project = home.project(home.people["olga"])
    ok(olga.get(f"/api/projects/{project.id}/verdicts.jsonl"), 422)


# ------------------------------------------------------------------------------------------ pages


def test_hostile_names_and_guidelines_stay_text(home, ok, olga):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    made = ok(olga.post("/api/projects", json={"name": evil, "kind": "thumb", "guideline": evil}), 201).json()
    for path in ("/projects", *(f"/projects/{made['id']}{end}" for end in ("", "/guidelines", "/settings", "/items"))):
        shown = ok(olga.get(path, headers=HTML)).text
        assert "<script>alert" not in shown
        assert "<img src=x" not in shown
        assert "&lt;script&gt;" in shown


def test_every_page_is_translated(home, ok, olga):
    ok(olga.post("/language", data={"to": "zh"}), 303)
    project = home.project(home.people["olga"])
    for path in ("/projects", "/projects/new", *(f"/projects/{project.id}{end}" for end in
                 ("", "/items", "/members", "/guidelines", "/agreement", "/adjudication", "/settings"))):  # fmt: skip
        shown = ok(olga.get(path, headers=HTML)).text
        body = re.sub(
            r"<script.*?</script>|<code>.*?</code>|<[^>]+>", " ", shown[shown.index("<main") :], flags=re.DOTALL
        )
        left = set(re.findall(r"[A-Za-z]{4,}", body)) - {"Frogs", "olga", "heed", "evaluate", "sample"}
        left -= {"check", "scores", "answers", "jsonl", "Heed", "question"}
        assert left == set(), path
