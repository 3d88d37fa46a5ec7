"""Who gets which task: leases that expire, exactly as many annotators an item as asked for, labels only ever added.

An item is taken by at most `overlap` people at a time: those who replied, and those whose lease still runs. Every
change is one write, and writes take turns, so two people never get the last free place (docs/feedback.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import Conflict, Refused
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.queue import first_open
from heedlm.feedback.tables import assignments, guidelines, items, labels, members
from heedlm.feedback.tasks import Content, shuffled

LONGEST_DRAFT = 100_000  # characters of JSON
MOST_SECONDS = 86_400.0


@dataclass(frozen=True)
class Task:
    """An item as one person has it.

    Attributes:
        id: Key of the assignment.
        item: Key of the item.
        content: What it shows; its answers in an order that the person does not see.
        order: `order[k]` is the index of the answer shown in place k.
        state: leased, done, skipped or expired.
        expires: Until when the lease runs, seconds since 1970.
        version: Of the newest label; 0 if there is none yet.
        reply: The newest label, by the answers' own indices.
        draft: What was typed and not yet handed in, as the page sent it.
        topics: What to warn of.
    """

    id: str
    item: str
    project: str
    content: Content
    order: list[int]
    state: Literal["leased", "done", "skipped", "expired"]
    expires: float
    version: int
    reply: Mapping[str, Any] | None
    draft: Any
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """An acknowledged label: safe on disk."""

    seq: int
    version: int
    repeated: bool = False  # the same submit had come before


class Assigner:
    """Hands out the tasks of projects and takes the replies."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.projects = Projects(database)

    # ------------------------------------------------------------ taking

    def next(self, user: User, project: str) -> Task | None:
        """The task a person is at, or a new one; None if there is nothing (more) for them.

        Raises:
            Refused: They are no member of the project.
        """
        known = self.projects.seen(user, project)
        with self.database.write() as connection:
            now = self.database.now()
            self._expire(connection, project, now)
            mine = sa.and_(assignments.c.user == user.id, assignments.c.project == project)
            held = connection.execute(
                sa.select(assignments.c.id).where(mine, assignments.c.state == "leased").order_by(assignments.c.leased)
            ).first()
            if held is not None:
                key = str(held.id)
            else:
                item = self._choose(connection, known, user) if known.closed is None else None
                if item is None:
                    return None
                key = self._lease(connection, known, item, user, now)
        with self.database.read() as connection:  # what it shows may be long, and others wait for their turn to write
            return self._task(connection, key)

    def _expire(self, connection: Connection, project: str, now: float) -> None:
        """Give back the places of leases that ran out."""
        late = sa.select(assignments.c.id, assignments.c.item).where(
            assignments.c.project == project, assignments.c.state == "leased", assignments.c.expires <= now
        )
        for row in connection.execute(late).all():
            self._release(connection, row.id, row.item, "expired")

    def _release(
        self, connection: Connection, assignment: str, item: str, state: str, reason: str | None = None
    ) -> None:
        changed = sa.update(assignments).where(assignments.c.id == assignment)
        connection.execute(changed.values(state=state, reason=reason))
        connection.execute(sa.update(items).where(items.c.id == item).values(taken=items.c.taken - 1))

    def _choose(self, connection: Connection, project: Project, user: User) -> Row[Any] | None:
        """The next item: qualification first, gold in between, else by priority and place."""
        if self._unqualified(connection, project, user):
            return self._first(connection, project, user, "qualification")
        every = project.settings.gold_every
        if every is not None:
            mine = sa.and_(
                assignments.c.user == user.id, assignments.c.project == project.id, assignments.c.state == "done"
            )
            done = connection.execute(sa.select(sa.func.count()).select_from(assignments).where(mine)).scalar() or 0
            if done % every == every - 1:
                gold = self._first(connection, project, user, "gold")
                if gold is not None:
                    return gold
        return self._first(connection, project, user, "ordinary")

    def _unqualified(self, connection: Connection, project: Project, user: User) -> bool:
        if project.settings.qualify is None:
            return False
        here = sa.and_(members.c.project == project.id, members.c.user == user.id)
        row = connection.execute(sa.select(members.c.qualified).where(here)).first()
        return row is not None and row.qualified is not True

    def _first(self, connection: Connection, project: Project, user: User, purpose: str) -> Row[Any] | None:
        """The first item of a purpose that has a free place and that this person has not had."""
        key = first_open(connection, user, project, purpose)
        return None if key is None else connection.execute(sa.select(items).where(items.c.id == key)).one()

    def _lease(self, connection: Connection, project: Project, item: Row[Any], user: User, now: float) -> str:
        until = now + 60 * project.settings.lease_minutes
        connection.execute(sa.update(items).where(items.c.id == item.id).values(taken=items.c.taken + 1))
        mine = sa.and_(assignments.c.item == item.id, assignments.c.user == user.id)
        before = connection.execute(sa.select(assignments.c.id).where(mine)).first()
        if before is not None:  # it had run out: the draft is still there
            changed = sa.update(assignments).where(assignments.c.id == before.id)
            connection.execute(changed.values(state="leased", leased=now, expires=until))
            return str(before.id)
        key = new_key()
        row = {
            "id": key,
            "item": item.id,
            "project": project.id,
            "user": user.id,
            "state": "leased",
            "order": shuffled(len(item.content["answers"]), item.id, user.id),
            "leased": now,
            "expires": until,
        }
        connection.execute(sa.insert(assignments).values(row))
        return key

    # ------------------------------------------------------------ looking

    def task(self, user: User, assignment: str) -> Task:
        """A task of this person's own, in whatever state.

        Raises:
            Refused: It is not there, or somebody else's.
        """
        with self.database.read() as connection:
            self._own(connection, user, assignment)
            return self._task(connection, assignment)

    def done(self, user: User, project: str, limit: int = 50) -> list[Task]:
        """What a person has handed in, newest first."""
        mine = sa.and_(assignments.c.user == user.id, assignments.c.project == project, assignments.c.state == "done")
        newest = sa.select(sa.func.max(labels.c.seq)).where(labels.c.assignment == assignments.c.id).scalar_subquery()
        with self.database.read() as connection:
            rows = connection.execute(sa.select(assignments.c.id).where(mine).order_by(newest.desc()).limit(limit))
            return [self._task(connection, row.id) for row in rows.all()]

    def _own(self, connection: Connection, user: User, assignment: str) -> Row[Any]:
        row = connection.execute(sa.select(assignments).where(assignments.c.id == assignment)).first()
        if row is None or row.user != user.id:
            raise Refused("there is no such task")
        return row

    def _task(self, connection: Connection, assignment: str) -> Task:
        query = sa.select(assignments, items.c.content, items.c.topics).join(items, items.c.id == assignments.c.item)
        row = connection.execute(query.where(assignments.c.id == assignment)).one()
        last = connection.execute(
            sa.select(labels).where(labels.c.assignment == assignment).order_by(labels.c.version.desc()).limit(1)
        ).first()
        return Task(
            id=row.id,
            item=row.item,
            project=row.project,
            content=Content.model_validate(row.content),
            order=list(row.order),
            state=row.state,
            expires=row.expires,
            version=last.version if last is not None else 0,
            reply=last.reply if last is not None else None,
            draft=row.draft,
            topics=tuple(row.topics),
        )

    # ------------------------------------------------------------ replying

    def draft(self, user: User, assignment: str, draft: Any) -> float:
        """Keep what was typed so far, and the lease alive; returns until when the lease runs.

        Raises:
            Refused: It is not this person's task, or not theirs any more.
            BadInput: The draft is too long.
        """
        if len(str(draft)) > LONGEST_DRAFT:
            raise BadInput(f"draft: is longer than {LONGEST_DRAFT} characters")
        with self.database.write() as connection:
            row, now = self._own(connection, user, assignment), self.database.now()
            values: dict[str, Any] = {"draft": draft}
            if row.state == "leased" and row.expires > now:
                project = self.projects.seen(user, row.project)
                values["expires"] = now + 60 * project.settings.lease_minutes
            connection.execute(sa.update(assignments).where(assignments.c.id == assignment).values(values))
            return float(values.get("expires", row.expires))

    def submit(
        self, user: User, assignment: str, reply: Mapping[str, Any], *, key: str, base: int, seconds: float
    ) -> Label:
        """Take a reply; what is returned is on disk. A second reply to the same task is a correction of the first.

        Args:
            user: Who replies.
            assignment: Their task.
            reply: As the page sends it, by places shown.
            key: The client's own; the same key again is the same label.
            base: The version this reply is meant to follow: 0 for the first.
            seconds: Time spent.

        Raises:
            Refused: It is not this person's task.
            Conflict: Another tab has replied since, or the lease ran out and somebody else has the place.
            BadInput: The reply cannot be used.
        """
        if not 8 <= len(key) <= 64:
            raise BadInput("key: must have 8 to 64 characters")
        with self.database.write() as connection:
            row, now = self._own(connection, user, assignment), self.database.now()
            project = self.projects.seen(user, row.project)
            repeated = self._repeated(connection, user, assignment, key)
            if repeated is not None:
                return repeated
            item = connection.execute(sa.select(items).where(items.c.id == row.item)).one()
            content = Content.model_validate(item.content)
            checked = project.kind.check(content, reply, row.order)
            version = self._version(connection, assignment)
            if base != version:
                raise Conflict(f"this task has been answered in another tab since (version {version})")
            if version == 0:
                self._complete(connection, row, item, project, now)
            values = {
                "assignment": assignment,
                "item": row.item,
                "project": row.project,
                "user": user.id,
                "version": version + 1,
                "key": key,
                "reply": checked,
                "order": row.order,
                "seconds": min(max(float(seconds), 0.0), MOST_SECONDS),
                "guideline": self._guideline(connection, row.project),
                "group": user.group,
                "created": now,
            }
            seq = connection.execute(sa.insert(labels).values(values)).inserted_primary_key
            connection.execute(sa.update(assignments).where(assignments.c.id == assignment).values(draft=None))
            self._qualify(connection, project, user)
            assert seq is not None
            return Label(int(seq[0]), version + 1)

    def _repeated(self, connection: Connection, user: User, assignment: str, key: str) -> Label | None:
        row = connection.execute(sa.select(labels).where(labels.c.user == user.id, labels.c.key == key)).first()
        if row is None:
            return None
        if row.assignment != assignment:
            raise BadInput("key: was used for another task")
        return Label(row.seq, row.version, repeated=True)

    def _version(self, connection: Connection, assignment: str) -> int:
        newest = sa.select(sa.func.max(labels.c.version)).where(labels.c.assignment == assignment)
        return int(connection.execute(newest).scalar() or 0)

    def _complete(self, connection: Connection, row: Row[Any], item: Row[Any], project: Project, now: float) -> None:
        """The first reply to a task. A lease that ran out holds good as long as nobody else took the place."""
        if row.state == "leased":
            values = {"done": items.c.done + 1}
        elif item.purpose != "ordinary" or item.taken < project.overlap:
            values = {"done": items.c.done + 1, "taken": items.c.taken + 1}
        else:
            raise Conflict("your time for this task ran out and it went to somebody else; your draft is kept")
        connection.execute(sa.update(items).where(items.c.id == row.item).values(values))
        connection.execute(sa.update(assignments).where(assignments.c.id == row.id).values(state="done"))

    def _guideline(self, connection: Connection, project: str) -> int:
        newest = sa.select(sa.func.max(guidelines.c.version)).where(guidelines.c.project == project)
        return int(connection.execute(newest).scalar() or 0)

    def _qualify(self, connection: Connection, project: Project, user: User) -> None:
        """Once the last qualification item is answered, say whether the person may go on."""
        if project.settings.qualify is None:
            return
        here = sa.and_(members.c.project == project.id, members.c.user == user.id)
        member = connection.execute(sa.select(members.c.qualified).where(here)).first()
        if member is None or member.qualified is not None:
            return
        tests = connection.execute(
            sa.select(items.c.id, items.c.expected).where(
                items.c.project == project.id, items.c.purpose == "qualification"
            )
        ).all()
        given: dict[str, Any] = {}
        mine = sa.select(labels).where(labels.c.user == user.id, labels.c.item.in_([test.id for test in tests]))
        for row in connection.execute(mine.order_by(labels.c.version)):
            given.setdefault(row.item, row.reply)  # the first word counts
        if tests and len(given) == len(tests):
            right = sum(project.kind.same(test.expected, given[test.id]) for test in tests) / len(tests)
            passed = right >= project.settings.qualify
            connection.execute(sa.update(members).where(here).values(qualified=passed))

    def skip(self, user: User, assignment: str, reason: str) -> None:
        """Give a task back for good; it goes to somebody else.

        Raises:
            Refused: It is not this person's task.
            Conflict: It has been answered.
        """
        with self.database.write() as connection:
            row = self._own(connection, user, assignment)
            if row.state == "done":
                raise Conflict("this task has been answered: correct the answer instead")
            if row.state == "leased":
                self._release(connection, assignment, row.item, "skipped", reason[:2000])
            else:
                changed = sa.update(assignments).where(assignments.c.id == assignment)
                connection.execute(changed.values(state="skipped", reason=reason[:2000]))

    def release_all(self, project: str, user: str) -> None:
        """Give back whatever a person who leaves the project still holds."""
        with self.database.write() as connection:
            mine = sa.and_(
                assignments.c.project == project, assignments.c.user == user, assignments.c.state == "leased"
            )
            for row in connection.execute(sa.select(assignments.c.id, assignments.c.item).where(mine)).all():
                self._release(connection, row.id, row.item, "expired")
