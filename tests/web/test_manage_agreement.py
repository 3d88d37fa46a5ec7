"""The agreement page: its figures are those of feedback.agreement; decisions; who does not read is named."""

import random
import re
from dataclasses import asdict

import pytest
import sqlalchemy as sa
from tests.web.test_manage import HTML, label

from heedlm.feedback.agreement import measure
from heedlm.feedback.judgements import Judgement
from heedlm.feedback.quality import suspects
from heedlm.feedback.tables import labels
from heedlm.web.pages.agreement import REASONS, reason_in


@pytest.fixture
def olga(home):
    return home.client("olga")


def test_n22_through_the_page(home, ok, olga):
    """[[40, 10], [12, 38]] gives agreement .78 and kappa .56 (METHODS N22)."""
    ann, bob = home.person("ann"), home.person("bob")
    project = home.project(home.people["olga"], "thumb", count=100, answers=1, overlap=2, people=[ann, bob])
    said = {
        "ann": [True] * 50 + [False] * 50,
        "bob": [True] * 40 + [False] * 10 + [True] * 12 + [False] * 38,
    }
    for person in (ann, bob):
        label(home, person, project, lambda task, person=person: {
            "up": said[person.name][int(task.content.prompt[0].content.split()[1])], "reason": "",
        })  # fmt: skip
    found = ok(olga.get(f"/api/projects/{project.id}/agreement")).json()
    overall = found["overall"]["label"]
    assert overall["percent"]["estimate"] == pytest.approx(0.78)
    assert overall["cohen"] == pytest.approx(0.56)
    assert found["labels"] == 200
    judgements = [
        Judgement(str(place), name, "up" if up else "down")
        for name, ups in said.items()
        for place, up in enumerate(ups)
    ]
    same = asdict(measure(judgements))
    assert overall == {**same, "percent_with_ties": None}
    assert found["pairs"] == [
        {
            "kind": "label", "first": "ann", "second": "bob", "compared": 100, "share": pytest.approx(0.78),
            "share_error": found["pairs"][0]["share_error"], "kappa": pytest.approx(0.56),
            "kappa_error": found["pairs"][0]["kappa_error"],
        }
    ]  # fmt: skip
    shown = ok(olga.get(f"/projects/{project.id}/agreement", headers=HTML)).text
    assert "78 %" in shown
    assert "0.56" in shown
    differ = [int(number) for number in re.findall(r">question (\d+)</a>", shown)]
    assert len(differ) == 20
    assert set(differ) <= set(range(40, 62))


def test_who_always_takes_the_first_answer_is_named_in_both_languages(home, ok, olga):
    people = [home.person(f"person {n}") for n in range(4)]
    project = home.project(home.people["olga"], "pair", count=40, answers=2, overlap=4, people=people)
    rng = random.Random(0)
    for number, person in enumerate(people):

        def reply(task, number=number):
            honest = 0 if rng.random() < 0.85 else 1
            return {"better": task.order[0] if number == 3 else honest, "strength": "better"}

        label(home, person, project, reply)
    found = ok(olga.get(f"/api/projects/{project.id}/agreement")).json()
    assert [each["name"] for each in found["suspicions"]] == ["person 3"]
    assert any(
        reason.startswith("by place: chose the answer shown first in 40 of 40")
        for reason in found["suspicions"][0]["reasons"]
    )
    assert found["position"]["n"] == 160
    assert found["length"] is None  # all answers are as long
    members = ok(olga.get(f"/api/projects/{project.id}/members")).json()["members"]
    assert [each["name"] for each in members if each["flags"]] == ["person 3"]
    assert "look at this" in ok(olga.get(f"/projects/{project.id}/members", headers=HTML)).text
    ok(olga.post("/language", data={"to": "zh"}), 303)
    assert (
        "40 次判断中有 40 次选了排在最前的回答" in ok(olga.get(f"/projects/{project.id}/agreement", headers=HTML)).text
    )


def careless():
    """Judgements of many kinds of carelessness, beside those of people who read."""
    rng = random.Random(0)
    said, gold = [], {}
    for n in range(80):
        gold[str(n)] = right = rng.choice(["up", "down"])
        wrong = "down" if right == "up" else "up"
        for name in ("ann", "bob", "cai"):
            said.append(Judgement(str(n), name, right if rng.random() < 0.95 else wrong, seconds=30.0))
        said.append(Judgement(str(n), "always up", "up", seconds=2.0))
        said.append(Judgement(str(n), "coin", rng.choice(["up", "down"]), seconds=30.0))
        said.append(Judgement(str(n), "against", wrong, seconds=30.0))
    for n in range(80):
        best, order = rng.randrange(3), tuple(rng.sample(range(3), 3))
        of = {"ann": best, "bob": best, "cai": best, "first": order[0], "last": order[-1], "equal": None}
        for name, chosen in of.items():
            ranks = tuple(1 if chosen is None or place == chosen else 2 for place in range(3))
            said.append(Judgement(f"r{n}", name, ranks, "ranking", order_shown=order))
    return said, gold


@pytest.mark.parametrize("form", REASONS)
def test_every_reason_is_said_in_chinese(form):
    start = form.partition("{")[0]
    found = [reason for each in suspects(*careless()) for reason in each.reasons if reason.startswith(start)]
    assert found
    for reason in found:
        said = reason_in(reason, "zh")
        assert re.findall(r"[A-Za-z]{2,}", said) == []
        assert sorted(re.findall(r"\d+", said)) == sorted(re.findall(r"\d+", reason))
    assert reason_in("something new", "zh") == "something new"


def test_what_is_said_again_and_again_is_called_as_on_the_pages():
    reason = "constant: {} in 60 of 60 judgements, the others say it in 30% of theirs (p < 1e-12)"
    assert reason_in(reason.format("up"), "en").startswith("constant: Good in 60 of 60")
    assert "60 次是 好，" in reason_in(reason.format("up"), "zh")
    assert "60 次是 所有回答并列，" in reason_in(reason.format("all answers equal"), "zh")
    assert "60 次是 对话，" in reason_in(reason.format("chat"), "zh")  # the use case, not the role
    assert "60 次是 ranks 1, 2，" in reason_in(reason.format("ranks 1, 2"), "zh")


def test_an_item_is_decided_from_the_page(home, ok, olga):
    people = [home.person(f"person {n}") for n in range(2)]
    project = home.project(home.people["olga"], count=2, overlap=2, people=people, settings={"adjudicate_below": 0.5})
    for number, person in enumerate(people):
        ranks = [[1, 2, 3], [3, 2, 1]][number]
        label(home, person, project, lambda task, ranks=ranks: {"ranks": ranks})
    path = f"/projects/{project.id}"
    queue = ok(olga.get(f"/api{path}/adjudication")).json()["items"]
    assert [(each["agreement"], each["replies"]) for each in queue] == [(0.0, 2), (0.0, 2)]
    assert "question 0" in ok(olga.get(f"{path}/adjudication", headers=HTML)).text
    item = queue[0]["item"]
    page = ok(olga.get(f"{path}/items/{item}/decision", headers=HTML)).text
    assert "model-" not in page  # who decides is not told who answered either
    ok(olga.post(f"/api{path}/items/{item}/decision", json={"reply": {"ranks": [1, 9, 2]}}), 422)
    ok(olga.post(f"/api{path}/items/{item}/decision", json={"reply": {"ranks": [1, 2, 2]}}), 201)
    assert len(ok(olga.get(f"/api{path}/adjudication")).json()["items"]) == 1
    with home.state.database.read() as connection:
        row = connection.execute(sa.select(labels).where(labels.c.assignment.is_(None))).one()
    assert sorted(row.order) == [0, 1, 2]
    assert row.reply["ranks"][row.order[0]] == 1
    known = ok(olga.get(f"/api{path}/items/{item}")).json()
    assert [each["decision"] for each in known["said"]] == [False, False, True]
    assert ok(olga.get(f"/api{path}/agreement")).json()["labels"] == 4
    ok(olga.post(f"/api{path}/items/nothing/decision", json={"reply": {"ranks": [1, 2, 3]}}), 404)
