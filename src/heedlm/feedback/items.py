"""The items of a project as its managers see them: lists, one item with everything said of it, what it is for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.adjudication import agreement_on, decisions
from heedlm.feedback.errors import Refused
from heedlm.feedback.measures import newest_labels
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.tables import assignments, items, labels, scores, users
from heedlm.feedback.tasks import Content

State = Literal["untouched", "begun", "complete", "gold", "qualification"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Listed:
    """One item of a list; `taken` counts replies and leases that run."""

    id: str
    place: int
    content: Content
    purpose: str
    state: State
    done: int
    taken: int
    priority: float


@dataclass(frozen=True)
class Said:
    """One version of what somebody said of an item; `decision`: a manager settled it so. `counts`: no later one."""

    seq: int
    user: str
    name: str
    version: int
    reply: Mapping[str, Any]
    order: list[int]
    seconds: float
    guideline: int
    created: float
    decision: bool
    counts: bool


@dataclass(frozen=True)
class Known:
    """An item with all that is known of it; `skips` are (name, reason)."""

    item: Listed
    topics: list[str]
    expected: Mapping[str, Any] | None
    said: list[Said]
    skips: list[tuple[str, str]]
    scores: dict[str, list[float]]
    agreement: float | None


def _state(row: Row[Any], overlap: int) -> State:
    if row.purpose in ("gold", "qualification"):
        found: State = row.purpose
        return found
    return "complete" if row.done >= overlap else "begun" if row.taken or row.done else "untouched"


def _listed(row: Row[Any], overlap: int) -> Listed:
    content = Content.model_validate(row.content)
    return Listed(
        row.id, row.place, content, row.purpose, _state(row, overlap), row.done, row.taken, float(row.priority)
    )


def listed(
    projects: Projects,
    by: User,
    project: str,
    *,
    search: str = "",
    state: State | None = None,
    start: int = 0,
    count: int = 25,
) -> tuple[list[Listed], int]:
    """Some items in the order of adding, and how many there are in all.

    Args:
        projects: The store.
        by: A manager of the project.
        project: Which.
        search: Words that occur, just so, in the conversation or an answer; case does not matter.
        state: Only those.
        start: Pass over so many.
        count: At most so many.

    Raises:
        Refused: Only the project's managers may look.
    """
    known = projects.managed(by, project)
    query = sa.select(items).where(items.c.project == project, *_in_state(state, known.overlap))
    if search:
        # What is stored is JSON: the words are looked for as JSON writes them, and then in the texts themselves.
        written = json.dumps(search)[1:-1]
        query = query.where(sa.cast(items.c.content, sa.Text).icontains(written, autoescape=True))
    with projects.database.read() as connection:
        if not search:
            total = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar() or 0
            rows = list(connection.execute(query.order_by(items.c.place).offset(start).limit(count)))
        else:
            found = [row for row in connection.execute(query.order_by(items.c.place)) if _mentions(row, search)]
            total, rows = len(found), found[start : start + count]
    return [_listed(row, known.overlap) for row in rows], total


def _in_state(state: State | None, overlap: int) -> list[sa.ColumnElement[bool]]:
    if state is None:
        return []
    if state in ("gold", "qualification"):
        return [items.c.purpose == state]
    ordinary = items.c.purpose == "ordinary"
    idle = sa.and_(items.c.taken == 0, items.c.done == 0)
    if state == "untouched":
        return [ordinary, idle]
    return [ordinary, items.c.done >= overlap] if state == "complete" else [ordinary, items.c.done < overlap, ~idle]


def _mentions(row: Row[Any], search: str) -> bool:
    texts = [turn["content"] for turn in row.content["prompt"]] + [answer["text"] for answer in row.content["answers"]]
    return any(search.casefold() in text.casefold() for text in texts)


def one(projects: Projects, by: User, project: str, item: str) -> Known:
    """An item with everything said of it.

    Raises:
        Refused: There is no such item in a project of theirs.
    """
    known = projects.managed(by, project)
    with projects.database.read() as connection:
        row = _row(connection, project, item)
        said = _said(connection, item)
        skipped = sa.select(users.c.name, assignments.c.reason).join(users, users.c.id == assignments.c.user)
        skips = connection.execute(skipped.where(assignments.c.item == item, assignments.c.state == "skipped")).all()
        stored = connection.execute(sa.select(scores).where(scores.c.item == item).order_by(scores.c.source)).all()
    replies = [each.reply for each in said if each.counts and not each.decision]
    return Known(
        item=_listed(row, known.overlap),
        topics=list(row.topics),
        expected=row.expected,
        said=said,
        skips=[(skip.name, skip.reason or "") for skip in skips],
        scores={score.source: list(score._mapping["values"]) for score in stored},
        agreement=agreement_on(known.kind, replies),
    )


def _row(connection: Connection, project: str, item: str) -> Row[Any]:
    row = connection.execute(sa.select(items).where(items.c.id == item, items.c.project == project)).first()
    if row is None:
        raise Refused("there is no such item")
    return row


def _said(connection: Connection, item: str) -> list[Said]:
    query = sa.select(labels, users.c.name.label("called")).join(users, users.c.id == labels.c.user)
    rows = connection.execute(query.where(labels.c.item == item).order_by(labels.c.seq)).all()
    last = {(None if row.assignment is None else row.user): row.seq for row in rows}
    return [
        Said(
            seq=row.seq,
            user=row.user,
            name=row.called,
            version=row.version,
            reply=row.reply,
            order=list(row.order),
            seconds=row.seconds,
            guideline=row.guideline,
            created=row.created,
            decision=row.assignment is None,
            counts=last[None if row.assignment is None else row.user] == row.seq,
        )
        for row in rows
        if "withdrawn" not in row.reply
    ]


def set_purpose(
    projects: Projects, by: User, project: str, item: str, purpose: str, expected: Mapping[str, Any] | None
) -> None:
    """Say what an item is for: `ordinary`, or `gold` or `qualification` with the right reply to it.

    Labels that it has stay; of a gold item they are compared with the right reply.

    Args:
        projects: The store.
        by: A manager of the project.
        project: The item's project.
        item: The item.
        purpose: What it is for.
        expected: The right reply, by the answers' own indices.

    Raises:
        Refused: There is no such item in a project of theirs.
        BadInput: There is no such purpose, or the reply cannot be used.
    """
    known = projects.managed(by, project)
    if purpose not in ("ordinary", "gold", "qualification"):
        raise BadInput(f"purpose={purpose!r}: must be ordinary, gold or qualification")
    if purpose != "ordinary" and expected is None:
        raise BadInput(f"{purpose} items need the right reply")
    if purpose != "ordinary" and known.kind.name == "write":
        raise BadInput("what people write has no single right form: projects of this kind have no gold items")
    with projects.database.write() as connection:
        row = _row(connection, project, item)
        content = Content.model_validate(row.content)
        order = range(len(content.answers))
        right = None if purpose == "ordinary" or expected is None else known.kind.check(content, expected, order)
        changed = sa.update(items).where(items.c.id == item).values(purpose=purpose, expected=right)
        connection.execute(changed)


def differing(projects: Projects, project: Project, keys: list[str]) -> dict[str, tuple[Content, dict[str, Any]]]:
    """Items by key, each with what its people said last, by their names; for lists of disagreements."""
    with projects.database.read() as connection:
        rows = connection.execute(sa.select(items).where(items.c.project == project.id, items.c.id.in_(keys))).all()
        names = {row.id: row.name for row in connection.execute(sa.select(users.c.id, users.c.name))}
        said: dict[str, dict[str, Any]] = {row.id: {} for row in rows}
        for row in newest_labels(connection, project.id):
            if row.item in said:
                said[row.item][names[row.user]] = row.reply
        settled = decisions(connection, project.id)
    return {
        row.id: (Content.model_validate(row.content), {**said[row.id], **_decided(settled.get(row.id))}) for row in rows
    }


def _decided(row: Row[Any] | None) -> dict[str, Any]:
    return {} if row is None else {"": row.reply}


def every(projects: Projects, by: User, project: str) -> list[dict[str, Any]]:
    """All items with answers as rows of answers, for a stage to score: `id` is the item's key.

    Raises:
        Refused: Only the project's managers may look.
    """
    projects.managed(by, project)
    with projects.database.read() as connection:
        rows = connection.execute(sa.select(items).where(items.c.project == project).order_by(items.c.place)).all()
    return [
        {"id": row.id, "prompt": row.content["prompt"], "answers": row.content["answers"], "meta": row.content["meta"]}
        for row in rows
        if row.content["answers"]
    ]
