"""A person's erasure: everything they said and told goes, also out of files that were made from it.

The one exception to labels being only added (docs/loop.md). What remains is a row in `erasures` that tells how much
went and which models had seen it; a model does not forget, so these are named and left to be trained anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database, new_key
from heedlm.feedback.errors import BadInput, Refused
from heedlm.feedback.export import collect, exports, fill, identity, naming, settings_of
from heedlm.feedback.tables import (
    assignments,
    conversations,
    erasures,
    events,
    guidelines,
    invitations,
    items,
    jobs,
    labels,
    messages,
    metadata,
    projects,
    users,
    verdicts,
)
from heedlm.runs import Run, models_that_saw
from heedlm.runs.files import keep_lines, read_lines

GONE = "erased"  # what the name of a person who is no more begins with


@dataclass
class Erased:
    """What an erasure did.

    Attributes:
        id: Key of the row in `erasures`.
        removed: Rows that went, by table.
        rebuilt: Exports that held the person's labels and were made anew without them.
        scrubbed: Other files in which rows of theirs were found and dropped.
        models: Runs that made a model and had seen their labels.
        copies: Files outside of the folder of runs that hold their labels still.
    """

    id: str
    removed: dict[str, int] = field(default_factory=dict)
    rebuilt: list[str] = field(default_factory=list)
    scrubbed: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)


def erase(database: Database, by: User, user: str, runs: Path) -> Erased:
    """Erase a person: their chats, verdicts, labels, drafts, what they told of themselves, name and password.

    Args:
        database: Where they are.
        by: Who asks: the person, or an owner.
        user: Key of the person.
        runs: Folder in whose runs exports lie.

    Raises:
        Refused: Only owners erase others, or there is no such person.
        BadInput: Nobody would be owner any more.
    """
    if by.id != user and by.role != "owner":
        raise Refused("there is no such person")
    called = naming(database)(user)
    touched = _projects_of(database, user)
    done = Erased(new_key())
    with database.write() as connection:
        if database.file is not None:
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        row = connection.execute(sa.select(users.c.name).where(users.c.id == user)).first()
        if row is None:
            raise Refused("there is no such person")
        _not_the_last_owner(connection, user)
        done.removed = _remove(connection, database.now(), user)
        # Until the files are seen to, the row says what to look for in them; then that goes too.
        found = asdict(done) | {"names": sorted({called, row.name}), "touched": touched}
        tombstone = {"id": done.id, "user": user, "at": database.now(), "found": found}
        connection.execute(sa.insert(erasures).values(tombstone))
        log = {"at": database.now(), "user": by.id if by.id != user else None, "what": "person erased", "about": user}
        connection.execute(sa.insert(events).values(log))
    return finish(database, runs)[done.id]


def finish(database: Database, runs: Path) -> dict[str, Erased]:
    """See to the files of every erasure that has not come to its end, one that was cut short included."""
    finished = {}
    for row in history(database):
        found = dict(row["found"])
        if "names" not in found:
            continue
        names, touched = set(found.pop("names")), found.pop("touched")
        done = Erased(**found)
        if runs.is_dir():
            _files(database, names, touched, runs, done)
        with database.write() as connection:
            if database.file is not None:
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            connection.execute(sa.update(erasures).where(erasures.c.id == done.id).values(found=asdict(done)))
        _forget_pages(database)
        finished[done.id] = done
    return finished


def history(database: Database) -> list[Mapping[str, Any]]:
    """All erasures, newest first."""
    with database.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(erasures).order_by(erasures.c.at.desc())).mappings()]


# ------------------------------------------------------------------------------------------ the database


def _projects_of(database: Database, user: str) -> dict[str, int]:
    """The projects a person labelled in, with their oldest label; chat if they gave verdicts there."""
    first = sa.select(labels.c.project, sa.func.min(labels.c.seq).label("first")).where(labels.c.user == user)
    chats = sa.select(sa.func.min(verdicts.c.seq)).where(verdicts.c.user == user)
    with database.read() as connection:
        found = {row.project: row.first for row in connection.execute(first.group_by(labels.c.project))}
        oldest = connection.execute(chats).scalar()
    return found | ({"chat": oldest} if oldest is not None else {})


def _not_the_last_owner(connection: Connection, user: str) -> None:
    owners = sa.select(users.c.id).where(users.c.role == "owner", users.c.disabled.is_(None))
    if [row.id for row in connection.execute(owners)] == [user]:
        raise BadInput("this is the last owner: make somebody else owner first")


def _remove(connection: Connection, now: float, user: str) -> dict[str, int]:
    """Delete what is theirs, free the places they had taken, and blank their row; returns rows by table."""
    mine = sa.select(assignments.c.item, assignments.c.state).where(assignments.c.user == user)
    for row in connection.execute(mine).all():
        given = {"taken": items.c.taken - 1} if row.state in ("leased", "done") else {}
        given |= {"done": items.c.done - 1} if row.state == "done" else {}
        if given:
            connection.execute(sa.update(items).where(items.c.id == row.item).values(given))
    held = sa.select(conversations.c.id).where(conversations.c.user == user)
    kept = (erasures,)
    whose = {table: table.c.user == user for table in metadata.sorted_tables if "user" in table.c and table not in kept}
    whose[messages] = messages.c.conversation.in_(held)
    whose[verdicts] = sa.or_(whose[verdicts], verdicts.c.conversation.in_(held))
    whose[events] = sa.or_(whose[events], events.c.about == user)
    counts = {}
    for table in reversed(metadata.sorted_tables):  # what refers to other rows goes before them
        if table in whose and (gone := connection.execute(sa.delete(table).where(whose[table])).rowcount):
            counts[table.name] = gone
    connection.execute(sa.update(invitations).where(invitations.c.used_by == user).values(used_by=None))
    blank = {"name": f"{GONE} {user[:12]}", "name_key": f"{GONE} {user}", "password": "", "disabled": now}
    blank |= {"demographics": sa.null(), "avoids": [], "group": None, "language": "en", "role": "chat"}
    connection.execute(sa.update(users).where(users.c.id == user).values(blank))
    if not _is_named(connection, user):
        connection.execute(sa.delete(users).where(users.c.id == user))
    return counts


def _is_named(connection: Connection, user: str) -> bool:
    """Whether projects, guidelines, invitations or jobs are still by this person, whose row then stays, blank."""
    by = [table.c.by == user for table in (projects, guidelines, invitations, jobs)]
    return any(connection.execute(sa.select(sa.literal(1)).where(condition)).first() for condition in by)


def _forget_pages(database: Database) -> None:
    """Put the deletion into SQLite's file itself, out of the log beside it, which keeps older pages."""
    if database.file is not None:
        with database.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# ------------------------------------------------------------------------------------------ files


def _files(database: Database, names: set[str], touched: Mapping[str, int], runs: Path, done: Erased) -> None:
    """Rebuild the exports that hold their labels, drop their rows elsewhere, and say which models saw them."""
    for run in exports(runs, identity(database)):
        about = run.info.results["labels"]
        held = any(_holds(file, names) for file in run.path.glob("*.jsonl"))
        if not held or about["project"] not in touched:
            continue
        copies = [copy["path"] for copy in run.info.results.get("copies", []) if Path(copy["path"]).exists()]
        for source in (run.path, *copies):
            for sighting in models_that_saw(source, (runs,)):
                place = _relative(Path(sighting.path), runs)
                _scrub(Path(sighting.path), names, runs, done)
                if sighting.makes_model and place not in done.models:
                    done.models.append(place)
        real, tests = settings_of(run)
        try:
            fill(run, collect(database, about["project"], about["upto"], names=real, tests=tests))
        except BadInput:  # the project itself is no more
            _scrub(run.path, names, runs, done)
        run.note(erasures=[*run.info.results.get("erasures", []), done.id])
        done.rebuilt.append(_relative(run.path, runs))
        done.copies += [copy for copy in copies if copy not in done.copies]


def _scrub(path: Path, names: set[str], runs: Path, done: Erased) -> None:
    """Drop rows that name the person from every file of rows in a run, and record what its outputs are now.

    Excerpts of rows that a stage could not use do not say whose they are: all of them go.
    """
    changed = []
    for file in sorted(path.glob("*.jsonl")):
        quarantine = file.name.startswith("quarantine")
        if quarantine or _holds(file, names):
            keep_lines(file, (lambda row: False) if quarantine else _others(names))
            changed.append(file)
    if not changed:
        return
    done.scrubbed += [_relative(file, runs) for file in changed if _relative(file, runs) not in done.scrubbed]
    run = Run.open(path)
    for item in list(run.info.outputs):
        if run.path / item.path in changed:
            with (run.path / item.path).open(encoding="utf-8") as lines:
                run.add_output(item.role, run.path / item.path, rows=sum(1 for _ in lines))
    run.note(erasures=[*run.info.results.get("erasures", []), done.id])


def _others(names: set[str]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row is somebody else's: neither its judge nor its author is the person."""

    def keep(row: Mapping[str, Any]) -> bool:
        meta = row.get("meta")
        task = meta.get("task") if isinstance(meta, Mapping) else None
        author = task.get("author") if isinstance(task, Mapping) else None
        return row.get("annotator") not in names and author not in names

    return keep


def _holds(file: Path, names: set[str]) -> bool:
    keep = _others(names)
    return any(not keep(row) for row in read_lines(file))


def _relative(path: Path, runs: Path) -> str:
    path, runs = path.resolve(), runs.resolve()
    return path.relative_to(runs).as_posix() if path.is_relative_to(runs) else str(path)
