"""Items of a project: adding from files and runs, finding, gold, order of asking."""

import json

import pytest
from tests.web.test_manage import HTML, label, sampled

from heedlm.feedback.tables import items

PAIR = {"prompt": [{"role": "user", "content": "Why?"}], "answers": [{"text": "Because."}, {"text": "No."}]}


@pytest.fixture
def olga(home):
    return home.client("olga")


def upload(client, project, rows, name="rows.jsonl", **more):
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    return client.post(f"/api/projects/{project.id}/items", files={"file": (name, text.encode())}, data=more)


def test_a_file_is_added_and_what_cannot_be_used_is_told_by_its_line(home, ok, olga):
    project = home.project(home.people["olga"], "pair", answers=2, count=0)
    three = {**PAIR, "answers": [*PAIR["answers"], {"text": "Maybe."}]}
    rows = json.dumps(PAIR) + "\n{broken\n" + json.dumps(three) + "\n" + json.dumps(PAIR) + "\n"
    found = ok(upload(olga, project, rows), 201).json()
    assert (found["new"], found["there_already"], found["set_aside"]) == (1, 1, 2)
    assert [(row["line"], row["reason"][:9]) for row in found["bad"]] == [(2, "not JSON:"), (3, "3 answers")]
    ok(upload(olga, project, "[]"), 422)
    message = ok(upload(olga, project, "nothing", "rows.jsonl"), 422).json()["error"]["message"]
    assert "rows.jsonl" in message
    assert "/tmp" not in message
    assert ".jsonl" in ok(upload(olga, project, [PAIR], "rows.exe"), 422).json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "name", "text", "count"),
    [
        ("rank", "a.json", json.dumps([PAIR]), 1),
        ("thumb", "a.jsonl", json.dumps(PAIR), 2),
        ("rate", "a.csv", "prompt,chosen,rejected\nWhy?,Because.,No.\n", 1),
        ("pair", "a.jsonl", json.dumps({"prompt": "Why?", "chosen": "Because.", "rejected": "No."}), 1),
        ("write", "a.txt", "Why?\nWhen?\n", 2),
        ("write", "a.jsonl", json.dumps({"prompt": "Why?", "completion": "Becuase."}), 1),
        ("steps", "a.jsonl", json.dumps({"prompt": "1+1+1?", "completion": "1+1=2\n\n2+1=4\n"}), 1),
    ],
)
def test_every_kind_reads_what_it_can_use(home, ok, olga, kind, name, text, count):
    project = home.state.projects.create(home.people["olga"], "Frogs", kind)
    assert ok(upload(olga, project, text, name), 201).json()["new"] == count
    found = ok(olga.get(f"/api/projects/{project.id}/items")).json()["items"][0]["content"]
    if kind == "steps":
        assert found["steps"] == ["1+1=2\n", "2+1=4\n"]
    if name == "a.jsonl" and kind == "write":
        assert found["answers"][0]["text"] == "Becuase."
    ok(olga.get(f"/projects/{project.id}/items", headers=HTML))


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("rank", {**PAIR, "ranks": [3, 1]}, {"ranks": [2, 1]}),
        ("pair", {**PAIR, "ranks": [2, 1], "strength": "slightly"}, {"better": 1, "strength": "slightly"}),
        ("pair", {**PAIR, "ranks": [1, 1]}, {"better": "same"}),
        ("thumb", {"prompt": PAIR["prompt"], "answer": {"text": "No."}, "up": False}, {"up": False, "reason": ""}),
        (
            "rate",
            {"prompt": PAIR["prompt"], "answer": {"text": "No."}, "score": 2, "flags": ["opinion"]},
            {"scores": [2], "flags": [["opinion"]]},
        ),
        ("steps", {"prompt": PAIR["prompt"], "steps": ["a", "b"], "labels": [1, -1]}, {"wrong": 1}),
        ("steps", {"prompt": PAIR["prompt"], "steps": ["a", "b"], "labels": [1, 1]}, {"wrong": None}),
    ],
)
def test_gold_is_imported_with_its_right_reply(home, ok, olga, kind, row, expected):
    project = home.state.projects.create(home.people["olga"], "Frogs", kind)
    ok(upload(olga, project, [row], purpose="gold", topics="blood, frogs"), 201)
    path = f"/api/projects/{project.id}/items"
    (found,) = ok(olga.get(f"{path}?state=gold")).json()["items"]
    known = ok(olga.get(f"{path}/{found['id']}")).json()
    assert known["expected"] == expected
    assert known["topics"] == ["blood", "frogs"]


def test_what_people_write_has_no_gold(home, ok, olga):
    project = home.state.projects.create(home.people["olga"], "Frogs", "write")
    ok(upload(olga, project, "Why?\n", "a.txt", purpose="gold"), 422)
    ok(upload(olga, project, "Why?\n", "a.txt"), 201)
    (found,) = ok(olga.get(f"/api/projects/{project.id}/items")).json()["items"]
    reply = {"text": "x", "category": "chat"}
    path = f"/api/projects/{project.id}/items/{found['id']}/purpose"
    ok(olga.put(path, json={"purpose": "gold", "reply": reply}), 422)


def test_a_run_s_answers_become_items(home, ok, olga, tmp_path):
    run = sampled(tmp_path / "runs", "ours", {n: f"answer {n}" for n in range(3)})
    project = home.state.projects.create(home.people["olga"], "Frogs", "thumb")
    path = f"/api/projects/{project.id}/items/from-run"
    assert ok(olga.post(path, json={"run": run, "limit": 2}), 201).json()["new"] == 2
    assert ok(olga.post(path, json={"run": run}), 201).json() == {
        "new": 1, "there_already": 2, "set_aside": 0, "bad": [],
    }  # fmt: skip
    ok(olga.post(path, json={"run": "../../etc"}), 422)


def test_items_are_found_by_words_and_state_a_page_at_a_time(home, ok, olga):
    ann = home.person("ann")
    project = home.project(home.people["olga"], "thumb", count=30, answers=1, people=[ann])
    home.state.projects.add_items(home.people["olga"], project.id, [home.content("青蛙 100%", 1)])
    path = f"/api/projects/{project.id}/items"
    found = ok(olga.get(path)).json()
    assert (found["total"], len(found["items"])) == (31, 25)
    assert len(ok(olga.get(f"{path}?start=25")).json()["items"]) == 6
    for words, count in (
        ("QUESTION 1", 11),
        ("青蛙", 1),
        ("100%", 1),
        ("prompt", 0),
        ("content", 0),
        ("answer 0 to 7", 1),
    ):
        assert ok(olga.get(path, params={"search": words})).json()["total"] == count, words
    task = home.state.assigner.next(ann, project.id)
    assert ok(olga.get(f"{path}?state=begun")).json()["items"][0]["id"] == task.item
    home.state.assigner.submit(ann, task.id, {"up": True}, key="client-key", base=0, seconds=1)
    assert ok(olga.get(f"{path}?state=complete")).json()["total"] == 1
    assert ok(olga.get(f"{path}?state=untouched")).json()["total"] == 30
    ok(olga.get(f"{path}?state=lost"), 422)
    shown = ok(olga.get(f"/projects/{project.id}/items?search=QUESTION+2&start=0", headers=HTML)).text
    assert "question 2" in shown
    assert "question 1<" not in shown


def test_one_item_shows_what_was_said_and_becomes_gold_and_ordinary_again(home, ok, olga):
    ann, bob = home.person("ann"), home.person("bob")
    project = home.project(home.people["olga"], "pair", count=1, answers=2, overlap=2, people=[ann, bob])
    label(home, ann, project, lambda task: {"better": 1, "strength": "slightly"})
    task = home.state.assigner.done(ann, project.id)[0]
    shown = project.kind.shown({"better": 0, "strength": "better"}, task.order)
    home.state.assigner.submit(ann, task.id, shown, key="another-key", base=1, seconds=5)
    skipped = home.state.assigner.next(bob, project.id)
    home.state.assigner.skip(bob, skipped.id, "no idea")
    path = f"/projects/{project.id}/items/{task.item}"
    known = ok(olga.get(f"/api{path}")).json()
    assert [(each["name"], each["version"], each["counts"]) for each in known["said"]] == [
        ("ann", 1, False), ("ann", 2, True),
    ]  # fmt: skip
    assert known["said"][1]["reply"] == {"better": 0, "strength": "better"}
    assert known["skips"] == [["bob", "no idea"]]
    page = ok(olga.get(path, headers=HTML)).text
    assert "corrected since" in page
    assert "no idea" in page
    meant = {"purpose": "gold", "reply": {"better": 0, "strength": "better"}}
    ok(olga.put(f"/api{path}/purpose", json=meant))
    assert ok(olga.get(f"/api{path}")).json()["expected"] == meant["reply"]
    ok(olga.put(f"/api{path}/purpose", json={"purpose": "gold"}), 422)
    ok(olga.put(f"/api{path}/purpose", json={"purpose": "gold", "reply": {"better": 3}}), 422)
    ok(olga.put(f"/api{path}/purpose", json={"purpose": "ordinary"}))
    assert ok(olga.get(f"/api{path}")).json()["expected"] is None
    other = home.project(home.people["olga"])
    ok(olga.get(f"/api/projects/{other.id}/items/{task.item}"), 404)
    ok(olga.put(f"/api/projects/{other.id}/items/{task.item}/purpose", json={"purpose": "ordinary"}), 404)


def test_scores_are_stored_and_items_put_in_order(home, ok, olga):
    ann = home.person("ann")
    project = home.project(home.people["olga"], count=3, people=[ann])
    lines = ok(olga.get(f"/api/projects/{project.id}/answers.jsonl")).text.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["prompt"][0]["content"] for row in rows] == ["question 0", "question 1", "question 2"]
    scored = [{"id": row["id"], "scores": [margin, 0, -1]} for row, margin in zip(rows, (3, 0.1, 1), strict=True)]
    text = "".join(json.dumps(row) + "\n" for row in scored)
    path = f"/api/projects/{project.id}"
    ok(olga.post(f"{path}/selection", json={"rule": "margin"}), 422)
    sent = {"files": {"file": ("scores.jsonl", text.encode())}, "data": {"source": "reward/rm"}}
    assert ok(olga.post(f"{path}/scores", **sent), 201).json() == {"source": "reward/rm", "items": 3}
    assert ok(olga.post(f"{path}/selection", json={"rule": "margin"})).json()["items"] == 3
    assert home.state.assigner.next(ann, project.id).content.prompt[0].content == "question 1"
    known = ok(olga.get(f"{path}/items/{rows[0]['id']}")).json()
    assert known["scores"] == {"reward/rm": [3.0, 0.0, -1.0]}
    assert "reward/rm" in ok(olga.get(f"/projects/{project.id}/items/{rows[0]['id']}", headers=HTML)).text
    ok(olga.post(f"{path}/selection", json={"rule": "best"}), 422)
    wrong = {"files": {"file": ("scores.jsonl", b"{}")}, "data": {"source": "x"}}
    assert "line 1" in ok(olga.post(f"{path}/scores", **wrong), 422).json()["error"]["message"]
    with home.state.database.read() as connection:
        assert connection.execute(items.select()).first().priority == pytest.approx(0.0497871)
