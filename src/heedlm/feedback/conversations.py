"""Conversations of people with models. Each is for the person who held it and for nobody else, owners included.

Messages form a tree: answers that share a parent were asked for again, questions that share one were edited. Nothing
that was said is changed; a conversation goes as a whole. What was judged is in `verdicts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import BadInput, Conflict, Refused
from heedlm.feedback.tables import conversations, events, messages
from heedlm.records import Message

LONGEST = 32_000  # characters of a question
_TITLE = 80
_TICK = 1e-6  # seconds: what is said in one conversation has an order even if the clock stands still


@dataclass(frozen=True)
class Conversation:
    """A conversation; `consent`: whether its verdicts may be used to train models."""

    id: str
    user: str
    title: str
    model: str
    consent: bool
    created: float
    changed: float


@dataclass(frozen=True)
class Said:
    """One message.

    Attributes:
        parent: The message before it; None for a first question.
        model: Who wrote an answer.
        state: writing; whole; cut at the longest the model gives; stopped by the person; failed. Questions are whole.
        left_out: How many of the oldest messages the model had no room to read.
        problem: Why an answer failed.
    """

    id: str
    parent: str | None
    role: str
    content: str
    model: str | None
    state: str
    left_out: int
    problem: str | None
    created: float

    @property
    def readable(self) -> bool:
        """Whether a conversation can go on from it, and a verdict be given on it."""
        return self.state in ("whole", "cut") or (self.state == "stopped" and self.content != "")


@dataclass(frozen=True)
class Begun:
    """An answer that is being written, and what it answers."""

    answer: Said
    prompt: tuple[Message, ...]


class Conversations:
    """The conversations of a feedback database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ------------------------------------------------------------ saying

    def start(self, user: User, model: str, question: str, *, consent: bool = False) -> Conversation:
        """A new conversation, with its first question; `answer` begins the answer.

        Raises:
            BadInput: The question is empty or too long.
        """
        question = _clean(question)
        now = self.database.now()
        title = (question.split("\n", 1)[0].strip() or "…")[:_TITLE]
        made = Conversation(new_key(), user.id, title, model, consent, now, now)
        with self.database.write() as connection:
            connection.execute(sa.insert(conversations).values(**vars(made)))
            self._say(connection, made.id, None, "user", question)
            if consent:
                _note(connection, now, user.id, "consent given", made.id)
        return made

    def ask(self, user: User, conversation: str, parent: str | None, question: str) -> Said:
        """A question after an answer; with the parent of an earlier one, an edit of that.

        Raises:
            Refused: The conversation is not there, or not theirs.
            BadInput: The question is empty or too long, or `parent` is no answer of this conversation.
            Conflict: The answer before it is not there yet, or failed.
        """
        question = _clean(question)
        with self.database.write() as connection:
            _own(connection, user, conversation)
            if parent is not None:
                before = _message(connection, conversation, parent)
                if before.role != "assistant":
                    raise BadInput("parent: a question comes after an answer")
                if not before.readable:
                    raise Conflict("the answer before it is not there: ask for it again first")
            return self._say(connection, conversation, parent, "user", question)

    def answer(self, user: User, conversation: str, question: str, model: str) -> Begun:
        """Begin an answer to a question: the first, or another one.

        Raises:
            Refused: The conversation is not there, or not theirs.
            BadInput: `question` is no question of this conversation.
            Conflict: An answer to it is being written.
        """
        with self.database.write() as connection:
            _own(connection, user, conversation)
            said = {row.id: row for row in _all(connection, conversation)}
            if question not in said or said[question].role != "user":
                raise BadInput("question: there is no such question in this conversation")
            if any(row.parent == question and row.state == "writing" for row in said.values()):
                raise Conflict("an answer to this is being written: stop it first")
            begun = self._say(connection, conversation, question, "assistant", "", model=model, state="writing")
            connection.execute(sa.update(conversations).where(conversations.c.id == conversation).values(model=model))
        return Begun(begun, path(said, question))

    def _say(
        self, connection: Connection, conversation: str, parent: str | None, role: str, content: str, **more: Any
    ) -> Said:
        newest = sa.select(sa.func.max(messages.c.created)).where(messages.c.conversation == conversation)
        at = max(self.database.now(), (connection.execute(newest).scalar() or 0.0) + _TICK)
        rest = {"model": None, "state": "whole", "left_out": 0, "problem": None, **more}
        said = Said(new_key(), parent, role, content, created=at, **rest)
        connection.execute(sa.insert(messages).values(conversation=conversation, **vars(said)))
        connection.execute(sa.update(conversations).where(conversations.c.id == conversation).values(changed=at))
        return said

    def finish(
        self, message: str, content: str, state: str, *, left_out: int = 0, problem: str | None = None
    ) -> Said | None:
        """Keep what a model wrote; None if the conversation was deleted meanwhile or the answer was finished before.

        Args:
            message: The answer.
            content: Its text.
            state: whole, cut, stopped or failed.
            left_out: How many of the oldest messages the model could not read.
            problem: Why it failed.
        """
        waiting = sa.and_(messages.c.id == message, messages.c.state == "writing")
        # NUL is the one character that PostgreSQL cannot keep, and half a surrogate pair is none.
        text = content.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        values = {"content": text, "state": state, "left_out": left_out, "problem": problem}
        with self.database.write() as connection:
            if not connection.execute(sa.update(messages).where(waiting).values(values)).rowcount:
                return None
            return _said(connection.execute(sa.select(messages).where(messages.c.id == message)).one())

    def abandon(self) -> int:
        """Call what an earlier process was writing when it died failed; returns how many answers these were."""
        lost = {"state": "failed", "problem": "the server stopped while this was being written"}
        with self.database.write() as connection:
            return connection.execute(sa.update(messages).where(messages.c.state == "writing").values(lost)).rowcount

    # ------------------------------------------------------------ looking

    def mine(self, user: User, search: str = "", *, skip: int = 0, count: int = 50) -> list[Conversation]:
        """A person's conversations, the last used first; with `search`, those whose title or text holds it."""
        query = sa.select(conversations).where(conversations.c.user == user.id)
        if search.strip():
            like = "%{}%".format(search.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_"))
            text = sa.select(messages.c.conversation).where(
                messages.c.conversation == conversations.c.id, messages.c.content.ilike(like, escape="\\")
            )
            query = query.where(conversations.c.title.ilike(like, escape="\\") | text.exists())
        query = query.order_by(conversations.c.changed.desc(), conversations.c.id).offset(skip).limit(count)
        with self.database.read() as connection:
            return [_conversation(row) for row in connection.execute(query)]

    def get(self, user: User, conversation: str) -> Conversation:
        """A conversation, for the person who held it.

        Raises:
            Refused: It is not there, or not theirs.
        """
        with self.database.read() as connection:
            return _own(connection, user, conversation)

    def messages(self, user: User, conversation: str) -> list[Said]:
        """All that was said, in the order it was.

        Raises:
            Refused: The conversation is not there, or not theirs.
        """
        with self.database.read() as connection:
            _own(connection, user, conversation)
            return _all(connection, conversation)

    def message(self, user: User, conversation: str, message: str) -> Said:
        """One message.

        Raises:
            Refused: It is not there, or not theirs.
        """
        with self.database.read() as connection:
            _own(connection, user, conversation)
            return _message(connection, conversation, message)

    # ------------------------------------------------------------ changing

    def change(
        self, user: User, conversation: str, *, title: str | None = None, consent: bool | None = None
    ) -> Conversation:
        """Rename a conversation, or give or withdraw consent; a withdrawal holds for every later export.

        Raises:
            Refused: It is not there, or not theirs.
            BadInput: The title is empty or longer than 200 characters.
        """
        values: dict[str, Any] = {}
        if title is not None:
            values["title"] = " ".join(_clean(title, "title").split())
            if len(values["title"]) > 200:
                raise BadInput("title: must have at most 200 characters")
        if consent is not None:
            values["consent"] = consent
        with self.database.write() as connection:
            before = _own(connection, user, conversation)
            if values:
                here = conversations.c.id == conversation
                connection.execute(sa.update(conversations).where(here).values(values))
            if consent is not None and consent != before.consent:
                what = "consent given" if consent else "consent withdrawn"
                _note(connection, self.database.now(), user.id, what, conversation)
            return _own(connection, user, conversation)

    def delete(self, user: User, conversation: str) -> None:
        """Delete a conversation with all that was said and judged in it.

        Raises:
            Refused: It is not there, or not theirs.
        """
        with self.database.write() as connection:
            _own(connection, user, conversation)
            connection.execute(sa.delete(conversations).where(conversations.c.id == conversation))
            _note(connection, self.database.now(), user.id, "conversation deleted", conversation)

    def delete_all(self, user: User) -> int:
        """Delete all conversations of a person; returns how many there were."""
        with self.database.write() as connection:
            count = connection.execute(sa.delete(conversations).where(conversations.c.user == user.id)).rowcount
            _note(connection, self.database.now(), user.id, "chat data deleted", None)
        return count


def path(said: Mapping[str, Said], last: str) -> tuple[Message, ...]:
    """The conversation that leads to a message, that one included; `said` holds the messages by key."""
    found: list[Message] = []
    at: str | None = last
    while at is not None:
        message = said[at]
        found.append(Message(role="user" if message.role == "user" else "assistant", content=message.content))
        at = message.parent
    return tuple(reversed(found))


def _clean(text: str, field: str = "question") -> str:
    text = text.replace("\r\n", "\n").replace("\0", "\ufffd").encode("utf-8", "replace").decode().strip()
    if not text:
        raise BadInput(f"{field}: is empty")
    if len(text) > LONGEST:
        raise BadInput(f"{field}: has {len(text):,} characters, {LONGEST:,} are the most")
    return text


def _own(connection: Connection, user: User, conversation: str) -> Conversation:
    query = sa.select(conversations).where(conversations.c.id == conversation, conversations.c.user == user.id)
    row = connection.execute(query).first()
    if row is None:
        raise Refused("there is no such conversation")
    return _conversation(row)


def _message(connection: Connection, conversation: str, message: str) -> Said:
    query = sa.select(messages).where(messages.c.id == message, messages.c.conversation == conversation)
    row = connection.execute(query).first()
    if row is None:
        raise Refused("there is no such message")
    return _said(row)


def _all(connection: Connection, conversation: str) -> list[Said]:
    query = sa.select(messages).where(messages.c.conversation == conversation).order_by(messages.c.created)
    return [_said(row) for row in connection.execute(query)]


def _conversation(row: Any) -> Conversation:
    return Conversation(row.id, row.user, row.title, row.model, bool(row.consent), row.created, row.changed)


def _said(row: Any) -> Said:
    return Said(row.id, row.parent, row.role, row.content, row.model, row.state, row.left_out, row.problem, row.created)


def _note(connection: Connection, at: float, user: str, what: str, about: str | None) -> None:
    connection.execute(sa.insert(events).values(at=at, user=user, what=what, about=about))


__all__ = ["LONGEST", "Begun", "Conversation", "Conversations", "Said", "path"]
