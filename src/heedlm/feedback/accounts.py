"""People: names, passwords, invitations, and how one logs in.

Passwords are kept as argon2id; of session and invitation tokens only their SHA-256 is kept, so that who reads the
database cannot use them. Source of the rules: OWASP ASVS 5.0, chapters 6 and 7; docs/security.md has the test of each.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy.engine import Connection

from heedlm.errors import BadInput
from heedlm.feedback import patience, tickets
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import CodeNeeded, Refused
from heedlm.feedback.passwords import why_weak
from heedlm.feedback.second_factor import SecondFactors, is_set
from heedlm.feedback.sessions import IDLE, LONGEST, MOST, digest, key_of
from heedlm.feedback.tables import events, factors, invitations, members, sessions, users
from heedlm.feedback.tables import tickets as open_tickets

Role = Literal["owner", "manager", "annotator", "chat"]
ROLES: tuple[Role, ...] = ("owner", "manager", "annotator", "chat")
LANGUAGES = ("en", "zh")
INVITED = 7 * 86400.0  # seconds that an invitation holds
# Wrong passwords in a row before waiting begins: for a name from an address, from an address, for a name.
PATIENCE, PATIENCE_ADDRESS, PATIENCE_NAME = 5, 20, 20
USUAL = 90 * 86400.0  # seconds for which an address that a person logged in from is a usual one of theirs

_hasher = PasswordHasher()
_hashing = threading.Semaphore(2)  # each takes 64 MiB: many logins at once must not take all memory
_NOBODY = _hasher.hash(secrets.token_hex(16))  # checked when the name is unknown, so that this takes as long


@dataclass(frozen=True)
class User:
    """A person who may log in."""

    id: str
    name: str
    role: Role
    language: str = "en"
    group: str | None = None
    avoids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Session:
    """A person who is logged in; `csrf` is what their forms must carry, `key` names the session."""

    user: User
    csrf: str
    key: str = ""


class Accounts:
    """The people of a feedback database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.second = SecondFactors(database)

    # ------------------------------------------------------------ making and changing

    def create(self, name: str, password: str, role: Role, *, language: str = "en", group: str | None = None) -> User:
        """A new person.

        Raises:
            BadInput: The name cannot be used or is taken, the password is weak, or there is no such role.
        """
        hashed = _hashed(password, clean_name(name))
        with self.database.write() as connection:
            return self._create(connection, name, hashed, role, language, group)

    def _create(
        self, connection: Connection, name: str, hashed: str, role: Role, language: str, group: str | None
    ) -> User:
        name = clean_name(name)
        if role not in ROLES:
            raise BadInput(f"role={role!r}: must be one of {', '.join(ROLES)}")
        if connection.execute(sa.select(users.c.id).where(users.c.name_key == _key_of(name))).first():
            raise BadInput(f"name {name!r}: is taken")
        key, tongue = new_key(), language if language in LANGUAGES else "en"
        row: dict[str, Any] = {
            "id": key,
            "name": name,
            "name_key": _key_of(name),
            "password": hashed,
            "role": role,
            "language": tongue,
            "group": group,
            "avoids": [],
            "created": self.database.now(),
        }
        connection.execute(sa.insert(users).values(row))
        self.note(connection, key, "user created", key, {"role": role})
        return User(key, name, role, tongue, group)

    def set_password(self, user: str, new: str) -> None:
        """A new password, which ends every session of that person; whoever calls has made sure of who asks.

        Raises:
            Refused: There is no such person.
            BadInput: The password is weak.
        """
        with self.database.read() as connection:
            found = connection.execute(sa.select(users.c.name).where(users.c.id == user)).first()
        if found is None:
            raise Refused("there is no such person")
        hashed = _hashed(new, found.name)
        with self.database.write() as connection:
            connection.execute(sa.update(users).where(users.c.id == user).values(password=hashed))
            connection.execute(sa.delete(sessions).where(sessions.c.user == user))
            connection.execute(sa.delete(open_tickets).where(open_tickets.c.user == user))
            self.note(connection, user, "password changed", user)

    def reset_link(self, by: User, user: str) -> str:
        """A token by which one person may choose a new password, once and within 24 hours.

        Raises:
            Refused: Only owners make one, and only for a person who may log in.
        """
        with self.database.write() as connection:
            here = sa.and_(users.c.id == user, users.c.disabled.is_(None))
            if by.role != "owner" or not connection.execute(sa.select(users.c.id).where(here)).first():
                raise Refused("there is no such person")
            self.note(connection, by.id, "password link made", user)
            return tickets.issue(connection, self.database.now(), user, "password")

    def reset_for(self, token: str) -> str | None:
        """The name of the person whose password a token lets one choose; None if it does not hold any more."""
        with self.database.read() as connection:
            user = tickets.holder(connection, self.database.now(), token, "password")
            row = connection.execute(sa.select(users.c.name).where(users.c.id == user)).first()
        return str(row.name) if row is not None else None

    def reset(self, token: str, new: str) -> None:
        """Choose a new password; it opens no session, and a second factor is asked for as before.

        Raises:
            Refused: The token does not hold any more.
            BadInput: The password is weak; the token still holds.
        """
        name = self.reset_for(token)
        reason = why_weak(new, name or "")
        if name is not None and reason:
            raise BadInput(f"password: {reason}")
        with self.database.write() as connection:
            user = tickets.use(connection, self.database.now(), token, "password")
        if user is None:
            raise Refused("this link does not hold any more: ask for a new one")
        self.set_password(user, new)

    def change(self, user: str, values: Mapping[str, Any]) -> None:
        """Set a person's own preferences: language, demographics, topics they avoid."""
        allowed = {name: values[name] for name in ("language", "demographics", "avoids", "group") if name in values}
        if allowed.get("language", "en") not in LANGUAGES:
            raise BadInput(f"language: must be one of {', '.join(LANGUAGES)}")
        with self.database.write() as connection:
            connection.execute(sa.update(users).where(users.c.id == user).values(allowed))

    def set_role(self, by: User, user: str, role: Role) -> None:
        """Give a person another role; the last owner stays one.

        Raises:
            Refused: Only owners may, or there is no such person.
            BadInput: Nobody would be owner any more.
        """
        if by.role != "owner":
            raise Refused("only an owner gives roles")
        if role not in ROLES:
            raise BadInput(f"role={role!r}: must be one of {', '.join(ROLES)}")
        with self.database.write() as connection:
            self._not_the_last_owner(connection, user, role)
            if not connection.execute(sa.update(users).where(users.c.id == user).values(role=role)).rowcount:
                raise Refused("there is no such person")
            connection.execute(sa.delete(sessions).where(sessions.c.user == user))
            self.note(connection, by.id, "role given", user, {"role": role})

    def disable(self, by: User, user: str, *, again: bool = False) -> None:
        """Shut a person out, at once; with `again` let them back in."""
        if by.role != "owner":
            raise Refused("only an owner does that")
        with self.database.write() as connection:
            self._not_the_last_owner(connection, user, None)
            at = None if again else self.database.now()
            if not connection.execute(sa.update(users).where(users.c.id == user).values(disabled=at)).rowcount:
                raise Refused("there is no such person")
            connection.execute(sa.delete(sessions).where(sessions.c.user == user))
            self.note(connection, by.id, "user enabled" if again else "user disabled", user)

    def _not_the_last_owner(self, connection: Connection, user: str, role: str | None) -> None:
        owners = sa.select(users.c.id).where(users.c.role == "owner", users.c.disabled.is_(None))
        if role != "owner" and [row.id for row in connection.execute(owners)] == [user]:
            raise BadInput("this is the last owner: make somebody else owner first")

    # ------------------------------------------------------------ logging in

    def check(self, name: str, password: str, address: str) -> User:
        """Who it is, if the password is theirs. Everything that takes a password comes through here.

        Tries are counted for a name from an address, for an address, and for a name from all addresses but those
        the person has logged in from lately: nobody elsewhere can make somebody wait at their usual place.

        Raises:
            Throttled: Too many wrong passwords; this one was not looked at.
            Refused: Name or password is wrong; which of the two is not told.
        """
        by_address = patience.counter("address", address)
        here, everywhere = patience.counter("here", _key_of(name), address), patience.counter("name", _key_of(name))
        with self.database.write() as connection:
            found = connection.execute(sa.select(users).where(users.c.name_key == _key_of(name))).first()
            allowed = {by_address: PATIENCE_ADDRESS, here: PATIENCE}
            if found is None or not self._usual(connection, found.id, address):
                allowed[everywhere] = PATIENCE_NAME
            patience.take(connection, self.database.now(), allowed)
        with _hashing:
            right = _matches(found.password if found is not None else _NOBODY, password)
        if found is None or not right or found.disabled is not None:
            with self.database.write() as connection:
                self.note(connection, found.id if found is not None else None, "login failed", address)
            raise Refused("name or password is wrong")
        with self.database.write() as connection:
            patience.forget(connection, [here, everywhere])
            patience.give_back(connection, by_address)
            if _hasher.check_needs_rehash(found.password):
                again = {"password": _hasher.hash(password)}
                connection.execute(sa.update(users).where(users.c.id == found.id).values(again))
        return _user(found)

    def login(self, name: str, password: str, address: str, browser: str = "") -> tuple[str, Session]:
        """Check a password and open a session; returns the token for the cookie.

        Raises:
            CodeNeeded: The password is right, and this person has a second factor: `login_with_code` goes on.
            Throttled: Too many wrong passwords; the password was not looked at.
            Refused: Name or password is wrong; which of the two is not told.
        """
        user = self.check(name, password, address)
        with self.database.write() as connection:
            if not is_set(connection, user.id):
                return self._open(connection, user.id, address, browser)
            ticket = tickets.issue(connection, self.database.now(), user.id, "code")
        raise CodeNeeded(ticket)

    def login_with_code(self, ticket: str, code: str, address: str, browser: str = "") -> tuple[str, Session]:
        """The second step of logging in.

        Raises:
            Throttled: Too many wrong codes; this one was not looked at.
            Refused: The code is wrong, which leaves the ticket as it is; or the ticket does not hold any more.
        """
        with self.database.read() as connection:
            user = tickets.holder(connection, self.database.now(), ticket, "code")
        if user is None:
            raise Refused("this took too long: log in again")
        self.second.check(user, code)
        with self.database.write() as connection:
            if tickets.use(connection, self.database.now(), ticket, "code") is None:
                raise Refused("this took too long: log in again")
            return self._open(connection, user, address, browser)

    def _usual(self, connection: Connection, user: str, address: str) -> bool:
        lately = events.c.at > self.database.now() - USUAL
        logins = sa.and_(events.c.user == user, events.c.what == "login", events.c.about == address, lately)
        return connection.execute(sa.select(events.c.seq).where(logins).limit(1)).first() is not None

    def _open(self, connection: Connection, user: str, address: str, browser: str) -> tuple[str, Session]:
        row = connection.execute(sa.select(users).where(users.c.id == user, users.c.disabled.is_(None))).first()
        if row is None:
            raise Refused("name or password is wrong")
        token, csrf, now = secrets.token_urlsafe(32), secrets.token_urlsafe(32), self.database.now()
        connection.execute(sa.delete(sessions).where(sessions.c.seen < now - IDLE))
        mine = sa.select(sessions.c.token).where(sessions.c.user == user).order_by(sessions.c.seen.desc())
        too_many = [each.token for each in connection.execute(mine.offset(MOST - 1))]
        connection.execute(sa.delete(sessions).where(sessions.c.token.in_(too_many)))
        values = {"token": digest(token), "user": user, "csrf": csrf, "created": now, "seen": now}
        connection.execute(sa.insert(sessions).values(values | {"browser": browser[:64]}))
        self.note(connection, user, "login", address)
        return token, Session(_user(row), csrf, key_of(token))

    def session(self, token: str) -> Session | None:
        """Who holds this token; None if nobody does any more."""
        now, kept = self.database.now(), digest(token)
        query = sa.select(users, sessions.c.csrf, sessions.c.created.label("opened"), sessions.c.seen).join(
            sessions, sessions.c.user == users.c.id
        )
        with self.database.read() as connection:
            row = connection.execute(query.where(sessions.c.token == kept, users.c.disabled.is_(None))).first()
        if row is None or now - row.seen > IDLE or now - row.opened > LONGEST:
            return None
        if now - row.seen > 60:  # not at every request: each would be a write
            with self.database.write() as connection:
                connection.execute(sa.update(sessions).where(sessions.c.token == kept).values(seen=now))
        return Session(_user(row), row.csrf, key_of(token))

    def logout(self, token: str) -> None:
        """End a session."""
        with self.database.write() as connection:
            connection.execute(sa.delete(sessions).where(sessions.c.token == digest(token)))

    # ------------------------------------------------------------ inviting

    def invite(self, by: User | None, role: Role, project: str | None = None, group: str | None = None) -> str:
        """A token that lets one person make an account, within `INVITED` seconds. `by` None: the command line.

        Raises:
            Refused: Managers invite annotators and chat users into their projects; owners anybody.
            BadInput: There is no such role.
        """
        if role not in ROLES:
            raise BadInput(f"role={role!r}: must be one of {', '.join(ROLES)}")
        if by is not None and by.role != "owner" and not (by.role == "manager" and role in ("annotator", "chat")):
            raise Refused(f"a {by.role} does not invite a {role}")
        token, now = secrets.token_urlsafe(32), self.database.now()
        with self.database.write() as connection:
            connection.execute(
                sa.insert(invitations).values(
                    token=digest(token),
                    role=role,
                    project=project,
                    group=group,
                    by=by.id if by else None,
                    created=now,
                    expires=now + INVITED,
                )
            )
            self.note(connection, by.id if by else None, "invited", project, {"role": role})
        return token

    def invitation(self, token: str) -> Role | None:
        """The role that a token promises; None if it promises nothing any more."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(invitations).where(invitations.c.token == digest(token))).first()
        if row is None or row.used is not None or row.expires < self.database.now():
            return None
        role: Role = row.role
        return role

    def accept(self, token: str, name: str, password: str, language: str = "en") -> User:
        """Make the account that an invitation promises.

        Raises:
            Refused: The invitation is used up, too old or none.
            BadInput: Name or password cannot be used; the invitation still holds.
        """
        void = Refused("this invitation does not hold any more: ask for a new one")
        if self.invitation(token) is None:
            raise void
        hashed = _hashed(password, clean_name(name))
        with self.database.write() as connection:
            now = self.database.now()
            row = connection.execute(sa.select(invitations).where(invitations.c.token == digest(token))).first()
            if row is None or row.used is not None or row.expires < now:
                raise void
            user = self._create(connection, name, hashed, row.role, language, row.group)
            used = sa.update(invitations).where(invitations.c.token == row.token)
            connection.execute(used.values(used=now, used_by=user.id))
            if row.project is not None:
                role = "manager" if row.role in ("owner", "manager") else "annotator"
                values = {"project": row.project, "user": user.id, "role": role, "joined": now}
                connection.execute(sa.insert(members).values(values))
            return user

    # ------------------------------------------------------------ looking

    def find(self, name: str) -> User | None:
        """The person of that name."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(users).where(users.c.name_key == _key_of(name))).first()
        return _user(row) if row is not None else None

    def demographics(self, user: str) -> dict[str, str]:
        """What a person told of themselves; for nobody else's eyes."""
        with self.database.read() as connection:
            row = connection.execute(sa.select(users.c.demographics).where(users.c.id == user)).first()
        return dict(row.demographics or {}) if row is not None else {}

    def everybody(self) -> Sequence[Mapping[str, Any]]:
        """All people, in order of name; without passwords and private facts."""
        shown = [users.c[name] for name in ("id", "name", "role", "language", "group", "created", "disabled")]
        two = sa.exists().where(factors.c.user == users.c.id, factors.c.confirmed.is_not(None)).label("second_factor")
        with self.database.read() as connection:
            found = connection.execute(sa.select(*shown, two).order_by(users.c.name_key))
            return [dict(row) for row in found.mappings()]

    def note(
        self, connection: Connection, user: str | None, what: str, about: str | None = None, detail: Any = None
    ) -> None:
        """Write into the log of what happened; never a password, token or label."""
        row = {"at": self.database.now(), "user": user, "what": what, "about": about, "detail": detail}
        connection.execute(sa.insert(events).values(row))


def clean_name(name: str) -> str:
    """A name as it is kept.

    Raises:
        BadInput: It is empty, too long, or holds characters that cannot be seen.
    """
    name = unicodedata.normalize("NFKC", name).strip()
    if not 1 <= len(name) <= 64:
        raise BadInput("name: must have 1 to 64 characters")
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for character in name):
        raise BadInput("name: must not hold characters that cannot be seen")
    return name


def _key_of(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()[:64]


def _hashed(password: str, name: str) -> str:
    reason = why_weak(password, name)
    if reason:
        raise BadInput(f"password: {reason}")
    with _hashing:
        return _hasher.hash(password)


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


def _user(row: Any) -> User:
    return User(row.id, row.name, row.role, row.language, row.group, tuple(row.avoids or ()))
