"""Annotation through the application: pages, tasks, drafts, replies, corrections, skipping, what is never sent."""

import json

import pytest

from heedlm.feedback.tasks import Content
from heedlm.records.types import Answer, Message, Meta

OTHER = {"reply": {"ranks": [1, 2, 3]}, "key": "key-00000001", "base": 0, "seconds": 4.5}


@pytest.fixture
def desk(home):
    """A project with three items, ann who works in it, and bob who does not."""
    ann, _ = home.person("ann"), home.person("bob")
    home.project_id = home.project(home.people["olga"], people=[ann]).id
    return home


def take(client, project, ok):
    return ok(client.post(f"/api/projects/{project}/next")).json()["task"]


def submitted(reply, base=0, key="key-00000001", seconds=3.0):
    return {"reply": reply, "key": key, "base": base, "seconds": seconds}


def test_a_task_is_taken_answered_and_followed_by_the_next(desk, ok):
    ann, project = desk.client("ann"), desk.project_id
    before = ok(ann.post(f"/api/projects/{project}/next")).json()
    assert before["standing"] == {"state": "open", "done": 0, "skipped": 0, "left": 3}
    task = before["task"]
    assert task["seconds_left"] == 1800
    assert task["prompt"] == [{"role": "user", "content": "question 0"}]
    assert sorted(task["answers"]) == [f"answer {number} to 0" for number in range(3)]
    assert take(ann, project, ok)["id"] == task["id"]  # asked again: the same one
    said = ok(ann.post(f"/api/tasks/{task['id']}/submit", json=OTHER)).json()
    assert said == {"version": 1, "repeated": False}
    again = ok(ann.post(f"/api/tasks/{task['id']}/submit", json=OTHER)).json()
    assert again == {"version": 1, "repeated": True}
    after = ok(ann.post(f"/api/projects/{project}/next")).json()
    assert after["task"]["id"] != task["id"]
    assert after["standing"] == {"state": "open", "done": 1, "skipped": 0, "left": 2}


def test_ranks_are_stored_by_the_answers_own_places(desk, ok):
    ann = desk.client("ann")
    task = take(ann, desk.project_id, ok)
    order = [int(text.split()[1]) for text in task["answers"]]
    ok(ann.post(f"/api/tasks/{task['id']}/submit", json=submitted({"ranks": [3, 1, 1]})))
    stored = desk.state.assigner.task(desk.people["ann"], task["id"]).reply["ranks"]
    assert [stored[answer] for answer in order] == [2, 1, 1]
    assert ok(ann.get(f"/api/tasks/{task['id']}")).json()["reply"] == {"ranks": [2, 1, 1]}


def test_a_correction_is_a_new_version_and_another_tab_is_told(desk, ok):
    ann = desk.client("ann")
    path = f"/api/tasks/{take(ann, desk.project_id, ok)['id']}"
    ok(ann.post(f"{path}/submit", json=submitted({"ranks": [1, 2, 3]})))
    late = ok(ann.post(f"{path}/submit", json=submitted({"ranks": [3, 2, 1]}, key="key-00000002")), 409)
    assert "another tab" in late.json()["error"]["message"]
    ok(ann.post(f"{path}/submit", json=submitted({"ranks": [3, 2, 1]}, base=1, key="key-00000003")))
    versions = ok(ann.get(f"{path}/history")).json()["versions"]
    assert [(each["version"], each["reply"]) for each in versions] == [
        (2, {"ranks": [3, 2, 1]}),
        (1, {"ranks": [1, 2, 3]}),
    ]
    assert versions[0]["seconds"] == 3.0
    assert ok(ann.get(path)).json()["version"] == 2


def test_a_draft_is_kept_and_renews_the_lease(desk, ok):
    ann = desk.client("ann")
    path = f"/api/tasks/{take(ann, desk.project_id, ok)['id']}"
    draft = {"state": {"tiers": [[1], [0, 2]]}, "version": 0, "seconds": 7.5}
    desk.clock.time += 600
    assert ok(ann.get(path)).json()["seconds_left"] == 1200
    assert ok(ann.put(f"{path}/draft", json={"draft": draft})).json() == {"seconds_left": 1800}
    assert ok(ann.get(path)).json()["draft"] == draft
    ok(ann.post(f"{path}/submit", json=OTHER))
    assert ok(ann.get(path)).json()["draft"] is None


def test_a_lease_that_ran_out_may_be_lost(desk, ok):
    ann, bob = desk.client("ann"), desk.client("bob")
    desk.state.projects.join(desk.people["olga"], desk.project_id, desk.people["bob"].id)
    mine = take(ann, desk.project_id, ok)
    desk.clock.time += 1801
    assert ok(ann.get(f"/api/tasks/{mine['id']}")).json()["seconds_left"] == 0
    theirs = take(bob, desk.project_id, ok)
    assert theirs["prompt"] == mine["prompt"]
    lost = ok(ann.post(f"/api/tasks/{mine['id']}/submit", json=OTHER), 409)
    assert "somebody else" in lost.json()["error"]["message"]


def test_skipping_gives_a_task_back(desk, ok):
    ann = desk.client("ann")
    task = take(ann, desk.project_id, ok)
    ok(ann.post(f"/api/tasks/{task['id']}/skip", json={"reason": "broken \0"}))  # PostgreSQL cannot hold NUL
    follow = ok(ann.post(f"/api/projects/{desk.project_id}/next")).json()
    assert follow["task"]["id"] != task["id"]
    assert follow["standing"] == {"state": "open", "done": 0, "skipped": 1, "left": 2}
    path = f"/api/tasks/{follow['task']['id']}"
    ok(ann.post(f"{path}/submit", json=OTHER))
    ok(ann.post(f"{path}/skip", json={"reason": "late"}), 409)


def test_a_task_is_for_one_person(desk, ok):
    desk.state.projects.join(desk.people["olga"], desk.project_id, desk.people["bob"].id)
    path = f"/api/tasks/{take(desk.client('ann'), desk.project_id, ok)['id']}"
    for name in ("bob", "olga"):
        other = desk.client(name)
        ok(other.get(path), 404)
        ok(other.get(f"{path}/history"), 404)
        ok(other.put(f"{path}/draft", json={"draft": {}}), 404)
        ok(other.post(f"{path}/submit", json=OTHER), 404)
        ok(other.post(f"{path}/skip", json={"reason": "x"}), 404)


def test_a_project_is_for_its_members(desk, ok):
    bob = desk.client("bob")
    for path in (f"/annotate/{desk.project_id}", f"/annotate/{desk.project_id}/done"):
        ok(bob.get(path), 404)
    ok(bob.post(f"/api/projects/{desk.project_id}/next"), 404)
    ok(bob.get(f"/api/projects/{desk.project_id}/guideline"), 404)
    assert "Frogs" not in ok(bob.get("/annotate")).text
    # who leaves loses sight of what was theirs
    ann = desk.client("ann")
    path = f"/api/tasks/{take(ann, desk.project_id, ok)['id']}"
    desk.state.projects.leave(desk.people["olga"], desk.project_id, desk.people["ann"].id)
    ok(ann.get(path), 404)
    ok(ann.post(f"{path}/submit", json=OTHER), 404)


@pytest.mark.parametrize(
    "change",
    [
        {"reply": {"ranks": [1, 2]}},
        {"reply": {"ranks": [1, 2, 9]}},
        {"reply": {}},
        {"reply": {"ranks": [[[[[[[[[[1]]]]]]]]]]}},
        {"reply": [1, 2, 3]},
        {"key": "short"},
        {"key": "a b c d e f g h"},
        {"base": -1},
        {"seconds": -1},
        {"more": 1},
    ],
)
def test_a_reply_that_cannot_be_used_is_refused(desk, ok, change):
    ann = desk.client("ann")
    path = f"/api/tasks/{take(ann, desk.project_id, ok)['id']}"
    ok(ann.post(f"{path}/submit", json={**OTHER, **change}), 422)
    assert ok(ann.get(path)).json()["version"] == 0


def test_what_no_answer_could_hold_never_gets_in(desk, ok):
    ann = desk.client("ann")
    path = f"/api/tasks/{take(ann, desk.project_id, ok)['id']}"
    headers = {"content-type": "application/json"}
    ok(ann.put(f"{path}/draft", content=b'{"draft": {"state": NaN}}', headers=headers), 422)
    ok(ann.put(f"{path}/draft", content=b'{"draft": {"state": "\\ud800 \\u0000 x"}}', headers=headers))
    assert ok(ann.get(path)).json()["draft"] == {"state": "?  x"}
    ok(ann.put(f"{path}/draft", json={"draft": {"state": "x" * 100_001}}), 422)
    deep = {"draft": {}}
    for _ in range(20):
        deep = {"draft": deep}
    ok(ann.put(f"{path}/draft", json=deep), 422)
    ok(ann.post(f"{path}/skip", json={"reason": ""}), 422)


def test_nothing_tells_models_or_gold(home, ok):
    """Gold looks like any other task: the same fields, and a count that falls by one all the same."""
    ann = home.person("ann")
    olga = home.people["olga"]
    project = home.project(olga, count=3, people=[ann], settings={"gold_every": 2})
    secret = Content(
        prompt=(Message(role="user", content="gold question"),),
        answers=tuple(Answer(text=f"text {n}", model="secret-model", tokens=7) for n in range(3)),
        meta=Meta(source="secret-source", task={"gold": "secret-task"}),
        notes={"why": "secret-note"},
    )
    expected = [{"ranks": [1, 2, 3]}]
    home.state.projects.add_items(olga, project.id, [secret], purpose="gold", expected=expected)
    client, seen, left = home.client("ann"), [], []
    for turn in range(4):
        answer = ok(client.post(f"/api/projects/{project.id}/next"))
        seen.append(answer.json()["task"])
        left.append(answer.json()["standing"]["left"])
        assert "secret" not in answer.text
        assert "model" not in answer.text
        path = f"/api/tasks/{seen[-1]['id']}"
        ok(client.post(f"{path}/submit", json={**OTHER, "key": f"key-0000000{turn}"}))
        assert "secret" not in ok(client.get(path)).text + ok(client.get(f"{path}/history")).text
    assert [task["prompt"][0]["content"] for task in seen].index("gold question") == 1
    assert len({json.dumps(sorted(task)) for task in seen}) == 1
    assert left == [4, 3, 2, 1]
    done = ok(client.get(f"/annotate/{project.id}/done")).text
    assert "gold question" in done
    assert "secret" not in done
    assert ok(client.post(f"/api/projects/{project.id}/next")).json()["standing"]["state"] == "finished"


def test_critiques_and_topics_go_with_the_answers_they_belong_to(home, ok):
    ann, olga = home.person("ann"), home.people["olga"]
    project = home.project(olga, count=0, people=[ann])
    contents = [home.content(n, 4, critiques=tuple(f"of answer {k} to {n}" for k in range(4))) for n in range(3)]
    contents.append(home.content(9, 4, critiques=("of answer 0 to 9",)))  # only one has been criticised
    home.state.projects.add_items(olga, project.id, contents, topics=["war"])
    client = home.client("ann")
    orders = set()
    for turn in range(4):
        task = take(client, project.id, ok)
        assert task["topics"] == ["war"]
        if turn < 3:
            assert task["critiques"] == [f"of {text}" for text in task["answers"]]
        else:
            assert sorted(task["critiques"]) == ["", "", "", "of answer 0 to 9"]
        orders.add(tuple(text.split()[1] for text in task["answers"]))
        reply = submitted({"cannot": "no idea"}, key=f"key-0000000{turn}")
        ok(client.post(f"/api/tasks/{task['id']}/submit", json=reply))
    assert len(orders) > 1


def test_topics_that_one_avoids_are_not_counted_as_left(home, ok):
    ann, olga = home.person("ann"), home.people["olga"]
    project = home.project(olga, count=2, people=[ann])
    home.state.projects.add_items(olga, project.id, [home.content(7)], topics=["war"])
    home.state.accounts.change(ann.id, {"avoids": ["war"]})
    standing = ok(home.client("ann").post(f"/api/projects/{project.id}/next")).json()["standing"]
    assert standing["left"] == 2


def test_guidelines_are_the_newest(desk, ok):
    ann = desk.client("ann")
    assert take(ann, desk.project_id, ok)["guideline"] == 1
    desk.state.projects.guide(desk.people["olga"], desk.project_id, "Prefer <b>frogs</b>.")
    assert take(ann, desk.project_id, ok)["guideline"] == 2
    newest = ok(ann.get(f"/api/projects/{desk.project_id}/guideline")).json()
    assert newest == {"version": 2, "text": "Prefer <b>frogs</b>."}
    assert "Prefer &lt;b&gt;frogs" in ok(ann.get(f"/annotate/{desk.project_id}")).text


def test_the_state_of_a_project_is_told(home, ok):
    ann, olga = home.person("ann"), home.people["olga"]
    client = home.client("ann")

    def state(project):
        found = ok(client.post(f"/api/projects/{project.id}/next")).json()
        return found["standing"]["state"], found["task"] is not None

    empty = home.project(olga, count=0, people=[ann])
    assert state(empty) == ("empty", False)
    one = home.project(olga, count=1, people=[ann, olga])
    boss = home.client("olga")
    path = f"/api/tasks/{take(boss, one.id, ok)['id']}"
    assert state(one) == ("waiting", False)
    ok(boss.post(f"{path}/submit", json=OTHER))
    tested = home.project(olga, count=1, people=[ann], settings={"qualify": 1.0})
    tests = [home.content(place) for place in (7, 8)]
    home.state.projects.add_items(olga, tested.id, tests, purpose="qualification", expected=[{"ranks": [1, 2, 3]}] * 2)
    assert state(tested) == ("testing", True)
    for turn in range(2):
        task = take(client, tested.id, ok)
        ok(
            client.post(
                f"/api/tasks/{task['id']}/submit", json=submitted({"ranks": [1, 1, 1]}, key=f"key-0000000{turn}")
            )
        )
    assert state(tested) == ("unqualified", False)
    closed = home.project(olga, count=1, people=[ann])
    home.state.projects.change(olga, closed.id, {"closed": True})
    assert state(closed) == ("closed", False)
    shown = ok(client.get("/annotate")).text
    for words in ("There are no tasks yet.", "Nothing for you at the moment", "too far from the guidelines"):
        assert words in shown


def test_what_waits_comes_back_when_its_lease_runs_out(home, ok):
    ann, bob, olga = home.person("ann"), home.person("bob"), home.people["olga"]
    project = home.project(olga, count=1, people=[ann, bob])
    take(home.client("bob"), project.id, ok)
    client = home.client("ann")
    assert ok(client.post(f"/api/projects/{project.id}/next")).json()["standing"]["state"] == "waiting"
    home.clock.time += 1801
    found = ok(client.post(f"/api/projects/{project.id}/next")).json()
    assert found["task"] is not None
    assert found["standing"] == {"state": "open", "done": 0, "skipped": 0, "left": 1}


@pytest.mark.parametrize(
    ("kind", "answers", "steps", "reply"),
    [
        ("rank", 4, 0, {"ranks": [2, 1, 4, 3]}),
        ("rank", 9, 0, {"cannot": "all alike"}),
        ("rate", 2, 0, {"scores": [7, 1], "flags": [[], ["hallucination", "opinion"]]}),
        ("pair", 2, 0, {"better": 1, "strength": "slightly"}),
        ("pair", 2, 0, {"better": "same"}),
        ("thumb", 1, 0, {"up": False, "reason": "wrong"}),
        ("write", 0, 0, {"text": "呱呱叫 🐸", "category": "chat"}),
        ("write", 1, 0, {"text": "Frogs croak.", "category": "open_qa"}),
        ("steps", 1, 3, {"wrong": 1}),
        ("steps", 1, 3, {"wrong": None}),
    ],
)
def test_every_kind_comes_back_as_it_was_sent(home, ok, kind, answers, steps, reply):
    ann, olga = home.person("ann"), home.people["olga"]
    project = home.project(olga, kind, count=0, people=[ann])
    content = home.content(0, answers, steps=tuple(f"step {n}" for n in range(steps)))
    home.state.projects.add_items(olga, project.id, [content])
    client = home.client("ann")
    assert ok(client.get(f"/annotate/{project.id}")).text.count("<h1>") == 1
    task = take(client, project.id, ok)
    assert (len(task["answers"]), len(task["steps"])) == (answers, steps)
    ok(client.post(f"/api/tasks/{task['id']}/submit", json=submitted(reply)))
    assert ok(client.get(f"/api/tasks/{task['id']}")).json()["reply"] == reply
    (row,) = ok(client.get(f"/api/tasks/{task['id']}/history")).json()["versions"]
    assert (row["reply"], row["answers"], row["steps"]) == (reply, answers, steps)
    assert "question 0" in ok(client.get(f"/annotate/{project.id}/done")).text


def test_ones_own_answers_are_listed_newest_first_and_further_on_request(home, ok):
    ann, olga = home.person("ann"), home.people["olga"]
    project = home.project(olga, count=4, people=[ann])
    client = home.client("ann")
    for turn in range(4):
        task = take(client, project.id, ok)
        ok(
            client.post(
                f"/api/tasks/{task['id']}/submit", json=submitted({"ranks": [1, 2, 3]}, key=f"key-0000000{turn}")
            )
        )
        home.clock.time += 60
    shown = ok(client.get(f"/annotate/{project.id}/done?limit=2")).text
    assert shown.index("question 3") < shown.index("question 2")
    assert "question 1" not in shown
    assert "done?limit=102" in shown
    assert "question 0" in ok(client.get(f"/annotate/{project.id}/done")).text
    ok(client.get(f"/annotate/{project.id}/done?limit=0"), 422)
    ok(client.get(f"/annotate/{project.id}/done?limit=1001"), 422)


def test_chat_users_and_visitors_stay_outside(desk, ok):
    desk.person("carl", "chat")
    carl, visitor = desk.client("carl"), desk.visitor()
    for path in ("/annotate", f"/annotate/{desk.project_id}", f"/annotate/{desk.project_id}/done"):
        ok(carl.get(path), 403)
        ok(visitor.get(path), 401)
    ok(carl.post(f"/api/projects/{desk.project_id}/next"), 403)
    forged = desk.client("ann")
    del forged.headers["x-csrf-token"]
    ok(forged.post(f"/api/projects/{desk.project_id}/next"), 403)
