"""What may still be given to a person: the fast queries say what the definition says, item by item."""

import random

import pytest
import sqlalchemy as sa

from heedlm.feedback.queue import count_open, first_open
from heedlm.feedback.tables import assignments, items

PURPOSES = ("ordinary", "gold", "qualification")


def plainly(team, user, project, purpose):
    """All open items of a purpose in turn, by reading everything."""
    with team.database.read() as connection:
        every = connection.execute(sa.select(items).where(items.c.project == project.id)).all()
        had = {
            row.item
            for row in connection.execute(sa.select(assignments).where(assignments.c.user == user.id))
            if row.state != "expired"
        }
    found = [
        row
        for row in every
        if row.purpose == purpose
        and row.id not in had
        and (purpose != "ordinary" or row.taken < project.overlap)
        and not set(row.topics) & set(user.avoids)
    ]
    return [row.id for row in sorted(found, key=lambda row: (-row.priority, row.place))]


@pytest.mark.parametrize("seed", range(4))
def test_the_queue_is_what_its_definition_says(team, seed):
    draw = random.Random(seed)
    owner = team.person("owner", "owner")
    people = [team.person(f"person {n}") for n in range(3)]
    project = team.project(owner, count=30, overlap=draw.choice([1, 3]), people=people)
    other = team.project(owner, count=5, overlap=9, people=people)
    with team.database.write() as connection:
        for row in connection.execute(sa.select(items.c.id).where(items.c.project == project.id)).all():
            values = {
                "purpose": draw.choices(PURPOSES, [4, 1, 1])[0],
                "priority": draw.choice([0.0, 0.0, 2.5, -1.0]),
                "taken": draw.randrange(5),
                "topics": draw.choice([[], [], ["war"], ["war", "love"]]),
            }
            connection.execute(sa.update(items).where(items.c.id == row.id).values(values))
            for person in people:
                if draw.random() < 0.4:
                    values = {"id": f"{row.id[:20]}{people.index(person)}", "item": row.id, "project": project.id}
                    values |= {"user": person.id, "state": draw.choice(["leased", "done", "skipped", "expired"])}
                    connection.execute(sa.insert(assignments).values(order=[0], leased=0.0, expires=0.0, **values))
    for person in people:
        for avoids in ((), ("war",), ("love", "war")):
            user = type(person)(**{**vars(person), "avoids": avoids})
            expected = {purpose: plainly(team, user, project, purpose) for purpose in PURPOSES}
            with team.database.read() as connection:
                counted = count_open(connection, user, project)
                firsts = {purpose: first_open(connection, user, project, purpose) for purpose in PURPOSES}
                assert first_open(connection, user, other, "ordinary") == plainly(team, user, other, "ordinary")[0]
            assert {key: counted.get(key, 0) for key in PURPOSES} == {key: len(each) for key, each in expected.items()}
            assert firsts == {purpose: (found or [None])[0] for purpose, found in expected.items()}
    assert any(expected.values())
