"""The feedback database: SQLite in a file, or PostgreSQL by URL; opened, migrated, read and written in one way.

Every write is one transaction and waits its turn behind a lock, in SQLite (BEGIN IMMEDIATE) as in PostgreSQL (an
advisory lock), so that what a write reads cannot change under it. SQLite runs in WAL mode with synchronous=FULL on
every connection: what was acknowledged survives a killed process and a lost power supply.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError

from heedlm.errors import BadInput

PRAGMAS = {"journal_mode": "wal", "synchronous": "full", "foreign_keys": "on", "busy_timeout": "10000"}
_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITERS = 7_300_451  # the advisory lock that writers take in PostgreSQL; any number of our own does


def new_key() -> str:
    """A random key (96 bits) for a row."""
    return secrets.token_hex(12)


class Database:
    """An open feedback database.

    Args:
        url: `sqlite:///feedback.db`, a bare path of a file, or `postgresql://user@host/name`.
        clock: Seconds since 1970; tests give their own.
        form: Revision that new tables are made in, for rows of an older Heed; the newest if not given.

    Raises:
        BadInput: It cannot be opened, or a newer Heed has written it.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time, form: str | None = None) -> None:
        self.url = _url(url)
        self.now = clock
        self._turn = threading.Lock()
        self.engine = _engine(self.url)
        try:
            self.migrate(form)
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self.url.database) if self.url.get_backend_name() == "sqlite" and self.url.database else None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a transaction of its own; committed at the end, undone on an exception."""
        with self._turn, self.engine.connect() as connection:
            connection = connection.execution_options(heed_writes=True)
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS)))
                yield connection

    def close(self) -> None:
        """Give back every connection."""
        self.engine.dispose()

    def migrate(self, form: str | None = None) -> None:
        """Bring the tables up to date. A database from the future is left alone.

        Args:
            form: Revision to make new tables in; tables that are there are then left as they are.

        Raises:
            BadInput: It cannot be opened, or a newer Heed has written it.
        """
        alembic = _alembic()
        try:
            with self.write() as connection:
                found = MigrationContext.configure(connection).get_current_revision()
                if found == forms()[-1] or (found is not None and form is not None):
                    return
                if found is not None and found not in forms():
                    raise BadInput(f"{self}: written by a newer Heed (revision {found}); upgrade heedlm to open it")
                alembic.attributes["connection"] = connection
                command.upgrade(alembic, form or "head")
        except OperationalError as error:
            raise BadInput(f"{self}: cannot be opened: {str(error.orig).splitlines()[0]}") from None
        except (CommandError, sa.exc.DatabaseError) as error:
            raise BadInput(f"{self}: is not a database of Heed's: {str(error).splitlines()[0]}") from None

    def __str__(self) -> str:
        return str(self.file) if self.file else self.url.render_as_string(hide_password=True)


def _alembic() -> AlembicConfig:
    alembic = AlembicConfig()
    alembic.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return alembic


@cache
def forms() -> tuple[str, ...]:
    """The revisions that tables have had, oldest first."""
    found = [each.revision for each in ScriptDirectory.from_config(_alembic()).walk_revisions()]
    return tuple(found[::-1])


def open_existing(url: str) -> Database:
    """A database that is there already: where one is only read, a mistyped path must not make another.

    Raises:
        BadInput: There is none.
    """
    file = Path(str(make_url(url).database)) if url.startswith("sqlite:") else Path(url)
    if ("://" not in url or url.startswith("sqlite:")) and not file.is_file():
        raise BadInput(f"{file}: there is no database")
    return Database(url)


def _url(text: str) -> URL:
    """The URL, or one made from a bare path."""
    try:
        url = make_url(text if "://" in text else f"sqlite:///{text}")
    except ArgumentError:
        raise BadInput(f"database={text!r}: is neither a path nor a URL such as postgresql://user@host/name") from None
    backend = url.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise BadInput(f"database={backend}://…: only sqlite and postgresql are known")
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise BadInput("database: labels must not live in memory alone: give the path of a file")
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return url.set(drivername="postgresql+psycopg") if backend == "postgresql" else url


def _engine(url: URL) -> Engine:
    """An engine whose connections are set up as the first lines of this file promise."""
    if url.get_backend_name() == "postgresql":
        try:
            return sa.create_engine(url, pool_size=10, max_overflow=30, pool_pre_ping=True)
        except ModuleNotFoundError:
            raise BadInput("PostgreSQL needs its driver: pip install 'heedlm[postgresql]'") from None
    engine = sa.create_engine(url, pool_size=10, max_overflow=50, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where sqlite3 guesses
        for name, value in PRAGMAS.items():
            connection.execute(f"PRAGMA {name} = {value}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("heed_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of an SQLite database, also while it is written to; `target` appears whole or not at all.

    Raises:
        BadInput: There is nothing to copy, `target` exists, or the copy is not sound.
    """
    if not source.is_file():
        raise BadInput(f"{source}: there is no database")
    if target.exists():
        raise BadInput(f"{target}: exists already; nothing is overwritten, choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        first, second = sqlite3.connect(f"file:{source}?mode=ro", uri=True), sqlite3.connect(unfinished)
        with first, second:
            first.backup(second)
            (verdict,) = second.execute("PRAGMA integrity_check").fetchone()
        first.close()
        second.close()
        if verdict != "ok":
            raise BadInput(f"{source}: is damaged: {verdict}")
        unfinished.rename(target)
    except sqlite3.DatabaseError as error:
        raise BadInput(f"{source}: cannot be copied: {error}") from None
    finally:
        for end in ("", "-wal", "-shm", "-journal"):
            unfinished.with_name(unfinished.name + end).unlink(missing_ok=True)
