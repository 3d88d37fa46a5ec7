"""How far the people of a project agree, who may not be reading, and what sways them: read from its newest labels.

What is measured is `agreement.report` and `quality.suspects` on those labels. Agreement is told of ordinary items;
gold and qualification items say how often a person is right. A manager's decision is nobody's annotation.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from heedlm.feedback.agreement import Line, Report, against_values, report
from heedlm.feedback.database import Database
from heedlm.feedback.judgements import Judgement, Kind, Value, coded
from heedlm.feedback.kinds import QuestionKind
from heedlm.feedback.projects import Project
from heedlm.feedback.quality import Bias, Suspicion, length_bias, position_bias, suspects
from heedlm.feedback.tables import items, labels, scores

CACHED = 32  # projects whose measures are kept


@dataclass(frozen=True)
class Measures:
    """What the labels of a project say of agreement; people and items by their keys.

    Attributes:
        report: On ordinary items. Of a rating of several answers each answer is an item, `ITEM/k`.
        gold: Each person against the expected replies, of gold and qualification items.
        position: How often the answer shown first was the only best one; None where there is no order.
        length: How often the longer answer was put above the shorter; None for other kinds.
        suspicions: Who may not have read, and why.
        seconds: Median time an item of each person, in seconds.
        labels: How many labels of ordinary items went in, corrections counted once.
        upto: The newest label (`seq`); 0 if there is none.
        sources: Whose scores are stored, newest first.
        source: Whose scores people are compared with.
    """

    report: Report
    gold: dict[str, Line]
    position: Bias | None
    length: Bias | None
    suspicions: list[Suspicion]
    seconds: dict[str, float]
    labels: int
    upto: int
    sources: list[str]
    source: str | None


def newest_labels(connection: Connection, project: str, upto: int | None = None) -> list[Row[Any]]:
    """Each person's last word on each item, in order of seq, with the item's purpose.

    Managers' decisions are not among them, nor what its author has withdrawn since.
    """
    query = (
        sa.select(labels, items.c.purpose)
        .join(items, items.c.id == labels.c.item)
        .where(labels.c.project == project, labels.c.assignment.is_not(None))
        .order_by(labels.c.seq)
    )
    if upto is not None:
        query = query.where(labels.c.seq <= upto)
    last = {(row.item, row.user): row for row in connection.execute(query)}
    return sorted((row for row in last.values() if "withdrawn" not in row.reply), key=lambda row: row.seq)


def values_of(kind: QuestionKind, reply: Mapping[str, Any]) -> list[tuple[Kind, Value]]:
    """What a reply says as values to compare: one, or one for each answer of a rating; none if it says nothing."""
    if kind.name == "rank":
        return [] if "cannot" in reply else [("ranking", tuple(reply["ranks"]))]
    if kind.name == "pair":
        return [("ranking", {"same": (1, 1), 0: (1, 2), 1: (2, 1)}[reply["better"]])]
    if kind.name == "rate":
        return [("score", float(score)) for score in reply["scores"]]
    if kind.name == "thumb":
        return [("label", "up" if reply["up"] else "down")]
    if kind.name == "write":
        return [("label", str(reply["category"]))]
    return [("label", "none" if reply["wrong"] is None else str(reply["wrong"] + 1))]


def judgements_in(kind: QuestionKind, rows: Iterable[Row[Any]], sizes: Mapping[str, Sequence[int]]) -> list[Judgement]:
    """The judgements that label rows hold.

    Args:
        kind: The project's.
        rows: See `newest_labels`.
        sizes: Characters of each answer, by item.
    """
    found = []
    for row in rows:
        said = values_of(kind, row.reply)
        parts = len(said)
        for place, (sort, value) in enumerate(said):
            ranking = sort == "ranking"
            found.append(
                Judgement(
                    item=_part(row.item, place, parts),
                    annotator=row.user,
                    value=value,
                    kind=sort,
                    group=row.group,
                    order_shown=tuple(row.order) if ranking else None,
                    lengths=tuple(sizes[row.item]) if ranking else None,
                    seconds=row.seconds / parts,
                )
            )
    return found


def _part(item: str, place: int, parts: int) -> str:
    return item if parts == 1 else f"{item}/{place}"


def item_of(part: str) -> str:
    """The item that a measured part belongs to."""
    return part.partition("/")[0]


class Measurer:
    """Measures projects, and remembers the figures until somebody says something new."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._kept: dict[tuple[Any, ...], Measures] = {}
        self._turn = threading.Lock()

    def measure(self, project: Project, source: str | None = None) -> Measures:
        """The figures of a project.

        Args:
            project: Which.
            source: Whose stored scores to compare people with; the newest if not given.
        """
        with self.database.read() as connection:
            state = _state(connection, project.id)
            key = (project.id, source, state)
            with self._turn:
                if key in self._kept:
                    return self._kept[key]
            found = _measure(connection, project, source)
        with self._turn:
            while len(self._kept) >= CACHED:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = found
        return found


def _state(connection: Connection, project: str) -> tuple[Any, ...]:
    """What changes whenever the figures would: labels, expected replies and stored scores."""
    said = sa.select(sa.func.max(labels.c.seq), sa.func.count()).where(labels.c.project == project)
    newest, count = connection.execute(said).one()
    right = sa.select(items.c.id).where(items.c.project == project, items.c.purpose != "ordinary").order_by(items.c.id)
    expected = tuple(connection.execute(right.add_columns(items.c.purpose, items.c.expected)).all())
    given = sa.select(sa.func.max(scores.c.created), sa.func.count()).join(items, items.c.id == scores.c.item)
    stored = tuple(connection.execute(given.where(items.c.project == project)).one())
    return newest, count, hash(repr(expected)), stored


def _measure(connection: Connection, project: Project, source: str | None) -> Measures:
    known = connection.execute(sa.select(items).where(items.c.project == project.id)).all()
    sizes = {row.id: [len(answer["text"]) for answer in row.content["answers"]] for row in known}
    rows = newest_labels(connection, project.id)
    ordinary = judgements_in(project.kind, (row for row in rows if row.purpose == "ordinary"), sizes)
    tested = judgements_in(project.kind, (row for row in rows if row.purpose != "ordinary"), sizes)
    right: dict[str, Value] = {}
    for row in known:
        if row.expected is not None:
            said = values_of(project.kind, row.expected)
            right |= {_part(row.id, place, len(said)): value for place, (_, value) in enumerate(said)}
    sources, by_model = _scores(connection, project, source)
    times: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        times[row.user].append(row.seconds)
    codes = coded(tested)
    lines = zip(codes.annotators, against_values(codes, right), strict=True)
    return Measures(
        report=report(ordinary, scores=by_model),
        gold={name: line for name, line in lines if line is not None},
        position=position_bias(ordinary),
        length=length_bias(ordinary),
        suspicions=suspects([*ordinary, *tested], right),
        seconds={name: median(values) for name, values in times.items()},
        labels=sum(row.purpose == "ordinary" for row in rows),
        upto=max((row.seq for row in rows), default=0),
        sources=sources,
        source=source if source is not None else sources[0] if sources else None,
    )


def _scores(
    connection: Connection, project: Project, source: str | None
) -> tuple[list[str], dict[str, float | Sequence[float]]]:
    """Whose scores there are, newest first, and one source's in the form that `report` reads."""
    query = (
        sa.select(scores.c.item, scores.c.source, scores.c["values"], scores.c.created)
        .join(items, items.c.id == scores.c.item)
        .where(items.c.project == project.id)
        .order_by(scores.c.created.desc(), scores.c.source)
    )
    rows = connection.execute(query).all()
    sources = list(dict.fromkeys(row.source for row in rows))
    wanted = source if source is not None else sources[0] if sources else None
    found: dict[str, float | Sequence[float]] = {}
    for item, name, values, _ in rows:
        if name != wanted:
            continue
        if project.kind.name in ("rank", "pair"):
            found[item] = list(values)
        else:
            found |= {_part(item, place, len(values)): float(value) for place, value in enumerate(values)}
    return sources, found
