"""Patience with wrong passwords and codes: after a few, each further try has to wait twice as long as the last.

Nobody is locked out for good: waiting ends after `FORGET` seconds at most. docs/security.md says what is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.errors import Throttled
from heedlm.feedback.tables import attempts

FORGET = 900.0  # longest wait in seconds, and seconds after which wrong tries are forgotten


def counter(*what: str) -> str:
    """The key under which tries are counted: of a name, an address, or both."""
    return hashlib.sha256("\n".join(what).encode()).hexdigest()


def take(connection: Connection, now: float, allowed: Mapping[str, int]) -> None:
    """Count one try, before it is looked at: tries at the same time cannot slip by one count.

    Args:
        connection: That of a write.
        now: Seconds since 1970.
        allowed: How many tries may fail in a row, by counter, before waiting begins.

    Raises:
        Throttled: It is too early; nothing was counted.
    """
    wait = 0.0
    for row in connection.execute(sa.select(attempts).where(attempts.c.key.in_(allowed))):
        over = row.failures - allowed[row.key]
        if over >= 0 and now - row.last < FORGET:
            wait = max(wait, row.last + min(FORGET, 2.0 ** min(over + 1, 20)) - now)
    if wait > 0:
        raise Throttled(wait)
    connection.execute(sa.delete(attempts).where(attempts.c.last < now - FORGET))
    for key in allowed:
        more = sa.update(attempts).where(attempts.c.key == key).values(failures=attempts.c.failures + 1, last=now)
        if not connection.execute(more).rowcount:
            connection.execute(sa.insert(attempts).values(key=key, failures=1, last=now))


def forget(connection: Connection, keys: Iterable[str]) -> None:
    """A try was right: these counters begin anew."""
    connection.execute(sa.delete(attempts).where(attempts.c.key.in_(list(keys))))


def give_back(connection: Connection, key: str) -> None:
    """A try was right: it does not count, and what failed before it still does."""
    one_less = sa.update(attempts).where(attempts.c.key == key, attempts.c.failures > 0)
    connection.execute(one_less.values(failures=attempts.c.failures - 1))
