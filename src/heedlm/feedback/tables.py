"""The tables of the feedback database.

Keys are random text, so that nobody can count or guess them. Times are seconds since 1970, UTC. What people said
(`labels`, `verdicts`) is only ever added to; a person's erasure, which leaves a row in `erasures`, is the one
exception.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _key() -> Column[str]:
    return Column("id", String(32), primary_key=True)


def _of(table: str, *, null: bool = False, index: bool = False, gone: str | None = None) -> Column[str]:
    """A foreign key named after its table: `user`, `project` and so on."""
    return Column(table, String(32), ForeignKey(f"{table}s.id", ondelete=gone), nullable=null, index=index)


# ---------------------------------------------------------------- people

users = Table(
    "users",
    metadata,
    _key(),
    Column("name", String(64), nullable=False),
    Column("name_key", String(64), nullable=False, unique=True),  # case-folded: Ann and ann are one person
    Column("password", Text, nullable=False),  # argon2id; empty once erased or disabled
    Column("role", String(16), nullable=False),
    Column("language", String(8), nullable=False, server_default="en"),
    Column("group", String(64)),
    Column("demographics", JSON),  # private: seen by the person and, as totals, by managers
    Column("avoids", JSON, nullable=False),  # topics this person does not want to be shown
    Column("created", Float, nullable=False),
    Column("disabled", Float),
    CheckConstraint("role IN ('owner', 'manager', 'annotator', 'chat')", name="role"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of what the cookie holds
    _of("user", index=True, gone="CASCADE"),
    Column("csrf", String(64), nullable=False),
    Column("browser", String(64), nullable=False, server_default=""),  # its family, such as Firefox, Linux
    Column("created", Float, nullable=False),
    Column("seen", Float, nullable=False),
)

factors = Table(
    "factors",
    metadata,
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("secret", String(64), nullable=False),  # base32; it has to be readable, as codes are made from it
    Column("confirmed", Float),  # None: being set up
    Column("last", Integer, nullable=False, server_default="0"),  # newest step whose code was used
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("code", String(64), primary_key=True),  # SHA-256 of 120 random bits
    _of("user", index=True, gone="CASCADE"),
    Column("used", Float),
)

tickets = Table(
    "tickets",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of what the link or the form holds
    _of("user", index=True, gone="CASCADE"),
    Column("purpose", String(16), nullable=False),  # code: the second step of a login; password: a new one
    Column("expires", Float, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    _key(),
    Column("token", String(64), nullable=False, unique=True),  # SHA-256 of what a program sends
    _of("user", index=True, gone="CASCADE"),
    Column("name", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("used", Float),
)

attempts = Table(
    "attempts",
    metadata,
    Column("key", String(96), primary_key=True),  # of a name, or of an address
    Column("failures", Integer, nullable=False),
    Column("last", Float, nullable=False),
)

invitations = Table(
    "invitations",
    metadata,
    Column("token", String(64), primary_key=True),  # SHA-256 of what the link holds
    Column("role", String(16), nullable=False),
    _of("project", null=True, gone="CASCADE"),
    Column("group", String(64)),
    Column("by", String(32), ForeignKey("users.id")),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("used", Float),
    Column("used_by", String(32), ForeignKey("users.id")),
)

facts = Table(
    "facts",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),  # `key`: random, makes the names of annotators in exports
)

erasures = Table(
    "erasures",
    metadata,
    _key(),
    Column("user", String(32), nullable=False),  # the key of a person who is no more
    Column("at", Float, nullable=False),
    Column("found", JSON, nullable=False),  # how much was scrubbed, derived sets rebuilt, models that saw it
)

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("user", String(32)),
    Column("what", String(64), nullable=False),
    Column("about", String(96)),
    Column("detail", JSON),
    Index("ix_events_of", "user", "what"),
)

# ---------------------------------------------------------------- annotation

projects = Table(
    "projects",
    metadata,
    _key(),
    Column("name", String(120), nullable=False),
    Column("kind", JSON, nullable=False),  # a question kind's settings, its `name` among them
    Column("criterion", String(16), nullable=False),
    Column("overlap", Integer, nullable=False),  # annotators an item
    Column("settings", JSON, nullable=False),  # projects.Settings
    Column("by", String(32), ForeignKey("users.id"), nullable=False),
    Column("created", Float, nullable=False),
    Column("closed", Float),
)

members = Table(
    "members",
    metadata,
    _of("project", gone="CASCADE"),
    _of("user", index=True, gone="CASCADE"),
    Column("role", String(16), nullable=False),  # manager, annotator
    Column("qualified", Boolean),  # None: not tested yet
    Column("joined", Float, nullable=False),
    UniqueConstraint("project", "user"),
)

guidelines = Table(
    "guidelines",
    metadata,
    _of("project", gone="CASCADE"),
    Column("version", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("by", String(32), ForeignKey("users.id"), nullable=False),
    Column("created", Float, nullable=False),
    UniqueConstraint("project", "version"),
)

items = Table(
    "items",
    metadata,
    _key(),
    _of("project", gone="CASCADE"),
    Column("place", Integer, nullable=False),
    Column("content", JSON, nullable=False),  # tasks.Content: prompt, answers, steps, critiques
    Column("digest", String(32), nullable=False),  # of the content: the same item is not added twice
    Column("purpose", String(16), nullable=False),  # ordinary, gold, qualification
    Column("expected", JSON),  # the right reply, for gold and qualification
    Column("topics", JSON, nullable=False),  # what to warn of
    Column("priority", Float, nullable=False, server_default="0"),
    Column("taken", Integer, nullable=False, server_default="0"),  # leases that run, and replies given
    Column("done", Integer, nullable=False, server_default="0"),  # replies given
    UniqueConstraint("project", "digest"),
    Index("ix_items_next", "project", "purpose", "taken", text("priority DESC"), "place"),
)

assignments = Table(
    "assignments",
    metadata,
    _key(),
    _of("item", gone="CASCADE"),
    _of("project", gone="CASCADE"),
    _of("user", index=True),
    Column("state", String(16), nullable=False),  # leased, done, skipped, expired
    Column("order", JSON, nullable=False),  # order[k]: index of the answer shown in place k
    Column("leased", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("draft", JSON),
    Column("reason", Text),  # why it was skipped
    UniqueConstraint("item", "user"),
    Index("ix_assignments_mine", "project", "user", "state"),
    Index("ix_assignments_expiring", "project", "state", "expires"),
)

labels = Table(
    "labels",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # a point in time is a seq
    _of("assignment", null=True, gone="CASCADE"),  # none: an adjudicator's decision
    _of("item", index=True, gone="CASCADE"),
    _of("project", index=True, gone="CASCADE"),
    _of("user", index=True),
    Column("version", Integer, nullable=False),  # a correction is a new version; the last one counts
    Column("key", String(64), nullable=False),  # the client's, so that a repeated submit is one label
    Column("reply", JSON, nullable=False),  # by the answers' own indices, whatever order was shown
    Column("order", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("guideline", Integer, nullable=False),
    Column("group", String(64)),
    Column("created", Float, nullable=False),
    UniqueConstraint("user", "key"),
    UniqueConstraint("assignment", "version"),
)

scores = Table(
    "scores",
    metadata,
    _of("item", gone="CASCADE"),
    Column("source", String(64), nullable=False),  # the run that gave them
    Column("values", JSON, nullable=False),  # one for each answer
    Column("created", Float, nullable=False),
    UniqueConstraint("item", "source"),
)

# ---------------------------------------------------------------- chat

conversations = Table(
    "conversations",
    metadata,
    _key(),
    _of("user", index=True, gone="CASCADE"),
    Column("title", String(200), nullable=False),
    Column("model", String(200), nullable=False),
    Column("consent", Boolean, nullable=False, server_default="0"),
    Column("created", Float, nullable=False),
    Column("changed", Float, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    _key(),
    _of("conversation", index=True, gone="CASCADE"),
    Column("parent", String(32)),  # answers that share one are regenerations, questions that share one are edits
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("model", String(200)),
    Column("state", String(16), nullable=False),  # writing, whole, cut, stopped, failed
    Column("left_out", Integer, nullable=False, server_default="0"),  # oldest turns that the model could not read
    Column("problem", Text),  # why it failed
    Column("created", Float, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    _of("conversation", index=True, gone="CASCADE"),
    _of("user", index=True),
    Column("message", String(32), ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    Column("against", String(32), ForeignKey("messages.id", ondelete="CASCADE")),  # none: a thumb
    Column("verdict", String(16), nullable=False),  # better, worse, same; up, down; none: taken back
    Column("reason", Text),
    Column("version", Integer, nullable=False),
    Column("key", String(64), nullable=False),
    Column("created", Float, nullable=False),
    UniqueConstraint("user", "key"),
)

# ---------------------------------------------------------------- the loop

jobs = Table(
    "jobs",
    metadata,
    _key(),
    _of("project", null=True, index=True, gone="SET NULL"),
    Column("by", String(32), ForeignKey("users.id"), nullable=False),
    Column("command", JSON, nullable=False),  # words of a heed command
    Column("upto", Integer),  # newest label it may read
    Column("pid", Integer),
    Column("born", String(64)),  # when that process began, by which another one with its number is told apart
    Column("state", String(16), nullable=False),  # waiting, running, done, failed, stopped
    Column("run", Text),
    Column("note", Text),
    Column("created", Float, nullable=False),
    Column("ended", Float),
)
