"""Personal tokens, by which programs call the API in a person's name. Only their SHA-256 is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import BadInput, Refused
from heedlm.feedback.tables import events, tokens, users

MOST = 20  # tokens that one person may have
_SEEN = 3600.0  # seconds within which a use is not written down again


@dataclass(frozen=True)
class Token:
    """A token as its person sees it: never the token itself."""

    id: str
    name: str
    created: float
    used: float | None


class Tokens:
    """The tokens of a feedback database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def make(self, user: User, name: str) -> str:
        """A new token, which is told this once.

        Raises:
            BadInput: It has no name, or this person has too many.
        """
        name = " ".join(name.split())
        if not 1 <= len(name) <= 64:
            raise BadInput("name: must have 1 to 64 characters")
        token, now = f"heed-{secrets.token_urlsafe(32)}", self.database.now()
        with self.database.write() as connection:
            mine = sa.select(sa.func.count()).where(tokens.c.user == user.id)
            if (connection.execute(mine).scalar() or 0) >= MOST:
                raise BadInput(f"you have {MOST} tokens: revoke one first")
            row = {"id": new_key(), "token": _digest(token), "user": user.id, "name": name, "created": now}
            connection.execute(sa.insert(tokens).values(row))
            connection.execute(sa.insert(events).values(at=now, user=user.id, what="token made", about=row["id"]))
        return token

    def user(self, token: str) -> User | None:
        """Whose token this is; None if it is nobody's, or that person is shut out."""
        query = sa.select(users, tokens.c.id.label("key"), tokens.c.used).join(tokens, tokens.c.user == users.c.id)
        with self.database.read() as connection:
            row = connection.execute(query.where(tokens.c.token == _digest(token), users.c.disabled.is_(None))).first()
        if row is None:
            return None
        now = self.database.now()
        if row.used is None or now - row.used > _SEEN:
            with self.database.write() as connection:
                connection.execute(sa.update(tokens).where(tokens.c.id == row.key).values(used=now))
        return User(row.id, row.name, row.role, row.language, row.group, tuple(row.avoids or ()))

    def mine(self, user: User) -> list[Token]:
        """A person's tokens, the newest first."""
        query = sa.select(tokens).where(tokens.c.user == user.id).order_by(tokens.c.created.desc(), tokens.c.id)
        with self.database.read() as connection:
            return [Token(row.id, row.name, row.created, row.used) for row in connection.execute(query)]

    def entry(self, token: str) -> Token:
        """What the list of a person's tokens says of one."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(tokens).where(tokens.c.token == _digest(token))).one()
        return Token(row.id, row.name, row.created, row.used)

    def revoke(self, user: User, token: str) -> None:
        """Make a token (its key) void.

        Raises:
            Refused: It is not there, or not theirs.
        """
        with self.database.write() as connection:
            here = sa.and_(tokens.c.id == token, tokens.c.user == user.id)
            if not connection.execute(sa.delete(tokens).where(here)).rowcount:
                raise Refused("there is no such token")
            now = self.database.now()
            connection.execute(sa.insert(events).values(at=now, user=user.id, what="token revoked", about=token))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
