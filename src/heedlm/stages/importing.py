"""Import: answers and judgements from a file into a project, Heed's own rows or another tool's export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import Field

from heedlm import runs
from heedlm.config import Config as Settings
from heedlm.errors import BadInput
from heedlm.feedback.accounts import Accounts, User
from heedlm.feedback.database import Database
from heedlm.feedback.export import COMMAND_LINE, find_project
from heedlm.feedback.importing import kind_for, take
from heedlm.feedback.interchange import Columns, Imported, load
from heedlm.feedback.projects import Project, Projects
from heedlm.records import Criterion, Row, Rows, Steps, read
from heedlm.records.formats import native_kind
from heedlm.records.reading import first_rows
from heedlm.runs import has_data


class Config(Settings):
    """Settings of an import."""

    positional: ClassVar[str | None] = "file"

    file: str = Field(description="a file of Heed's, TRL's, Argilla's or Label Studio's, or a sample run")
    project: str = Field(description="project to fill, by name or key; made if there is none of that name")
    database: str = Field("feedback.db", description="file of the feedback database, or postgresql://user@host/name")
    kind: str | None = Field(None, description="kind of question of a project that is made; by default from the rows")
    criterion: Criterion = Field("overall", description="criterion of a project that is made")
    overlap: int = Field(1, ge=1, le=100, description="annotators an item, of a project that is made")
    prompt: str | None = Field(None, description="field that holds the prompt, where its name does not say it")
    answers: tuple[str, ...] = Field((), description="fields that hold the answers, where their names do not say it")
    predictions: bool = Field(False, description="take what models suggested as well, under the models' names")
    limit: int | None = Field(None, ge=1, description="take only the first so many rows")
    max_bad_rows: float = Field(0.01, ge=0, le=1, description="share of bad rows that is put aside before giving up")


def run(config: Config) -> dict[str, Any]:
    """Put the rows into the project; what is there already is left alone.

    Raises:
        BadInput: The file cannot be used, nothing in it fits, or the database has no owner yet.
    """
    file = runs.find_data(config.file, "answers") if has_data(config.file, "answers") else Path(config.file)
    imported = _read(config, file)
    rows = imported.rows.rows[: config.limit]
    database = Database(config.database)
    try:
        owner = _owner(database)
        taken = take(database, owner, _project(config, database, owner, kind_for(rows)), rows)
    finally:
        database.close()
    if not (taken.items or taken.known_items):
        why = ", ".join(f"{count} {reason}" for reason, count in taken.left_out.items())
        raise BadInput(f"{config.file}: nothing fits project {config.project!r} ({why})")
    bad = [asdict(row) for row in imported.rows.bad]
    facts = asdict(taken) | {"bad_rows": bad, "not_read": imported.left_out}
    return {**facts, "text": _told(config, facts)}


def _read(config: Config, file: Path) -> Imported:
    # Answers in steps look like other things to whoever does not know Heed's own rows.
    if any(native_kind(row) is Steps for row in first_rows(file, 1)):
        return Imported(cast("Rows[Row]", read(file, Steps, max_bad_rows=config.max_bad_rows)))
    columns = Columns(prompt=config.prompt, answers=config.answers)
    return load(file, columns=columns, predictions=config.predictions, max_bad_rows=config.max_bad_rows)


def _owner(database: Database) -> User:
    accounts = Accounts(database)
    for person in accounts.everybody():
        if person["role"] == "owner" and person["disabled"] is None:
            found = accounts.find(person["name"])
            assert found is not None
            return found
    raise BadInput(f"{database}: nobody can own the project: make the first owner with heed owner NAME")


def _project(config: Config, database: Database, owner: User, kind: str) -> Project:
    known = [project.name for project in Projects(database).mine(COMMAND_LINE)]
    keys = [project.id for project in Projects(database).mine(COMMAND_LINE)]
    if config.project in known or config.project in keys:
        return find_project(database, config.project)
    settings = {"criterion": config.criterion, "overlap": config.overlap}
    return Projects(database).create(owner, config.project, config.kind or kind, **settings)  # type: ignore[arg-type]


def _told(config: Config, facts: dict[str, Any]) -> str:
    lines = [
        f"{config.project}: {facts['items']} new items ({facts['known_items']} were there), "
        f"{facts['labels']} new labels ({facts['known_labels']} were there), {facts['people']} new people"
    ]
    lines += [f"  not taken: {count} {reason}" for reason, count in facts["left_out"].items()]
    lines += [f"  not read: {count} {reason}" for reason, count in facts["not_read"].items()]
    lines += [f"  line {row['line']}: {row['reason']}" for row in facts["bad_rows"][:10]]
    return "\n".join(lines)
