"""Tasks: leases, overlap, corrections, drafts, skips, gold, qualification."""

import threading

import pytest
import sqlalchemy as sa

from heedlm.errors import BadInput
from heedlm.feedback.errors import Conflict, Refused
from heedlm.feedback.tables import assignments, items, labels


def key(number):
    return f"client-key-{number:04d}"


def reply_to(task):
    """The answers in the order of their own indices, given as the page would: by places shown."""
    return {"ranks": [answer + 1 for answer in task.order]}


def consistent(team):
    """`taken` and `done` are what the assignments say."""
    with team.database.read() as connection:
        for item in connection.execute(sa.select(items)).all():
            states = [r.state for r in connection.execute(sa.select(assignments).where(assignments.c.item == item.id))]
            assert item.taken == states.count("leased") + states.count("done")
            assert item.done == states.count("done")


def test_a_reply_is_kept_by_the_answers_own_order(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, people=[ann])
    task = team.assigner.next(ann, project.id)
    assert sorted(task.order) == [0, 1, 2]
    label = team.assigner.submit(ann, task.id, reply_to(task), key=key(1), base=0, seconds=3)
    assert label.version == 1
    assert team.assigner.task(ann, task.id).reply == {"ranks": [1, 2, 3]}
    consistent(team)


def test_one_at_a_time_and_the_same_again(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, people=[ann])
    assert team.assigner.next(ann, project.id) == team.assigner.next(ann, project.id)


def test_overlap_is_exact_and_a_lease_that_ran_out_is_given_again(team):
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(3)]
    project = team.project(owner, count=1, overlap=2, people=people)
    first, second = (team.assigner.next(person, project.id) for person in people[:2])
    assert first.item == second.item
    assert team.assigner.next(people[2], project.id) is None
    team.clock.time += 31 * 60
    third = team.assigner.next(people[2], project.id)
    assert third is not None
    consistent(team)
    # Of the two whose time ran out, one finds the place still free, the other does not; nothing is lost.
    team.assigner.submit(people[0], first.id, reply_to(first), key=key(1), base=0, seconds=3)
    team.assigner.draft(people[1], second.id, {"ranks": [1, 1, 1]})
    with pytest.raises(Conflict, match="went to somebody else"):
        team.assigner.submit(people[1], second.id, reply_to(second), key=key(2), base=0, seconds=3)
    assert team.assigner.task(people[1], second.id).draft == {"ranks": [1, 1, 1]}
    team.assigner.submit(people[2], third.id, reply_to(third), key=key(3), base=0, seconds=3)
    consistent(team)
    with team.database.read() as connection:
        assert connection.execute(sa.select(items.c.done)).scalar() == 2


def test_fifty_people_at_once_get_exactly_three_an_item(team):
    owner, people = team.person("owner", "owner"), [team.person(f"person {n}") for n in range(10)]
    project = team.project(owner, count=20, overlap=3, people=people)
    failures = []

    def work(person):
        try:
            while (task := team.assigner.next(person, project.id)) is not None:
                team.assigner.submit(person, task.id, reply_to(task), key=f"{task.id}-key", base=0, seconds=1)
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with team.database.read() as connection:
        found = connection.execute(
            sa.select(labels.c.item, sa.func.count(sa.distinct(labels.c.user))).group_by(labels.c.item)
        ).all()
    assert [count for _, count in found] == [3] * 20
    consistent(team)


def test_the_same_submit_twice_is_one_label(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, people=[ann])
    task = team.assigner.next(ann, project.id)
    first = team.assigner.submit(ann, task.id, reply_to(task), key=key(1), base=0, seconds=3)
    again = team.assigner.submit(ann, task.id, reply_to(task), key=key(1), base=0, seconds=3)
    assert (again.seq, again.version, again.repeated) == (first.seq, 1, True)


def test_a_correction_is_a_new_version_and_two_tabs_do_not_overwrite_each_other(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, people=[ann])
    task = team.assigner.next(ann, project.id)
    team.assigner.submit(ann, task.id, reply_to(task), key=key(1), base=0, seconds=3)
    team.assigner.submit(ann, task.id, {"ranks": [1, 1, 1]}, key=key(2), base=1, seconds=3)
    with pytest.raises(Conflict, match="another tab"):
        team.assigner.submit(ann, task.id, {"ranks": [1, 2, 3]}, key=key(3), base=1, seconds=3)
    with team.database.read() as connection:
        kept = connection.execute(sa.select(labels.c.version, labels.c.reply).order_by(labels.c.seq)).all()
    assert [row.version for row in kept] == [1, 2]
    assert kept[0].reply == {"ranks": [1, 2, 3]}
    consistent(team)


def test_a_task_skipped_goes_to_somebody_else_and_does_not_come_back(team):
    owner, ann, bo = team.person("owner", "owner"), team.person("ann"), team.person("bo")
    project = team.project(owner, count=1, people=[ann, bo])
    task = team.assigner.next(ann, project.id)
    team.assigner.skip(ann, task.id, "I do not know")
    assert team.assigner.next(ann, project.id) is None
    assert team.assigner.next(bo, project.id).item == task.item
    consistent(team)


def test_topics_that_a_person_avoids_are_not_shown(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.projects.create(owner, "Two", "rank")
    team.projects.add_items(owner, project.id, [team.content(0)], topics=["violence"])
    team.projects.add_items(owner, project.id, [team.content(1)])
    team.projects.join(owner, project.id, ann.id)
    team.accounts.change(ann.id, {"avoids": ["violence"]})
    task = team.assigner.next(team.accounts.find("ann"), project.id)
    assert task.content.prompt[0].content == "question 1"


def test_gold_comes_in_between_and_does_not_count_for_overlap(team):
    owner, ann, bo = team.person("owner", "owner"), team.person("ann"), team.person("bo")
    project = team.projects.create(owner, "Gold", "rank", settings={"gold_every": 3})
    team.projects.add_items(owner, project.id, [team.content(n) for n in range(5)])
    team.projects.add_items(owner, project.id, [team.content(99)], purpose="gold", expected=[{"ranks": [1, 2, 3]}])
    for person in (ann, bo):
        team.projects.join(owner, project.id, person.id)
    for person in (ann, bo):
        seen = []
        for number in range(3):
            task = team.assigner.next(person, project.id)
            seen.append(task.content.prompt[0].content)
            team.assigner.submit(person, task.id, reply_to(task), key=f"{task.id}{number}", base=0, seconds=1)
        assert seen.index("question 99") == 2


def test_who_fails_the_test_gets_no_tasks(team):
    owner, ann, bo = team.person("owner", "owner"), team.person("ann"), team.person("bo")
    project = team.projects.create(owner, "Test", "rank", settings={"qualify": 0.9})
    team.projects.add_items(owner, project.id, [team.content(n) for n in range(2)])
    exam = [team.content(50), team.content(51)]
    right = [{"ranks": [1, 2, 3]}] * 2
    team.projects.add_items(owner, project.id, exam, purpose="qualification", expected=right)
    for person in (ann, bo):
        team.projects.join(owner, project.id, person.id)
        for _ in range(2):
            task = team.assigner.next(person, project.id)
            reply = reply_to(task) if person is ann else {"ranks": [1, 1, 1]}
            team.assigner.submit(person, task.id, reply, key=f"{task.id}-key", base=0, seconds=1)
    assert team.assigner.next(ann, project.id).content.prompt[0].content == "question 0"
    assert team.assigner.next(bo, project.id) is None
    assert {p["name"]: p["qualified"] for p in team.projects.people(project.id)} == {
        "owner": None,
        "ann": True,
        "bo": False,
    }


def test_what_belongs_to_another_is_not_there(team):
    owner, ann, bo = team.person("owner", "owner"), team.person("ann"), team.person("bo")
    project = team.project(owner, people=[ann])
    task = team.assigner.next(ann, project.id)
    with pytest.raises(Refused):
        team.assigner.next(bo, project.id)
    for act in (
        lambda: team.assigner.task(bo, task.id),
        lambda: team.assigner.submit(bo, task.id, {}, key=key(1), base=0, seconds=1),
        lambda: team.assigner.draft(bo, task.id, {}),
        lambda: team.assigner.skip(bo, task.id, ""),
        lambda: team.projects.managed(ann, project.id),
    ):
        with pytest.raises(Refused):
            act()


def test_a_reply_that_cannot_be_read_is_refused_and_nothing_changes(team):
    owner, ann = team.person("owner", "owner"), team.person("ann")
    project = team.project(owner, people=[ann])
    task = team.assigner.next(ann, project.id)
    for wrong in ({}, {"ranks": [1, 2]}, {"ranks": [0, 1, 2]}, {"ranks": "abc"}, {"ranks": [True, 1, 2]}):
        with pytest.raises(BadInput, match="ranks"):
            team.assigner.submit(ann, task.id, wrong, key=key(1), base=0, seconds=1)
    assert team.assigner.task(ann, task.id).state == "leased"
    consistent(team)
