"""Tickets: random, used once, short-lived; each lets its holder do one thing in one person's name.

`code` is held between a right password and the code of the second factor, `password` by a link to a new password.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.tables import tickets

Purpose = Literal["code", "password"]
LIFETIME: dict[Purpose, float] = {"code": 300.0, "password": 86400.0}  # seconds


def issue(connection: Connection, now: float, user: str, purpose: Purpose) -> str:
    """A new ticket; another of the same purpose and person does not hold any more."""
    token = secrets.token_urlsafe(32)
    mine = sa.and_(tickets.c.user == user, tickets.c.purpose == purpose)
    connection.execute(sa.delete(tickets).where(sa.or_(mine, tickets.c.expires < now)))
    row = {"token": _digest(token), "user": user, "purpose": purpose, "expires": now + LIFETIME[purpose]}
    connection.execute(sa.insert(tickets).values(row))
    return token


def holder(connection: Connection, now: float, token: str, purpose: Purpose) -> str | None:
    """The key of the person a ticket stands for; None if it does not hold any more."""
    here = sa.and_(tickets.c.token == _digest(token), tickets.c.purpose == purpose, tickets.c.expires >= now)
    row = connection.execute(sa.select(tickets.c.user).where(here)).first()
    return str(row.user) if row is not None else None


def use(connection: Connection, now: float, token: str, purpose: Purpose) -> str | None:
    """Whom a ticket stands for, which is then used up; of two who come at once only one gets an answer."""
    found = holder(connection, now, token, purpose)
    if found is None:
        return None
    gone = connection.execute(sa.delete(tickets).where(tickets.c.token == _digest(token))).rowcount
    return found if gone else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
