"""Many annotators at one feedback database: does everybody get their own task, and how long does it take?

    python -m benchmarks.annotators [people=50] [items=1000] [overlap=3]

Everybody takes tasks and replies as fast as the store lets them, which no person can, each in a thread of their own.
Checked: every item has exactly `overlap` replies of different people, and none was leased twice at once. Printed as
JSON: seconds in all, replies a second, and the times of taking a task and of saving a reply (milliseconds).
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heedlm.feedback.accounts import User
from heedlm.feedback.assignment import Assigner
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.projects import Project
from heedlm.feedback.tables import items, labels, users
from heedlm.feedback.tasks import Content
from heedlm.records.types import Answer, Message


def main(people: int = 50, count: int = 1000, overlap: int = 3) -> dict[str, Any]:
    """Run it and return the figures; raises AssertionError where an item has not exactly its replies."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(str(Path(folder) / "feedback.db"))
        assigner = Assigner(database)
        crowd = [_person(database, f"person {number}") for number in range(people)]
        project = _project(assigner, _person(database, "owner", "owner"), crowd, count, overlap)
        taking: list[float] = []
        saving: list[float] = []
        threads = [threading.Thread(target=_work, args=(assigner, each, project, taking, saving)) for each in crowd]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begun
        _check(database, count, overlap)
        database.close()
    return {
        "people": people, "items": count, "overlap": overlap, "exact": True, "seconds": round(seconds, 1),
        "replies_a_second": round(count * overlap / seconds, 1), "take_ms": _times(taking), "save_ms": _times(saving),
    }  # fmt: skip


def _person(database: Database, name: str, role: str = "annotator") -> User:
    """A person without a password: hashing fifty would take longer than all the rest."""
    row = {"id": new_key(), "name": name, "name_key": name, "password": "", "role": role, "avoids": [], "created": 0.0}
    with database.write() as connection:
        connection.execute(sa.insert(users).values(row))
    return User(row["id"], name, role)  # type: ignore[arg-type]


def _project(assigner: Assigner, owner: User, crowd: list[User], count: int, overlap: int) -> Project:
    projects = assigner.projects
    project = projects.create(owner, "Benchmark", "rank", overlap=overlap)
    answers = tuple(Answer(text=f"Answer {number}, as long as answers are. " * 8) for number in range(4))
    asked = [Content(prompt=(Message(role="user", content=f"Question {n}?"),), answers=answers) for n in range(count)]
    projects.add_items(owner, project.id, asked)
    for person in crowd:
        projects.join(owner, project.id, person.id)
    return project


def _work(assigner: Assigner, person: User, project: Project, taking: list[float], saving: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        task = assigner.next(person, project.id)
        taken = time.perf_counter()
        taking.append(taken - begun)
        if task is None:
            return
        assigner.submit(person, task.id, {"ranks": [1, 2, 3, 4]}, key=f"{task.id}-key", base=0, seconds=1.0)
        saving.append(time.perf_counter() - taken)


def _check(database: Database, count: int, overlap: int) -> None:
    query = sa.select(labels.c.item, sa.func.count(), sa.func.count(sa.distinct(labels.c.user))).group_by(labels.c.item)
    with database.read() as connection:
        found = connection.execute(query).all()
        full = connection.execute(sa.select(items.c.taken, items.c.done)).all()
    assert [tuple(row[1:]) for row in found] == [(overlap, overlap)] * count
    assert {tuple(row) for row in full} == {(overlap, overlap)}


def _times(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{at}": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * at // 100)], 1) for at in (50, 95, 99)}


if __name__ == "__main__":
    given = [int(word.partition("=")[2]) for word in sys.argv[1:]]
    print(json.dumps(main(*given)))
