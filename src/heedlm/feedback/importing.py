"""Rows of a file put into a project: its answers as items, and what people said of them as labels.

Who judged elsewhere becomes a person who cannot log in, so that agreement, overlap and exports count them in. Importing
the same file again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User, clean_name
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.kinds import CATEGORIES
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.tables import assignments, items, labels, users
from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Answers, Comparison, Demonstration, Prompt, Rating, Row, Steps, Thumb

KIND_OF: dict[type[Row], str] = {
    Answers: "rank",
    Comparison: "rank",
    Demonstration: "write",
    Prompt: "write",
    Rating: "rate",
    Steps: "steps",
    Thumb: "thumb",
}
NOBODY = "somebody"  # who judged where a row does not say it


@dataclass
class Taken:
    """What an import has added, and why the rest was not taken."""

    items: int = 0
    known_items: int = 0
    labels: int = 0
    known_labels: int = 0
    people: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """An item, and what one person said of it; nothing if `reply` is None."""

    content: Content
    reply: Mapping[str, Any] | None = None
    annotator: str | None = None
    group: str | None = None
    order: tuple[int, ...] | None = None


def kind_for(rows: Sequence[Row]) -> str:
    """The kind of question that most rows answer.

    Raises:
        BadInput: They answer none.
    """
    found = [KIND_OF[type(row)] for row in rows if type(row) in KIND_OF]
    if not found:
        raise BadInput("the file holds no prompts, answers or judgements")
    return max(sorted(set(found)), key=found.count)


def take(database: Database, by: User, project: Project, rows: Iterable[Row]) -> Taken:
    """Put rows into a project.

    Args:
        database: The project's.
        by: Who imports.
        project: Where to.
        rows: What to take; those that fit no item of the project's kind are left out and counted.

    Raises:
        Refused: `by` does not manage the project.
    """
    taken = Taken()
    fitting = []
    for row in rows:
        found = judged(project.kind.name, row)
        try:
            if found is None:
                raise BadInput(f"{type(row).__name__} rows, which a {project.kind.name} question has no use for")
            if not project.kind.fewest <= len(found.content.answers) <= project.kind.most:
                raise BadInput(f"rows with {len(found.content.answers)} answers")
            order = found.order or tuple(range(len(found.content.answers)))
            checked = None
            if found.reply is not None:
                checked = project.kind.check(found.content, found.reply, range(len(order)))
            fitting.append((found, checked, order))
        except BadInput as error:
            taken.left_out[str(error)] = taken.left_out.get(str(error), 0) + 1
    contents = [found.content for found, _, _ in fitting]
    taken.items, taken.known_items = Projects(database).add_items(by, project.id, contents)
    with database.write() as connection:
        known = _items(connection, project)
        people: dict[str, str] = {}
        for found, reply, order in fitting:
            if reply is not None:
                person = _person(connection, database, people, found, taken)
                _label(connection, database, project, known[found.content.digest], person, found, reply, order, taken)
    return taken


def judged(kind: str, row: Row) -> Judged | None:
    """A row as a project of a kind sees it; None where it has no use for it."""
    if isinstance(row, Prompt) and kind == "write":
        return Judged(Content(prompt=row.messages, meta=row.meta))
    if isinstance(row, Demonstration) and kind == "write":
        author = (row.meta.task or {}).get("author")
        return Judged(
            Content(prompt=row.messages[:-1], meta=row.meta.model_copy(update={"task": None})),
            {"text": row.messages[-1].content, "category": _category(row.meta.domain)},
            None if author is None else str(author),
        )
    if isinstance(row, Answers) and kind in ("rank", "pair", "rate", "thumb"):
        return Judged(Content(prompt=row.prompt, answers=row.answers, meta=row.meta))
    if isinstance(row, Comparison) and kind in ("rank", "pair"):
        content = Content(prompt=row.prompt, answers=row.answers, meta=row.meta)
        return Judged(content, _ranked(kind, row), row.annotator, row.group, row.order_shown)
    if isinstance(row, Rating) and kind == "rate":
        content = Content(prompt=row.prompt, answers=(row.answer,), meta=row.meta)
        return Judged(content, {"scores": [row.score], "flags": [list(row.flags)]}, row.annotator, row.group)
    if isinstance(row, Thumb) and kind == "thumb":
        content = Content(prompt=row.prompt, answers=(row.answer,), meta=row.meta)
        return Judged(content, {"up": row.up, "reason": row.reason or ""}, row.annotator, row.group)
    if isinstance(row, Steps) and kind == "steps":
        wrong = row.labels.index(-1) if -1 in row.labels else None
        answers = (Answer(text="".join(row.steps)),)
        content = Content(prompt=row.prompt, answers=answers, steps=row.steps, meta=row.meta)
        return Judged(content, {"wrong": wrong}, row.annotator, row.group)
    return None


def _ranked(kind: str, row: Comparison) -> dict[str, Any]:
    if kind == "rank":
        # Places are counted to the number of answers; ranks of others may have gaps.
        dense = {rank: place for place, rank in enumerate(sorted(set(row.ranks)), 1)}
        return {"ranks": [dense[rank] for rank in row.ranks]}
    first, second = row.ranks[:2]
    better: int | str = "same" if first == second else int(second < first)
    return {"better": better, **({} if better == "same" else {"strength": row.strength or "better"})}


def _category(domain: str | None) -> str:
    return domain if domain in CATEGORIES else "other"


def _items(connection: Connection, project: Project) -> dict[str, str]:
    query = sa.select(items.c.digest, items.c.id).where(items.c.project == project.id)
    return {row.digest: row.id for row in connection.execute(query)}


def _person(connection: Connection, database: Database, people: dict[str, str], found: Judged, taken: Taken) -> str:
    """The account that stands for somebody who judged elsewhere: it has no password, so nobody can log in with it."""
    name = clean_name(f"{(found.annotator or NOBODY)[:50]} (imported)")
    if name not in people:
        key = name.casefold()[:64]
        row = connection.execute(sa.select(users.c.id).where(users.c.name_key == key)).first()
        if row is None:
            now = database.now()
            values: dict[str, Any] = {"id": new_key(), "name": name, "name_key": key, "password": ""}
            values |= {"role": "annotator", "group": found.group, "avoids": [], "created": now, "disabled": now}
            connection.execute(sa.insert(users).values(values))
            people[name] = str(values["id"])
            taken.people += 1
        else:
            people[name] = row.id
    return people[name]


def _label(
    connection: Connection,
    database: Database,
    project: Project,
    item: str,
    person: str,
    found: Judged,
    reply: Mapping[str, Any],
    order: Sequence[int],
    taken: Taken,
) -> None:
    mine = sa.select(assignments.c.id).where(assignments.c.item == item, assignments.c.user == person)
    if connection.execute(mine).first() is not None:
        taken.known_labels += 1
        return
    now, key = database.now(), new_key()
    common = {"item": item, "project": project.id, "user": person, "order": list(order)}
    lease = {"id": key, **common, "state": "done", "leased": now, "expires": now}
    connection.execute(sa.insert(assignments).values(lease))
    once = hashlib.sha256(f"{item} {person}".encode()).hexdigest()
    label = {"assignment": key, **common, "version": 1, "key": once, "reply": dict(reply), "seconds": 0.0}
    connection.execute(sa.insert(labels).values(**label, guideline=0, group=found.group, created=now))
    counted = {"taken": items.c.taken + 1, "done": items.c.done + 1}
    connection.execute(sa.update(items).where(items.c.id == item).values(counted))
    taken.labels += 1
