"""From labels and verdicts to rows: which of them count, and what each says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import Connection

from heedlm.feedback.kinds import Said
from heedlm.feedback.projects import Project
from heedlm.feedback.tables import conversations, items, labels, messages, verdicts
from heedlm.feedback.tasks import Content
from heedlm.records import Answer, Comparison, Message, Meta, Row, Thumb

Naming = Callable[[str], str]  # from the key of a person to what they are called in rows
RANKS = {"better": (1, 2), "worse": (2, 1), "same": (1, 1)}
CHAT_SOURCE = "heed/chat"


@dataclass(frozen=True)
class Source:
    """Rows made of one label or verdict; its number, whose it is, and which item or message it is about."""

    seq: int
    user: str
    about: str
    rows: Sequence[Row]


def project_rows(
    connection: Connection, project: Project, upto: int, called: Naming, tests: bool, left_out: Counter[str]
) -> Iterator[Source]:
    """What the labels of a project say, in the order of its items.

    Args:
        connection: To the database.
        project: The project.
        upto: Newest label that may go in (its `seq`).
        called: What annotators are called.
        tests: Take gold and qualification items too.
        left_out: Counts, by reason, the labels that say nothing.
    """
    query = (
        sa.select(labels, items.c.content, items.c.purpose)
        .join(items, items.c.id == labels.c.item)
        .where(labels.c.project == project.id, labels.c.seq <= upto)
        .order_by(items.c.place, labels.c.seq)
    )
    for row in newest_labels(connection.execute(query), left_out):
        if row.purpose != "ordinary" and not tests:
            left_out[f"{row.purpose} items"] += 1
        elif "withdrawn" in row.reply:
            left_out["withdrawn"] += 1
        else:
            said = Said(
                annotator=called(row.user),
                group=row.group,
                guideline=str(row.guideline),
                criterion=project.criterion,
                order=tuple(row.order) or None,
                source=f"heed/{project.name}",
            )
            made = project.kind.records(Content.model_validate(row.content), row.reply, said)
            if not made:
                left_out["could not be ranked"] += 1
            yield Source(row.seq, row.user, row.item, made)


def newest_labels(rows: Iterable[Any], left_out: Counter[str]) -> Iterator[Any]:
    """The labels that count: each person's newest, or an adjudicator's newest decision in place of all of them."""
    said: dict[str, dict[str, Any]] = {}
    decided: dict[str, Any] = {}
    for row in rows:
        mine = said.setdefault(row.item, {})
        if row.assignment is None:
            left_out["corrected since"] += row.item in decided
            decided[row.item] = row
        else:
            left_out["corrected since"] += row.user in mine
            mine[row.user] = row
    for item, mine in said.items():
        if item in decided:
            left_out["decided by an adjudicator"] += len(mine)
            yield decided[item]
        else:
            yield from mine.values()


# ------------------------------------------------------------------------------------------ chat


def newest_verdict(connection: Connection, upto: int | None) -> int:
    """Number of the newest verdict, up to a point in time."""
    query = sa.select(sa.func.max(verdicts.c.seq))
    return connection.execute(query if upto is None else query.where(verdicts.c.seq <= upto)).scalar() or 0


def chat_rows(connection: Connection, upto: int, called: Naming, left_out: Counter[str]) -> Iterator[Source]:
    """What people said of answers in chats they agreed to share: comparisons of two answers, and thumbs.

    Consent holds for the whole conversation and as it is now: once withdrawn, nothing of it goes in any more.
    """
    query = (
        sa.select(verdicts)
        .join(conversations, conversations.c.id == verdicts.c.conversation)
        .where(conversations.c.consent, verdicts.c.seq <= upto)
        .order_by(verdicts.c.seq)
    )
    newest: dict[tuple[Any, ...], Any] = {}
    for row in connection.execute(query):
        pair = frozenset((row.message, row.against))
        left_out["corrected since"] += (row.user, pair) in newest
        newest[row.user, pair] = row
    for row in newest.values():
        if row.verdict == "none":
            left_out["withdrawn"] += 1
            continue
        known = _tree(connection, row.conversation)
        try:
            made = [_verdict(row, known, called(row.user))]
        except (KeyError, ValidationError, ValueError):
            left_out["answers that failed or lack their question"] += 1
            made = []
        yield Source(row.seq, row.user, row.message, made)


def _tree(connection: Connection, conversation: str) -> dict[str, Any]:
    return {
        row.id: row for row in connection.execute(sa.select(messages).where(messages.c.conversation == conversation))
    }


def _verdict(row: Any, known: Mapping[str, Any], annotator: str) -> Row:
    who: dict[str, Any] = {"annotator": annotator, "consent": True, "meta": Meta(source=CHAT_SOURCE, consent=True)}
    prompt = _before(known[row.message], known)
    first = _answer(known[row.message])
    if row.against is None:
        return Thumb(prompt=prompt, answer=first, up=row.verdict == "up", reason=row.reason, **who)
    answers = (first, _answer(known[row.against]))
    return Comparison(prompt=prompt, answers=answers, ranks=RANKS[row.verdict], **who)


def _before(message: Any, known: Mapping[str, Any]) -> tuple[Message, ...]:
    """The turns that led to an answer, oldest first."""
    turns: list[Message] = []
    at = message.parent
    while at is not None:
        turns.append(Message(role=known[at].role, content=known[at].content))
        at = known[at].parent
    return tuple(reversed(turns))


def _answer(message: Any) -> Answer:
    if message.state in ("failed", "writing"):
        raise ValueError(f"this answer is {message.state}")
    return Answer(text=message.content, model=message.model, ended=message.state == "whole")
