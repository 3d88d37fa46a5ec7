"""Sessions as their person sees them, and their end. `accounts` opens and recognises them.

A session's key is the beginning of the SHA-256 of its token: enough to name it, of no use to take it over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from heedlm.feedback.database import Database
from heedlm.feedback.tables import events, sessions

IDLE, LONGEST = 12 * 3600.0, 14 * 86400.0  # seconds until a session ends by itself: unused, and at all
MOST = 20  # sessions of one person; the one that was unused for longest makes room
_KEY = 16  # hexadecimal digits


@dataclass(frozen=True)
class Opened:
    """A session of one's own.

    Attributes:
        key: By which it is ended.
        browser: Family of the browser and its system, as it named itself.
        created: When it was opened, in seconds since 1970.
        seen: When it was used last, to the minute.
    """

    key: str
    browser: str
    created: float
    seen: float


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def key_of(token: str) -> str:
    """The key of the session that a cookie's token belongs to."""
    return digest(token)[:_KEY]


def mine(database: Database, user: str) -> list[Opened]:
    """A person's sessions that have not ended, the one used last first."""
    now = database.now()
    runs = sa.and_(sessions.c.seen > now - IDLE, sessions.c.created > now - LONGEST)
    query = sa.select(sessions).where(sessions.c.user == user, runs).order_by(sessions.c.seen.desc(), sessions.c.token)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [Opened(row.token[:_KEY], row.browser, row.created, row.seen) for row in rows]


def end(database: Database, user: str, keys: Sequence[str]) -> int:
    """End those of a person's sessions that have these keys; returns how many there were."""
    with database.write() as connection:
        here = sa.func.substr(sessions.c.token, 1, _KEY).in_(list(keys))
        return connection.execute(sa.delete(sessions).where(sessions.c.user == user, here)).rowcount


def end_all(database: Database, user: str, by: str, keep: str | None = None) -> int:
    """End every session of a person, but the one that has the key `keep`; returns how many there were."""
    with database.write() as connection:
        others = sa.func.substr(sessions.c.token, 1, _KEY) != keep if keep else sa.true()
        count = connection.execute(sa.delete(sessions).where(sessions.c.user == user, others)).rowcount
        row = {"at": database.now(), "user": by, "what": "sessions ended", "about": user, "detail": {"count": count}}
        connection.execute(sa.insert(events).values(row))
    return count
