"""Which items a person may still get: the first of them, and how many.

An item can be given to somebody who has not had it; an ordinary one only while it has a free place. Gold and
qualification items have places for everybody. Nothing here reads the content of an item, which may be long: both
questions are asked while others wait, and the index over (project, purpose, taken, priority, place) answers them.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.accounts import User
from heedlm.feedback.projects import Project
from heedlm.feedback.tables import assignments, items

_TOPICS_LOOKED_AT = 1000  # items passed over, at most, for somebody who avoids topics


def first_open(connection: Connection, user: User, project: Project, purpose: str) -> str | None:
    """Key of the item of a purpose that comes next: by priority, then by place."""
    some = 1 if not user.avoids else _TOPICS_LOOKED_AT
    wanted = sa.select(items.c.id, items.c.topics, items.c.priority, items.c.place).where(
        items.c.project == project.id, items.c.purpose == purpose, ~_had(user)
    )
    in_turn = (items.c.priority.desc(), items.c.place)
    if purpose == "ordinary":
        # Items with equally many places taken lie in the index in the order wanted: nothing has to be sorted.
        each = [
            sa.select(wanted.where(items.c.taken == taken).order_by(*in_turn).limit(some).subquery())
            for taken in range(project.overlap)
        ]
        merged = sa.union_all(*each).subquery()
        query = sa.select(merged.c.id, merged.c.topics).order_by(merged.c.priority.desc(), merged.c.place)
    else:
        query = wanted.order_by(*in_turn)
    for row in connection.execute(query.limit(some)):
        if not set(row.topics) & set(user.avoids):
            return str(row.id)
    return None


def count_open(connection: Connection, user: User, project: Project) -> dict[str, int]:
    """How many items of each purpose a person could still be given."""
    free = sa.or_(items.c.purpose != "ordinary", items.c.taken < project.overlap)
    found: dict[str, int] = {}
    if user.avoids:
        open_ = sa.select(items.c.purpose, items.c.topics).where(items.c.project == project.id, free, ~_had(user))
        for row in connection.execute(open_):
            found[row.purpose] = found.get(row.purpose, 0) + (not set(row.topics) & set(user.avoids))
        return found
    number = sa.func.count()
    all_ = sa.select(items.c.purpose, number).where(items.c.project == project.id, free).group_by(items.c.purpose)
    for purpose, count in connection.execute(all_):
        found[purpose] = int(count)
    # One has had far fewer than there are: those are looked up one by one, and taken off. They are named by who has
    # them alone; with the project of the item named too, SQLite would walk through all of that instead.
    mine = sa.and_(assignments.c.user == user.id, assignments.c.project == project.id, assignments.c.state != "expired")
    had = sa.select(items.c.purpose, number).join(assignments, assignments.c.item == items.c.id).where(mine, free)
    for purpose, count in connection.execute(had.group_by(items.c.purpose)):
        found[purpose] -= int(count)
    return found


def _had(user: User) -> sa.ColumnElement[bool]:
    return (
        sa.select(assignments.c.item)
        .where(assignments.c.item == items.c.id, assignments.c.user == user.id, assignments.c.state != "expired")
        .exists()
    )
