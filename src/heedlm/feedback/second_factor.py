"""The second factor: one-time passwords by time (RFC 6238, RFC 4226), and recovery codes for a lost telephone.

A code holds for its step of 30 seconds and, for clocks that are off, the step before and after it; each is taken once.
The secret has to be readable, as codes are made from it. Of a recovery code, 120 random bits, only the SHA-256 is kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback import patience
from heedlm.feedback.database import Database
from heedlm.feedback.errors import Conflict, Refused
from heedlm.feedback.tables import events, factors, recovery_codes, sessions

STEP, DIGITS, DRIFT = 30, 6, 1  # seconds a code, its digits, steps that a clock may be off
RECOVERY_CODES = 10
WRONG_CODES = 5  # wrong codes in a row before waiting begins


def one_time_password(secret: bytes, step: int, digits: int = DIGITS, algorithm: str = "sha1") -> str:
    """The code of a step: HOTP (RFC 4226, section 5.3) of the number of steps since 1970 (RFC 6238, section 4.2).

    Args:
        secret: What telephone and server share.
        step: Steps of 30 seconds since 1970.
        digits: How long the code is.
        algorithm: sha1, which all authenticator apps know, sha256 or sha512.
    """
    digest = hmac.new(secret, struct.pack(">Q", step), algorithm).digest()
    (number,) = struct.unpack_from(">I", digest, digest[-1] & 15)
    return str((number & 0x7FFFFFFF) % 10**digits).zfill(digits)


def address(secret: str, name: str, site: str) -> str:
    """What an authenticator app reads from the picture: an otpauth: address. Long names are cut, to fit into it."""
    whose, where = quote(name[:16], safe=""), quote(site[:16], safe="")
    return f"otpauth://totp/{where}:{whose}?secret={secret}&issuer={where}"


class SecondFactors:
    """Second factors of the people of a feedback database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # ------------------------------------------------------------ setting up

    def begin(self, user: str) -> str:
        """A new secret in base32, which counts once `confirm` has seen a code made from it.

        Raises:
            Conflict: This person has a second factor.
        """
        secret = base64.b32encode(secrets.token_bytes(20)).decode()
        with self.database.write() as connection:
            if is_set(connection, user):
                raise Conflict("there is a second factor: remove it first")
            connection.execute(sa.delete(factors).where(factors.c.user == user))
            connection.execute(sa.insert(factors).values(user=user, secret=secret, last=0))
        return secret

    def pending(self, user: str) -> str | None:
        """The secret that is being set up; None if none is."""
        query = sa.select(factors.c.secret).where(factors.c.user == user, factors.c.confirmed.is_(None))
        with self.database.read() as connection:
            row = connection.execute(query).first()
        return str(row.secret) if row is not None else None

    def confirm(self, user: str, code: str, keep: str | None = None) -> list[str]:
        """Make the pending secret count; returns the recovery codes, which are told this once.

        Args:
            user: Key of the person.
            code: What the authenticator app shows.
            keep: The session (its key) that goes on; all others end.

        Raises:
            Throttled: Too many wrong codes.
            Refused: The code is wrong, or nothing is being set up.
        """
        self._count(user)
        with self.database.write() as connection:
            row = connection.execute(sa.select(factors).where(factors.c.user == user)).first()
            step = self._step(row.secret, row.last, code) if row is not None and row.confirmed is None else None
            if step is None:
                raise Refused("the code is wrong")
            now = self.database.now()
            connection.execute(sa.update(factors).where(factors.c.user == user).values(confirmed=now, last=step))
            patience.forget(connection, [_counter(user)])
            _end_others(connection, user, keep)
            self._note(connection, user, "second factor set up")
            return _new_codes(connection, user)

    # ------------------------------------------------------------ using

    def has(self, user: str) -> bool:
        """Whether a second factor is asked of this person."""
        with self.database.read() as connection:
            return is_set(connection, user)

    def codes_left(self, user: str) -> int:
        """How many recovery codes were not used yet."""
        unused = sa.and_(recovery_codes.c.user == user, recovery_codes.c.used.is_(None))
        with self.database.read() as connection:
            return connection.execute(sa.select(sa.func.count()).where(unused)).scalar() or 0

    def check(self, user: str, code: str) -> None:
        """Take a code of the app or a recovery code; neither is taken twice.

        Raises:
            Throttled: Too many wrong codes; this one was not looked at.
            Refused: It is wrong, or was used already.
        """
        self._count(user)
        with self.database.write() as connection:
            row = connection.execute(sa.select(factors).where(factors.c.user == user)).first()
            if row is None or row.confirmed is None:
                raise Refused("the code is wrong")
            step = self._step(row.secret, row.last, code)
            if step is not None:
                connection.execute(sa.update(factors).where(factors.c.user == user).values(last=step))
            else:
                here = sa.and_(recovery_codes.c.code == _digest(code), recovery_codes.c.user == user)
                used = sa.update(recovery_codes).where(here, recovery_codes.c.used.is_(None))
                if not connection.execute(used.values(used=self.database.now())).rowcount:
                    raise Refused("the code is wrong")
                self._note(connection, user, "recovery code used")
            patience.forget(connection, [_counter(user)])

    def new_codes(self, user: str) -> list[str]:
        """Ten new recovery codes; the old ones do not hold any more.

        Raises:
            Refused: This person has no second factor.
        """
        with self.database.write() as connection:
            if not is_set(connection, user):
                raise Refused("there is no second factor")
            self._note(connection, user, "recovery codes made")
            return _new_codes(connection, user)

    def remove(self, user: str, by: str | None, keep: str | None = None) -> bool:
        """Remove a second factor and end the person's sessions, but `keep`; returns whether there was one."""
        with self.database.write() as connection:
            found = is_set(connection, user)
            connection.execute(sa.delete(factors).where(factors.c.user == user))
            connection.execute(sa.delete(recovery_codes).where(recovery_codes.c.user == user))
            _end_others(connection, user, keep)
            if found:
                self._note(connection, by, "second factor removed", user)
        return found

    def _count(self, user: str) -> None:
        with self.database.write() as connection:
            patience.take(connection, self.database.now(), {_counter(user): WRONG_CODES})

    def _step(self, secret: str, last: int, code: str) -> int | None:
        """The step that a code belongs to; None if it is wrong or that step was used."""
        now, given = int(self.database.now()) // STEP, _plain(code)
        found = None
        for step in range(now - DRIFT, now + DRIFT + 1):
            if hmac.compare_digest(one_time_password(base64.b32decode(secret), step), given) and step > last:
                found = step
        return found

    def _note(self, connection: Connection, by: str | None, what: str, about: str | None = None) -> None:
        row = {"at": self.database.now(), "user": by, "what": what, "about": about or by}
        connection.execute(sa.insert(events).values(row))


def is_set(connection: Connection, user: str) -> bool:
    """Whether this person has a second factor that counts."""
    query = sa.select(factors.c.user).where(factors.c.user == user, factors.c.confirmed.is_not(None))
    return connection.execute(query).first() is not None


def _new_codes(connection: Connection, user: str) -> list[str]:
    connection.execute(sa.delete(recovery_codes).where(recovery_codes.c.user == user))
    made = [base64.b32encode(secrets.token_bytes(15)).decode() for _ in range(RECOVERY_CODES)]
    connection.execute(sa.insert(recovery_codes), [{"code": _digest(code), "user": user} for code in made])
    return ["-".join(code[i : i + 4] for i in range(0, len(code), 4)) for code in made]


def _end_others(connection: Connection, user: str, keep: str | None) -> None:
    others = sa.func.substr(sessions.c.token, 1, len(keep)) != keep if keep else sa.true()
    connection.execute(sa.delete(sessions).where(sessions.c.user == user, others))


def _counter(user: str) -> str:
    return patience.counter("code", user)


def _plain(code: str) -> str:
    """A code as it is compared: without the spaces and hyphens that people type, in ASCII or not a code at all."""
    plain = "".join(code.split()).replace("-", "").upper()
    return plain if plain.isascii() else ""


def _digest(code: str) -> str:
    return hashlib.sha256(_plain(code).encode()).hexdigest()
