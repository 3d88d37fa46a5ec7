"""An annotator's desk: how far one is in a project, what is left, and what one has said there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database
from heedlm.feedback.projects import Project
from heedlm.feedback.queue import count_open
from heedlm.feedback.tables import assignments, items, labels, members
from heedlm.feedback.tasks import Content

State = Literal["open", "testing", "unqualified", "waiting", "finished", "empty", "closed"]


@dataclass(frozen=True)
class Standing:
    """Where one person is in one project.

    Attributes:
        state: open or testing (there is something to do, in testing a qualification item); unqualified; waiting (others
            hold all there is); finished; empty (the project has no items); closed.
        done: Tasks answered.
        skipped: Tasks given back.
        left: Tasks that one would be given if nobody else took any, gold among them; falls by one with each reply.
    """

    state: State
    done: int
    skipped: int
    left: int


@dataclass(frozen=True)
class Said:
    """One's own reply to a task: `reply` and `content` by the answers' own indices, `order` as it was shown."""

    task: str
    content: Content
    order: list[int]
    version: int
    reply: dict[str, Any]
    seconds: float
    guideline: int
    created: float


class Desk:
    """What annotators see of themselves."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def standing(self, user: User, project: Project) -> Standing:
        """How far a person is, and what is next."""
        mine = sa.and_(assignments.c.project == project.id, assignments.c.user == user.id)
        here = sa.and_(members.c.project == project.id, members.c.user == user.id)
        with self.database.read() as connection:
            states = sa.select(assignments.c.state, sa.func.count()).where(mine).group_by(assignments.c.state)
            count = {row[0]: row[1] for row in connection.execute(states)}
            done, skipped = count.get("done", 0), count.get("skipped", 0)
            # A lease that ran out is not one's own any more, though nobody may have asked for its place yet.
            alive = sa.and_(mine, assignments.c.state == "leased", assignments.c.expires > self.database.now())
            held = int(connection.execute(sa.select(sa.func.count()).where(alive)).scalar() or 0)
            member = connection.execute(sa.select(members.c.qualified).where(here)).first()
            open_ = count_open(connection, user, project)
            tested = project.settings.qualify is not None and member is not None
            if tested and member is not None and member.qualified is not True:
                tests = held + open_.get("qualification", 0)
                if member.qualified is False or not tests:
                    return Standing("unqualified" if member.qualified is False else "waiting", done, skipped, 0)
                return Standing("closed" if project.closed and not held else "testing", done, skipped, tests)
            every = project.settings.gold_every
            left = held + _to_come(done + held, open_.get("ordinary", 0), open_.get("gold", 0), every)
            anything = connection.execute(sa.select(items.c.id).where(items.c.project == project.id).limit(1)).first()
        if project.closed is not None and not held:
            return Standing("closed", done, skipped, 0)
        none: State = "empty" if anything is None else "finished" if done else "waiting"
        return Standing("open" if left else none, done, skipped, left)

    def done(self, user: User, project: str, limit: int = 50) -> list[Said]:
        """The newest version of each of one's own replies in a project, the last given first."""
        return self._said(
            sa.and_(labels.c.user == user.id, labels.c.project == project, _newest(), labels.c.assignment.is_not(None)),
            limit,
        )

    def history(self, user: User, task: str) -> list[Said]:
        """All versions of one's own reply to a task, newest first."""
        return self._said(sa.and_(labels.c.user == user.id, labels.c.assignment == task), 1000)

    def _said(self, which: sa.ColumnElement[bool], limit: int) -> list[Said]:
        query = (
            sa.select(labels, items.c.content)
            .join(items, items.c.id == labels.c.item)
            .where(which)
            .order_by(labels.c.seq.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            return [
                Said(
                    task=row.assignment,
                    content=Content.model_validate(row.content),
                    order=list(row.order),
                    version=row.version,
                    reply=dict(row.reply),
                    seconds=row.seconds,
                    guideline=row.guideline,
                    created=row.created,
                )
                for row in connection.execute(query)
            ]


def _newest() -> sa.ColumnElement[bool]:
    later = labels.alias()
    return ~(
        sa.select(later.c.seq).where(later.c.assignment == labels.c.assignment, later.c.version > labels.c.version)
    ).exists()


def _to_come(done: int, ordinary: int, gold: int, every: int | None) -> int:
    """How many tasks a person still gets: each `every`-th a gold item as long as there are any, as tasks are dealt."""
    count = 0
    while True:
        if every is not None and gold and (done + count) % every == every - 1:
            gold -= 1
        elif ordinary:
            ordinary -= 1
        else:
            return count
        count += 1
