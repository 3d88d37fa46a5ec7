"""What a manager sees of a project besides its items: pace, people, versions of the guidelines."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import sqlalchemy as sa

from heedlm.errors import BadInput
from heedlm.feedback.accounts import Accounts, User
from heedlm.feedback.errors import Refused
from heedlm.feedback.measures import newest_labels
from heedlm.feedback.projects import Projects
from heedlm.feedback.tables import assignments, guidelines, labels, members, users

SMALLEST = 5  # people of whom a total of private facts may be told
DAYS = 14


@dataclass(frozen=True)
class Version:
    """One version of the guidelines; `labels`: how many were given under it."""

    version: int
    text: str
    by: str
    created: float
    labels: int


@dataclass(frozen=True)
class Change:
    """One line of a comparison of two texts: kept, added or removed."""

    sort: str
    text: str


def days(projects: Projects, project: str) -> list[tuple[str, int]]:
    """How many replies were given on each of the last `DAYS` days (UTC), oldest first; corrections do not count."""
    now = datetime.fromtimestamp(projects.database.now(), UTC)
    first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS - 1)
    query = sa.select(labels.c.created).where(
        labels.c.project == project,
        labels.c.assignment.is_not(None),
        labels.c.version == 1,
        labels.c.created >= first.timestamp(),
    )
    with projects.database.read() as connection:
        said = Counter(datetime.fromtimestamp(row.created, UTC).date() for row in connection.execute(query))
    every = [(first + timedelta(days=number)).date() for number in range(DAYS)]
    return [(day.isoformat(), said[day]) for day in every]


def pace(projects: Projects, project: str) -> float | None:
    """Median time an item, in seconds; None if nobody replied yet."""
    with projects.database.read() as connection:
        times = [row.seconds for row in newest_labels(connection, project)]
    return median(times) if times else None


def counts(projects: Projects, project: str) -> dict[str, dict[str, int]]:
    """What each person has of each state: done, leased, skipped, expired; and `labels`, corrections included."""
    states = sa.select(assignments.c.user, assignments.c.state, sa.func.count().label("n"))
    given = sa.select(labels.c.user, sa.func.count().label("n")).where(labels.c.assignment.is_not(None))
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"done": 0, "leased": 0, "skipped": 0, "labels": 0})
    with projects.database.read() as connection:
        here = states.where(assignments.c.project == project).group_by(assignments.c.user, assignments.c.state)
        for row in connection.execute(here):
            found[row.user][row.state] = row.n
        for row in connection.execute(given.where(labels.c.project == project).group_by(labels.c.user)):
            found[row.user]["labels"] = row.n
    return dict(found)


def names(projects: Projects, keys: set[str]) -> dict[str, str]:
    """What people are called, by key."""
    with projects.database.read() as connection:
        rows = connection.execute(sa.select(users.c.id, users.c.name).where(users.c.id.in_(keys)))
        return {row.id: row.name for row in rows}


def demographics(projects: Projects, project: str) -> dict[str, dict[str, int]]:
    """How many annotators said what of themselves, by field; of fewer than `SMALLEST` alike nothing is told.

    Where one answer only is held back, the smallest of the others is too: the difference to the whole would tell it.
    """
    query = sa.select(users.c.demographics).join(members, members.c.user == users.c.id)
    with projects.database.read() as connection:
        rows = connection.execute(query.where(members.c.project == project, members.c.role == "annotator")).all()
    fields: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for field, value in (row.demographics or {}).items():
            fields[field][str(value).strip()] += 1
    found = {}
    for field, said in sorted(fields.items()):
        said[""] += len(rows) - said.total()  # not told
        told = {value: n for value, n in said.most_common() if n >= SMALLEST}
        held = sum(1 for value, n in said.items() if 0 < n < SMALLEST)
        if held == 1 and told:
            del told[min(told, key=lambda value: told[value])]
        if told:
            found[field] = told
    return found


def add_by_name(projects: Projects, by: User, project: str, name: str, role: str) -> str:
    """Make a person a member by their name; returns their key.

    Raises:
        Refused: There is nobody of that name, or the project is not theirs to manage.
        BadInput: The person cannot have that role here.
    """
    projects.managed(by, project)
    person = Accounts(projects.database).find(name)
    if person is None:
        raise Refused("there is nobody of that name")
    projects.join(by, project, person.id, role)
    return person.id


def set_qualified(projects: Projects, by: User, project: str, user: str, qualified: bool | None) -> None:
    """Let a member work whatever their test says (true), not (false), or as the test will say (none).

    Raises:
        Refused: There is no such member, or the project is not theirs to manage.
    """
    projects.managed(by, project)
    here = sa.and_(members.c.project == project, members.c.user == user)
    with projects.database.write() as connection:
        if not connection.execute(sa.update(members).where(here).values(qualified=qualified)).rowcount:
            raise Refused("there is no such member")


def check_member(projects: Projects, by: User, project: str, user: str) -> Mapping[str, Any]:
    """A member of a project that one manages.

    Raises:
        Refused: There is no such member, or the project is not theirs to manage.
    """
    projects.managed(by, project)
    for person in projects.people(project):
        if person["id"] == user:
            return person
    raise Refused("there is no such member")


# ---------------------------------------------------------------- guidelines


def versions(projects: Projects, by: User, project: str) -> list[Version]:
    """All versions of the guidelines, newest first.

    Raises:
        Refused: The project is not theirs to manage.
    """
    projects.managed(by, project)
    query = sa.select(guidelines, users.c.name).join(users, users.c.id == guidelines.c.by)
    used = sa.select(labels.c.guideline, sa.func.count().label("n")).where(labels.c.project == project)
    with projects.database.read() as connection:
        given = {row.guideline: row.n for row in connection.execute(used.group_by(labels.c.guideline))}
        rows = connection.execute(query.where(guidelines.c.project == project).order_by(guidelines.c.version.desc()))
        return [Version(row.version, row.text, row.name, row.created, given.get(row.version, 0)) for row in rows]


def changes(known: list[Version], version: int) -> list[Change]:
    """What a version changed in the one before it, line by line.

    Raises:
        BadInput: There is no such version.
    """
    texts = {each.version: each.text for each in known}
    if version not in texts:
        raise BadInput(f"version={version}: there is no such version of the guidelines")
    before, after = texts.get(version - 1, "").splitlines(), texts[version].splitlines()
    sorts = {"  ": "kept", "+ ": "added", "- ": "removed"}
    return [Change(sorts[line[:2]], line[2:]) for line in difflib.ndiff(before, after) if line[:2] in sorts]
