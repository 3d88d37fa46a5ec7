"""Adjudication: items on which people do not agree, and a manager's decision, which is a label of its own.

A decision is a row among the labels that belongs to no assignment, so that it counts as nobody's annotation; whoever
reads labels to train on puts it before them (`decisions`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.database import new_key
from heedlm.feedback.errors import Refused
from heedlm.feedback.kinds import QuestionKind
from heedlm.feedback.measures import newest_labels
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.tables import guidelines, items, labels
from heedlm.feedback.tasks import Content


@dataclass(frozen=True)
class Dispute:
    """An item whose replies agree less than the project asks for; `agreement` is in [0, 1]."""

    item: str
    place: int
    content: Content
    agreement: float
    replies: int


def agreement_on(kind: QuestionKind, replies: Sequence[Mapping[str, Any]]) -> float | None:
    """How far replies to one item are the same: the mean of `kind.same` over every two of them; None for fewer."""
    pairs = list(combinations(replies, 2))
    return sum(kind.same(one, other) for one, other in pairs) / len(pairs) if pairs else None


def agreements(connection: Connection, project: Project) -> dict[str, tuple[float, int]]:
    """Agreement and number of replies of every ordinary item with two replies or more."""
    said: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in newest_labels(connection, project.id):
        if row.purpose == "ordinary":
            said[row.item].append(row.reply)
    found = {}
    for item, replies in said.items():
        value = agreement_on(project.kind, replies)
        if value is not None:
            found[item] = (value, len(replies))
    return found


def decisions(connection: Connection, project: str, upto: int | None = None) -> dict[str, Row[Any]]:
    """The last decision on each item that has one."""
    query = sa.select(labels).where(labels.c.project == project, labels.c.assignment.is_(None)).order_by(labels.c.seq)
    if upto is not None:
        query = query.where(labels.c.seq <= upto)
    return {row.item: row for row in connection.execute(query)}


class Adjudication:
    """What has to be decided, and deciding it."""

    def __init__(self, projects: Projects) -> None:
        self.projects = projects
        self.database = projects.database

    def queue(self, by: User, project: str) -> list[Dispute]:
        """Items with their full number of replies, too little agreement and no decision; the worst first.

        Raises:
            Refused: Only the project's managers may look.
        """
        known = self.projects.managed(by, project)
        bound = known.settings.adjudicate_below
        if bound is None:
            return []
        full = sa.select(items).where(
            items.c.project == project, items.c.purpose == "ordinary", items.c.done >= known.overlap
        )
        with self.database.read() as connection:
            decided, agreed = decisions(connection, project), agreements(connection, known)
            rows = connection.execute(full.order_by(items.c.place)).all()
        found = [
            Dispute(row.id, row.place, Content.model_validate(row.content), *agreed[row.id])
            for row in rows
            if row.id in agreed and row.id not in decided and agreed[row.id][0] < bound
        ]
        return sorted(found, key=lambda dispute: (dispute.agreement, dispute.place))

    def decide(
        self, by: User, project: str, item: str, reply: Mapping[str, Any], order: Sequence[int] | None = None
    ) -> int:
        """Settle an item; what is returned is the new label's seq. A later decision takes the place of an earlier.

        Args:
            by: Who decides.
            project: The item's project.
            item: The item.
            reply: By the places in `order`.
            order: `order[k]` is the answer shown in place k; the answers' own order if not given.

        Raises:
            Refused: There is no such item, or it is not theirs to decide.
            BadInput: The reply cannot be used, or the item is no ordinary one.
        """
        known = self.projects.managed(by, project)
        with self.database.write() as connection:
            row = connection.execute(sa.select(items).where(items.c.id == item, items.c.project == project)).first()
            if row is None:
                raise Refused("there is no such item")
            if row.purpose != "ordinary":
                raise BadInput("a gold or qualification item has its right reply already: change that instead")
            content = Content.model_validate(row.content)
            order = list(range(len(content.answers)) if order is None else order)
            mine = sa.and_(labels.c.item == item, labels.c.user == by.id, labels.c.assignment.is_(None))
            before = connection.execute(sa.select(sa.func.count()).select_from(labels).where(mine)).scalar() or 0
            rules = sa.select(sa.func.max(guidelines.c.version)).where(guidelines.c.project == project)
            values = {
                "assignment": None,
                "item": item,
                "project": project,
                "user": by.id,
                "version": before + 1,
                "key": new_key(),
                "reply": known.kind.check(content, reply, order),
                "order": order,
                "seconds": 0.0,
                "guideline": connection.execute(rules).scalar() or 0,
                "group": by.group,
                "created": self.database.now(),
            }
            seq = connection.execute(sa.insert(labels).values(values)).inserted_primary_key
        assert seq is not None
        return int(seq[0])
