"""Exports: what counts at a point in time, who is called what, and runs that tell which labels went in."""

import itertools

import pytest

from heedlm.errors import BadInput
from heedlm.feedback.adjudication import Adjudication
from heedlm.feedback.conversations import Conversations
from heedlm.feedback.export import Config, collect, export_run, identity
from heedlm.feedback.source import from_feedback, snapshot
from heedlm.feedback.verdicts import Verdicts
from heedlm.records import Comparison, Demonstration, Thumb, read
from heedlm.runs import Run, fingerprint
from heedlm.stages.export import run as export_stage

_keys = (f"key-{number:06}" for number in itertools.count())


def say(team, person, project, reply, *, base=0):
    """The next task of this person's, answered; returns the label's number."""
    task = team.assigner.next(person, project.id)
    return team.assigner.submit(person, task.id, reply, key=next(_keys), base=base, seconds=3.0).seq


def address(team):
    """What a command line calls the database."""
    return str(team.database.file or team.database.url.render_as_string(hide_password=False))


@pytest.fixture
def judged(team):
    """Three items, ranked by ann and ben, one of them by a manager's decision in the end."""
    olga = team.person("olga", "owner")
    ann, ben = team.person("ann", group="north"), team.person("ben")
    project = team.project(olga, overlap=2, people=(ann, ben))
    for person in (ann, ben):
        for _ in range(3):
            say(team, person, project, {"ranks": [1, 2, 3]})
    return team, project, olga, ann, ben


def test_the_newest_label_of_each_person_counts(judged):
    team, project, _, ann, _ = judged
    before = collect(team.database, project.id)
    task = team.assigner.done(ann, project.id)[0]
    team.assigner.submit(ann, task.id, {"ranks": [3, 1, 1]}, key="corrected", base=1, seconds=2)
    after = collect(team.database, "Frogs")
    assert len(before.rows) == len(after.rows) == 6
    assert before.lineage.fingerprint != after.lineage.fingerprint
    corrected = next(row for row in after.rows if 3 not in row.ranks)
    shown = [corrected.ranks[answer] for answer in corrected.order_shown]
    assert shown == [2, 1, 1]
    assert corrected.group == "north"
    assert corrected.guideline_version == "1"
    assert collect(team.database, project.id, before.lineage.upto).lineage == before.lineage


def test_points_in_time_are_honoured(judged):
    team, project, *_ = judged
    for upto in range(7):
        found = collect(team.database, project.id, upto)
        assert len(found.rows) == upto
        assert (found.lineage.count, found.lineage.upto) == (upto, upto)
        assert found.lineage.last == (upto or None)


def test_a_decision_stands_in_place_of_what_people_said(judged):
    team, project, olga, _, _ = judged
    item = team.assigner.done(judged[3], project.id)[0].item
    Adjudication(team.projects).decide(olga, project.id, item, {"ranks": [2, 1, 2]})
    found = collect(team.database, project.id)
    assert len(found.rows) == 5
    assert sum(row.ranks == (2, 1, 2) for row in found.rows) == 1
    assert found.lineage.left_out == {"decided by a manager": 2}
    assert len(collect(team.database, project.id, 6).rows) == 6


def test_what_says_nothing_is_left_out(judged):
    team, project, _, ann, ben = judged
    for person, reply in ((ann, {"cannot": "all the same"}), (ben, {"withdrawn": True})):
        task = team.assigner.done(person, project.id)[0]
        if "cannot" in reply:
            team.assigner.submit(person, task.id, reply, key=next(_keys), base=1, seconds=2)
    found = collect(team.database, project.id)
    assert len(found.rows) == 5
    assert found.lineage.left_out == {"could not be judged": 1}


def test_gold_is_left_out_unless_asked_for(team):
    olga, ann = team.person("olga", "owner"), team.person("ann")
    project = team.project(olga, people=(ann,), settings={"gold_every": 1})
    gold = team.content(99)
    team.projects.add_items(olga, project.id, [gold], purpose="gold", expected=[{"ranks": [1, 2, 3]}])
    for _ in range(2):
        say(team, ann, project, {"ranks": [1, 2, 3]})
    found = collect(team.database, project.id)
    assert (len(found.rows), found.lineage.left_out) == (1, {"gold items": 1})
    assert len(collect(team.database, project.id, tests=True).rows) == 2


def test_people_have_made_up_names_that_stay(judged):
    team, project, *_ = judged
    rows = collect(team.database, project.id).rows
    names = {row.annotator for row in rows}
    assert len(names) == 2
    assert all(name.startswith("person-") for name in names)
    assert names == {row.annotator for row in collect(team.database, project.id).rows}
    assert {row.annotator for row in collect(team.database, project.id, names=True).rows} == {"ann", "ben"}


def test_every_kind_makes_its_rows(team):
    olga, ann = team.person("olga", "owner"), team.person("ann")
    wanted = {
        "pair": (2, {"better": 0, "strength": "slightly"}, "comparisons"),
        "rate": (3, {"scores": [1, 4, 7]}, "ratings"),
        "thumb": (1, {"up": True}, "thumbs"),
        "write": (0, {"text": "Frogs leap.", "category": "chat"}, "demonstrations"),
    }
    for kind, (answers, reply, role) in wanted.items():
        project = team.project(olga, kind, count=1, answers=answers, people=(ann,))
        say(team, ann, project, reply)
        found = {name: len(rows) for name, rows in collect(team.database, project.id).by_role().items()}
        assert found == {role: 3 if kind == "rate" else 1, "prompts": 1}
    written = collect(team.database, project.id).rows[0]
    assert isinstance(written, Demonstration)
    assert written.meta.task["author"].startswith("person-")


def test_an_export_is_a_run_that_is_used_again(judged, tmp_path):
    team, project, _, ann, _ = judged
    config = Config(project="Frogs", out=tmp_path / "runs")
    first = export_run(team.database, config)
    assert export_run(team.database, config).path == first.path
    assert first.info.results["labels"]["database"] == identity(team.database)
    assert (
        first.info.results["labels"] | {"project": project.id, "first": 1, "last": 6, "count": 6}
        == (first.info.results["labels"])
    )
    assert len(read(first.path / "comparisons.jsonl", Comparison)) == 6
    task = team.assigner.done(ann, project.id)[0]
    team.assigner.submit(ann, task.id, {"ranks": [3, 2, 1]}, key="corrected", base=1, seconds=2)
    second = export_run(team.database, config)
    assert second.path != first.path
    old = snapshot(f"{address(team)}#Frogs@6", tmp_path / "runs")
    assert old == str(first.path)
    assert fingerprint(old) != fingerprint(second.path)


def test_a_stage_is_given_the_export_in_place_of_the_project(judged, tmp_path):
    team, project, *_ = judged
    from heedlm.stages.reward import Config as Reward

    config = Reward(model="m", data=f"{address(team)}#{project.id}", test="x.jsonl", out=tmp_path / "runs")
    found = from_feedback(config, "data", "test", "held_out")
    assert Run.open(found.data).info.stage == "export"
    assert (found.test, found.held_out) == ("x.jsonl", None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{db}", "name a project of it"),
        ("{db}#Toads", "there is no project 'Toads'; it has: 'Frogs'"),
        ("{db}#Frogs@0", "has no labels to export"),
        ("frogs#green.jsonl", "data"),
        ("nowhere.db#Frogs", "nowhere.db: no such database"),
    ],
)
def test_faults_are_told_in_one_line(judged, tmp_path, data, message):
    team, *_ = judged
    text = data.format(db=address(team))
    if message == "data":
        assert snapshot(text, tmp_path) == text
        return
    with pytest.raises(BadInput, match=message):
        snapshot(text, tmp_path)


def test_two_projects_of_one_name_are_told_apart_by_key(judged):
    team, project, olga, *_ = judged
    team.project(olga)
    with pytest.raises(BadInput, match=r"2 projects are called 'Frogs': give a key"):
        collect(team.database, "Frogs")
    assert len(collect(team.database, project.id).rows) == 6


def test_only_chats_with_consent_are_exported(team):
    cara, dora = team.person("cara", "chat"), team.person("dora", "chat")
    chats, verdicts = Conversations(team.database), Verdicts(team.database)
    for person, consent in ((cara, True), (dora, False)):
        held = chats.start(person, "frog-1", f"What do {person.name}'s frogs eat?", consent=consent)
        (question,) = chats.messages(person, held.id)
        answers = []
        for text in ("Flies.", "Stones."):
            begun = chats.answer(person, held.id, question.id, "frog-1")
            chats.finish(begun.answer.id, text, "whole")
            answers.append(begun.answer.id)
        verdicts.give(person, held.id, answers[1], "worse", next(_keys), against=answers[0])
        verdicts.give(person, held.id, answers[0], "up", next(_keys), reason="true")
    found = collect(team.database, "chat")
    assert {type(row) for row in found.rows} == {Comparison, Thumb}
    comparison = next(row for row in found.rows if isinstance(row, Comparison))
    assert [answer.text for answer in comparison.answers] == ["Flies.", "Stones."]
    assert comparison.ranks == (1, 2)
    assert comparison.annotator.startswith("person-")
    assert comparison.consent
    assert found.lineage.people == 1
    assert len(collect(team.database, "chat", 1).rows) == 1
    assert "dora" not in str(found.rows)


def test_copies_for_trainers_are_written_and_noted(judged, tmp_path):
    team, *_ = judged
    config = Config(
        project="Frogs",
        database=address(team),
        out=tmp_path / "runs",
        to=tmp_path / "pairs.jsonl",
        form="pairs",
    )
    made = export_stage(config)
    assert made.info.results["copies"] == [
        {"path": str(tmp_path / "pairs.jsonl"), "rows": 18, "left_out": {}, "form": "pairs"}
    ]
    assert len(read(tmp_path / "pairs.jsonl", Comparison)) == 18
    with pytest.raises(BadInput, match="there is no database"):
        export_stage(config.model_copy(update={"database": str(tmp_path / "none.db")}))
    assert not (tmp_path / "none.db").exists()
