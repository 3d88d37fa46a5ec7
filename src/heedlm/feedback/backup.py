"""Backups: a copy of an SQLite file, or every row of any database as JSON lines, which any other can be filled from."""

from __future__ import annotations

import gzip
import json
import secrets
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import SQLAlchemyError

from heedlm.errors import BadInput
from heedlm.feedback.database import Database, copy_database, forms, open_existing
from heedlm.feedback.export import key_of
from heedlm.feedback.source import is_database
from heedlm.feedback.tables import metadata
from heedlm.records.writing import whole_file

FORMAT = 1
_AT_ONCE = 1000  # rows inserted together


def backup(url: str, to: Path) -> dict[str, int]:
    """Save a database while it is in use: as a file of SQLite's, or as rows where `to` ends in .jsonl or .jsonl.gz.

    Returns:
        Rows by table.

    Raises:
        BadInput: The database cannot be read, is damaged, or `to` exists.
    """
    if to.exists():
        raise BadInput(f"{to}: exists already; nothing is overwritten, choose another name")
    rows_only = to.name.endswith((".jsonl", ".jsonl.gz"))
    database = open_existing(url)
    try:
        key_of(database)  # made now if it was not needed yet: the copy has to call people by the same names
        if rows_only:
            return _dump(database, to)
        if database.file is None:
            raise BadInput(f"to={to}: of PostgreSQL the rows are saved: let the name end in .jsonl.gz (or use pg_dump)")
        copy_database(database.file, to)
    finally:
        database.close()
    return _counts(str(to))


def restore(source: Path, to: str) -> dict[str, int]:
    """Fill a new database from a backup of either form.

    Returns:
        Rows by table.

    Raises:
        BadInput: The backup is damaged or from a newer Heed, or there is a database at `to` already.
    """
    if not source.is_file():
        raise BadInput(f"{source}: there is no backup")
    if "://" in to:
        if is_database(str(source)):
            raise BadInput(
                f"{source}: is a file of SQLite's; save it as rows first: heed backup {source} to=….jsonl.gz"
            )
        return _fill(to, source)
    target = Path(to)
    if target.exists():
        raise BadInput(f"{target}: exists already; nothing is overwritten, choose another name")
    if is_database(str(source)):
        copy_database(source, target)
        return _counts(to)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        counts = _fill(str(unfinished), source)
        unfinished.rename(target)
    finally:
        for end in ("", "-wal", "-shm"):
            unfinished.with_name(unfinished.name + end).unlink(missing_ok=True)
    return counts


def _dump(database: Database, to: Path) -> dict[str, int]:
    """One JSON line for what it is, and one for each row, all of one moment."""
    counts: dict[str, int] = {}
    connection = database.engine.connect()
    if connection.dialect.name == "postgresql":
        connection = connection.execution_options(isolation_level="REPEATABLE READ")
    with connection, connection.begin(), whole_file(to) as file:
        revision = MigrationContext.configure(connection).get_current_revision()
        tables = metadata.sorted_tables
        counts = {table.name: _count(connection, table) for table in tables}
        head = {"heed_backup": FORMAT, "revision": revision, "at": database.now(), "rows": counts}
        file.write(_line(head))
        for table in tables:
            for row in connection.execute(sa.select(table)).mappings():
                file.write(_line({"table": table.name, "row": dict(row)}))
    return counts


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _fill(url: str, source: Path) -> dict[str, int]:
    """Insert every row in one transaction, after a look at what is there and before one at what arrived.

    Rows of an older Heed go into tables as they were then, which are brought up to date afterwards.
    """
    database = None
    try:
        lines = _lines(source)
        head = next(lines, {})
        if head.get("heed_backup") != FORMAT:
            raise BadInput(f"{source}: is no backup of Heed's, or one of a newer version")
        form = str(head.get("revision"))
        if form not in forms():
            raise BadInput(f"{source}: was made by a newer Heed (revision {form}); upgrade heedlm to restore it")
        database = Database(url, form=form)
        with database.write() as connection:
            found = _insert(database, connection, lines, head, source)
        database.migrate()
        return found
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
        raise BadInput(f"{source}: is damaged ({str(error).splitlines()[0] if str(error) else 'torn'})") from None
    except SQLAlchemyError as error:
        raise BadInput(f"{source}: does not fit: {str(error).splitlines()[0]}") from None
    finally:
        if database is not None:
            database.close()


def _insert(
    database: Database, connection: sa.Connection, lines: Iterator[dict[str, Any]], head: dict[str, Any], source: Path
) -> dict[str, int]:
    """Put the rows into their tables, as the database has them; returns how many each holds."""
    form = MigrationContext.configure(connection).get_current_revision()
    if head["revision"] != form:
        raise BadInput(f"{database}: has tables of another revision ({form}) than {source}; give an empty database")
    reflected = sa.MetaData()
    reflected.reflect(connection)
    tables = {table.name: table for table in reflected.sorted_tables if table.name != "alembic_version"}
    for table in tables.values():
        if _count(connection, table):
            raise BadInput(f"{database}: holds {table.name} already; nothing is overwritten, give an empty one")
    waiting: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        rows = waiting.setdefault(line["table"], [])
        rows.append(line["row"])
        if len(rows) >= _AT_ONCE:
            connection.execute(sa.insert(tables[line["table"]]), rows)
            rows.clear()
        for name in [name for name in waiting if name != line["table"]]:
            _rest(connection, tables[name], waiting.pop(name))
    for name, rows in waiting.items():
        _rest(connection, tables[name], rows)
    found = {name: _count(connection, table) for name, table in tables.items()}
    if found != head["rows"]:
        raise BadInput(f"{source}: is not whole: rows of {_differing(found, head['rows'])} are missing")
    if connection.dialect.name == "postgresql":
        _count_on(connection, tables.values())
    return found


def _rest(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)


def _lines(source: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        for line in file:
            yield json.loads(line)


def _differing(found: dict[str, int], wanted: dict[str, int]) -> str:
    return ", ".join(sorted(name for name in wanted if found.get(name) != wanted[name]))


def _count_on(connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """PostgreSQL counts its sequences on from the rows that were put in."""
    for table in tables:
        if "seq" in table.c:
            text = (
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'seq'), "
                f"GREATEST(1, (SELECT COALESCE(MAX(seq), 0) FROM {table.name})), "
                f"(SELECT COUNT(*) > 0 FROM {table.name}))"
            )
            connection.execute(sa.text(text))


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() or 0)


def _counts(url: str) -> dict[str, int]:
    database = Database(url)
    try:
        with database.read() as connection:
            return {table.name: _count(connection, table) for table in metadata.sorted_tables}
    finally:
        database.close()
