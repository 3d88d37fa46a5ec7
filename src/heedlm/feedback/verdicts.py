"""Verdicts given in chat: on an answer asked for again (better, worse, same), and thumbs; and the records they make.

A verdict is only ever added: a changed mind is a new version, and the last one counts. Only conversations whose
person consents, at the time of reading, make records to train on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.accounts import User
from heedlm.feedback.conversations import Said, path
from heedlm.feedback.database import Database
from heedlm.feedback.errors import BadInput, Conflict, Refused
from heedlm.feedback.tables import conversations, messages, users, verdicts
from heedlm.records import Answer, Comparison, Meta, Thumb
from heedlm.records.faults import fault

COMPARED = ("better", "worse", "same")
THUMBS = ("up", "down")
TAKEN_BACK = "none"
_RANKS = {"better": (2, 1), "worse": (1, 2), "same": (1, 1)}  # of the answer before and of the new one


@dataclass(frozen=True)
class Verdict:
    """A verdict on an answer: against the one before it, or (`against` None) a thumb."""

    seq: int
    message: str
    against: str | None
    verdict: str
    reason: str | None
    version: int


class Verdicts:
    """The verdicts of a feedback database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def give(
        self,
        user: User,
        conversation: str,
        message: str,
        verdict: str,
        key: str,
        *,
        against: str | None = None,
        reason: str | None = None,
    ) -> Verdict:
        """Keep a verdict; the same key again changes nothing.

        Args:
            user: Who judges.
            conversation: Their conversation.
            message: The answer that is judged.
            verdict: better, worse or same with `against`, else up or down; none takes back what was said before.
            key: The client's, so that a repeated click is one verdict.
            against: An earlier answer to the same question.
            reason: Why, if they want to say.

        Raises:
            Refused: The conversation or the answer is not there, or not theirs.
            BadInput: The verdict does not go with what is judged.
            Conflict: The key was used for another verdict.
        """
        wanted = (message, against, verdict, reason)
        with self.database.write() as connection:
            _owned(connection, user, conversation)
            known = verdicts.c.user == user.id
            earlier = connection.execute(sa.select(verdicts).where(known, verdicts.c.key == key)).first()
            if earlier is not None:
                if (earlier.message, earlier.against, earlier.verdict, earlier.reason) != wanted:
                    raise Conflict("this key was used for another verdict")
                return _verdict(earlier)
            _check(connection, conversation, message, against, verdict)
            same = sa.and_(known, verdicts.c.message == message, verdicts.c.against.is_not_distinct_from(against))
            newest = connection.execute(sa.select(sa.func.max(verdicts.c.version)).where(same)).scalar() or 0
            row = {
                "conversation": conversation,
                "user": user.id,
                "message": message,
                "against": against,
                "verdict": verdict,
                "reason": reason,
                "version": newest + 1,
                "key": key,
                "created": self.database.now(),
            }
            seq = connection.execute(sa.insert(verdicts).values(row)).inserted_primary_key
            assert seq is not None
            return Verdict(int(seq[0]), message, against, verdict, reason, newest + 1)

    def of(self, user: User, conversation: str) -> list[Verdict]:
        """What counts now in a conversation; verdicts taken back are left out.

        Raises:
            Refused: The conversation is not there, or not theirs.
        """
        with self.database.read() as connection:
            _owned(connection, user, conversation)
            return _counting(connection, conversation, None)

    def newest(self) -> int:
        """The newest verdict: a point in time for `records`."""
        with self.database.read() as connection:
            return int(connection.execute(sa.select(sa.func.max(verdicts.c.seq))).scalar() or 0)

    def records(
        self, conversation: str | None = None, *, user: str | None = None, upto: int | None = None
    ) -> Iterator[Comparison | Thumb]:
        """What people said in chat, as records to train on.

        A regeneration becomes a comparison of the answer before and the new one, in the order in which they were
        shown, with the conversation so far as the prompt; a thumb becomes a thumb. What teaches nothing (equal
        answers, one of them called better) is left out. `annotator` is the person's key.

        Args:
            conversation: Only this one.
            user: Only this person's (key).
            upto: Only verdicts up to this one (`newest`).

        Raises:
            Refused: `conversation` is not there, or its person does not consent.
        """
        query = sa.select(conversations.c.id, users.c.group).join(users, users.c.id == conversations.c.user)
        query = query.where(conversations.c.consent.is_(True)).order_by(conversations.c.created, conversations.c.id)
        if conversation is not None:
            query = query.where(conversations.c.id == conversation)
        if user is not None:
            query = query.where(conversations.c.user == user)
        with self.database.read() as connection:
            consented = connection.execute(query).all()
            if conversation is not None and not consented:
                raise Refused("there is no such conversation, or it may not be used for training")
            for row in consented:
                yield from _records(connection, row.id, row.group, upto)


def _owned(connection: Connection, user: User, conversation: str) -> None:
    query = sa.select(conversations.c.id).where(conversations.c.id == conversation, conversations.c.user == user.id)
    if connection.execute(query).first() is None:
        raise Refused("there is no such conversation")


def _check(connection: Connection, conversation: str, message: str, against: str | None, verdict: str) -> None:
    allowed = (*(THUMBS if against is None else COMPARED), TAKEN_BACK)
    if verdict not in allowed:
        raise BadInput(f"verdict={verdict!r}: must be one of {', '.join(allowed)}")
    said = _answers(connection, conversation)
    if message not in said or (against is not None and against not in said):
        raise Refused("there is no such answer")
    if against is not None:
        new, old = said[message], said[against]
        if new.parent != old.parent or old.created >= new.created:
            raise BadInput("against: must be an earlier answer to the same question")
        if not old.readable:
            raise BadInput("against: there is nothing to compare with, that answer failed")
    if not said[message].readable:
        raise BadInput("message: this answer is not there, or not yet")


def _answers(connection: Connection, conversation: str) -> dict[str, Said]:
    found = _messages(connection, conversation)
    return {key: message for key, message in found.items() if message.role == "assistant"}


def _messages(connection: Connection, conversation: str) -> dict[str, Said]:
    columns = [messages.c[name] for name in Said.__dataclass_fields__]
    query = sa.select(*columns).where(messages.c.conversation == conversation)
    return {row["id"]: Said(**row) for row in connection.execute(query).mappings()}


def _counting(connection: Connection, conversation: str, upto: int | None) -> list[Verdict]:
    """The last version of each verdict, in the order of the first ones."""
    query = sa.select(verdicts).where(verdicts.c.conversation == conversation).order_by(verdicts.c.seq)
    if upto is not None:
        query = query.where(verdicts.c.seq <= upto)
    last = {(row.message, row.against): _verdict(row) for row in connection.execute(query)}
    return [verdict for verdict in last.values() if verdict.verdict != TAKEN_BACK]


def _records(
    connection: Connection, conversation: str, group: str | None, upto: int | None
) -> Sequence[Comparison | Thumb]:
    given = _counting(connection, conversation, upto)
    if not given:
        return []
    said = _messages(connection, conversation)
    query = sa.select(conversations.c.user).where(conversations.c.id == conversation)
    judge = {
        "annotator": connection.execute(query).scalar_one(),
        "group": group,
        "consent": True,
        "meta": Meta(source="chat", consent=True),
    }
    made = [_record(said, verdict, judge) for verdict in given]
    return [record for record in made if fault(record) is None]


def _record(said: dict[str, Said], given: Verdict, judge: dict[str, Any]) -> Comparison | Thumb:
    new = said[given.message]
    assert new.parent is not None
    prompt = path(said, new.parent)
    if given.against is None:
        up = given.verdict == "up"
        return Thumb(prompt=prompt, answer=_answer(new), up=up, reason=given.reason or None, **judge)
    answers = (_answer(said[given.against]), _answer(new))
    return Comparison(prompt=prompt, answers=answers, ranks=_RANKS[given.verdict], order_shown=(0, 1), **judge)


def _answer(message: Said) -> Answer:
    return Answer(text=message.content, model=message.model, ended=message.state == "whole")


def _verdict(row: Any) -> Verdict:
    return Verdict(row.seq, row.message, row.against, row.verdict, row.reason, row.version)
