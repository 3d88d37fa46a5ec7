"""What people said, as rows that train a model: a project's newest labels at a point in time, or verdicts from chats.

An export is a run like any other (`runs/export/NAME`): its files have fingerprints, and its `run.json` tells which
labels went in. Labels are only ever added, so the same point in time gives the same rows, until somebody's erasure
takes theirs away (feedback/erasure.py).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import sqlalchemy as sa
from pydantic import Field, NonNegativeInt

from heedlm.config import StageConfig
from heedlm.errors import BadInput
from heedlm.feedback.accounts import User
from heedlm.feedback.database import Database
from heedlm.feedback.interchange import Form
from heedlm.feedback.projects import Project, Projects
from heedlm.feedback.rows import Naming, Source, chat_rows, project_rows, questions
from heedlm.feedback.tables import facts, labels, users
from heedlm.feedback.verdicts import Verdicts
from heedlm.records import Comparison, Demonstration, Prompt, Rating, Row, Steps, Thumb, fault, write
from heedlm.runs import Run, fingerprint, unused_name
from heedlm.runs.lineage import all_runs

CHAT = "chat"  # the name under which verdicts from chats are exported
STAGE = "export"
ROLES: dict[type[Row], str] = {
    Comparison: "comparisons",
    Demonstration: "demonstrations",
    Prompt: "prompts",
    Rating: "ratings",
    Steps: "steps",
    Thumb: "thumbs",
}
COMMAND_LINE = User("", "the command line", "owner")  # whoever can read the file may read all of it


class Config(StageConfig):
    """Settings of an export."""

    positional: ClassVar[str | None] = "project"

    project: str = Field(description="project, by name or key; chat: verdicts from chats whose users gave consent")
    database: str = Field("feedback.db", description="file of the feedback database, or postgresql://user@host/name")
    upto: NonNegativeInt | None = Field(None, description="newest label that goes in; by default the newest there is")
    names: bool = Field(False, description="annotators by name; else by a made-up name that is always the same")
    tests: bool = Field(False, description="gold and qualification items as well")
    to: Path | None = Field(None, description="file to write as well, in the form asked for")
    form: Form = Field("heed", description="its columns: heed, or for trainers: pairs, kto, sft (messages)")


@dataclass(frozen=True)
class Lineage:
    """Which labels an export is made of; kept in its `run.json` under `labels`.

    Attributes:
        database: Tells one database from another.
        project: Key of the project, or chat.
        name: Its name.
        upto: The newest label there was, by its `seq`; none of a later one went in.
        first: Lowest `seq` among the labels that went in; of chats none.
        last: Highest `seq` among them.
        count: How many went in.
        items: How many items they are about.
        questions: How many different prompts the project had when it was exported.
        people: How many people gave them.
        left_out: Labels and rows that did not go in, by reason.
        fingerprint: Of the rows, in their order.
    """

    database: str
    project: str
    name: str
    upto: int
    first: int | None
    last: int | None
    count: int
    items: int
    questions: int
    people: int
    left_out: dict[str, int]
    fingerprint: str


@dataclass(frozen=True)
class Export:
    """Rows, where they come from, and every question of the project, answered or not, to go on with."""

    rows: list[Row]
    lineage: Lineage
    prompts: list[Row]

    def by_role(self) -> dict[str, list[Row]]:
        """The rows by what they are to a stage: comparisons, ratings, thumbs, demonstrations, steps; and prompts."""
        found: dict[str, list[Row]] = {}
        for row in (*self.rows, *self.prompts):
            found.setdefault(ROLES[type(row)], []).append(row)
        return found


# ------------------------------------------------------------------------------------------ people


def key_of(database: Database) -> bytes:
    """The database's own random key, made when it is first needed."""
    query = sa.select(facts.c.value).where(facts.c.name == "key")
    with database.read() as connection:
        found = connection.execute(query).scalar()
    if found is None:
        with database.write() as connection:
            found = connection.execute(query).scalar()
            if found is None:
                found = secrets.token_hex(32)
                connection.execute(sa.insert(facts).values(name="key", value=found))
    return bytes.fromhex(found)


def identity(database: Database) -> str:
    """What tells this database from every other, wherever its file is moved."""
    return hmac.new(key_of(database), b"database", hashlib.sha256).hexdigest()[:16]


def naming(database: Database, real: bool = False) -> Naming:
    """How people are called in rows: by a made-up name, always the same, or by their real one.

    Nobody finds the person behind a made-up name without the database.
    """
    if not real:
        key = key_of(database)
        return lambda user: "person-" + hmac.new(key, user.encode(), hashlib.sha256).hexdigest()[:12]
    with database.read() as connection:
        known = {row.id: row.name for row in connection.execute(sa.select(users.c.id, users.c.name))}
    return lambda user: known[user]


# ------------------------------------------------------------------------------------------ collecting


def find_project(database: Database, name: str) -> Project:
    """A project by key or name.

    Raises:
        BadInput: There is none, or several have the name.
    """
    known = Projects(database).mine(COMMAND_LINE)
    found = [project for project in known if name in (project.id, project.name)]
    if len(found) == 1:
        return found[0]
    if found:
        keys = ", ".join(project.id for project in found)
        raise BadInput(f"{database}: {len(found)} projects are called {name!r}: give a key, one of {keys}")
    listed = ", ".join(repr(project.name) for project in known[:10]) or "none yet"
    raise BadInput(f"{database}: there is no project {name!r}; it has: {listed}")


def collect(
    database: Database, project: str, upto: int | None = None, *, names: bool = False, tests: bool = False
) -> Export:
    """A project's rows, or those from chats.

    Args:
        database: Where they are kept.
        project: Name or key of the project; chat: verdicts from chats.
        upto: Newest label that may go in (its `seq`).
        names: Call annotators by name.
        tests: Take gold and qualification items too.

    Raises:
        BadInput: There is no such project.
    """
    called = naming(database, names)
    left_out: Counter[str] = Counter()
    if project == CHAT:
        newest = Verdicts(database).newest() if upto is None else upto
        return _export(database, CHAT, CHAT, newest, list(chat_rows(database, newest, called)), left_out)
    found = find_project(database, project)
    with database.read() as connection:
        last = sa.select(sa.func.max(labels.c.seq)).where(labels.c.project == found.id)
        newest = connection.execute(last if upto is None else last.where(labels.c.seq <= upto)).scalar() or 0
        said = list(project_rows(connection, found, newest, called, tests, left_out))
        prompts = questions(connection, found)
    return _export(database, found.id, found.name, newest, said, left_out, prompts)


def _export(
    database: Database,
    key: str,
    name: str,
    upto: int,
    said: Sequence[Source],
    left_out: Counter[str],
    prompts: Sequence[Row] = (),
) -> Export:
    rows: list[Row] = []
    for source in said:
        for row in source.rows:
            reason = fault(row)
            if reason is None:
                rows.append(row)
            else:
                left_out[reason] += 1
    used = [source for source in said if source.rows]
    seqs = [source.seq for source in used if source.seq is not None]
    lines = "\n".join(row.model_dump_json(exclude_defaults=True) for row in rows)
    lineage = Lineage(
        database=identity(database),
        project=key,
        name=name,
        upto=upto,
        first=min(seqs, default=None),
        last=max(seqs, default=None),
        count=len(used),
        items=len({source.item for source in used}),
        questions=len(prompts),
        people=len({source.user for source in used}),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        fingerprint="sha256:" + hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest(),
    )
    return Export(rows, lineage, list(prompts))


# ------------------------------------------------------------------------------------------ runs


def slug(name: str) -> str:
    """A project's name as that of a folder."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:40] or STAGE


def export_run(database: Database, config: Config, *, allow_empty: bool = False) -> Run:
    """An export as a run; one of the same rows that lies there already is used again.

    Args:
        database: What to export from.
        config: What to export, and the folder of runs.
        allow_empty: The project's questions will do.

    Raises:
        BadInput: There is no such project, or nothing to export yet.
    """
    found = collect(database, config.project, config.upto, names=config.names, tests=config.tests)
    if not found.rows and not (allow_empty and found.prompts):
        why = ", ".join(f"{count} {reason}" for reason, count in found.lineage.left_out.items())
        raise BadInput(f"{database}: {found.lineage.name!r} has no labels to export" + (f" ({why})" if why else ""))
    for run in exports(config.out, identity(database)):
        same = run.info.results["labels"] == asdict(found.lineage) and settings_of(run) == (config.names, config.tests)
        if same and all(fingerprint(run.path / item.path) == item.fingerprint for item in run.info.outputs):
            return run
    name = unused_name(config.out, STAGE, config.name or slug(found.lineage.name))
    given = {"database": str(database), "upto": found.lineage.upto, "name": name}
    this = Run.create(STAGE, config.model_copy(update={**given, "to": None, "form": "heed"}))
    with this:
        fill(this, found)
    return this


def fill(run: Run, found: Export) -> None:
    """Write the rows into the run's folder, in place of what it held, and say which labels they are made of."""
    roles = found.by_role()
    for role in sorted({*roles, *(item.role for item in run.info.outputs)}):
        path = run.path / f"{role}.jsonl"
        run.add_output(role, path, rows=write(path, roles.get(role, [])))
    run.note(labels=asdict(found.lineage))


def exports(folder: Path, database: str) -> list[Run]:
    """The complete exports of a database among the runs of a folder, oldest first."""
    done = [run for run in all_runs([folder]) if run.info.stage == STAGE and run.info.status == "complete"]
    return [run for run in done if run.info.results.get("labels", {}).get("database") == database]


def settings_of(run: Run) -> tuple[bool, bool]:
    """Whether an export calls annotators by name, and whether it holds gold and qualification items."""
    settings = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    return bool(settings["names"]), bool(settings["tests"])
