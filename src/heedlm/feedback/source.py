"""Data named as DATABASE#PROJECT or DATABASE#PROJECT@N: what people have said, up to their label N.

Such a name stands for an export (feedback/export.py), which is made when it is first read: training reads its files, so
that a run that is taken up again sees the same rows, whatever labels have come since.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from heedlm.config import StageConfig
from heedlm.errors import BadInput

C = TypeVar("C", bound=StageConfig)

_SQLITE = b"SQLite format 3\x00"


def from_feedback(config: C, *fields: str) -> C:
    """The settings, with an export in place of every project that one of these fields names.

    Raises:
        BadInput: The database or the project is not there, or has no labels yet.
    """
    found = {field: getattr(config, field) for field in fields}
    return config.model_copy(update={field: snapshot(text, config.out) for field, text in found.items() if text})


def snapshot(data: str, out: Path) -> str:
    """What `data` stands for: an export in the folder of runs `out` if it names a project, else itself.

    Raises:
        BadInput: The database or the project is not there, or has no labels yet.
    """
    if is_database(data) or (data.startswith("postgresql") and "#" not in data):
        raise BadInput(f"{data.rpartition('@')[2]}: is a database: name a project of it, as in DATABASE#PROJECT")
    place, mark, project = data.rpartition("#")
    if not mark or Path(data).exists() or not (is_database(place) or "://" in place):
        if mark and place.endswith((".db", ".sqlite")):
            raise BadInput(f"{place}: no such database")
        return data
    project, upto = _point(project)
    try:
        from heedlm.feedback.database import Database
        from heedlm.feedback.export import Config, export_run
    except ModuleNotFoundError as error:
        raise BadInput(f"{place}: {error.name} is needed to read it: pip install 'heedlm[serve]'") from None
    database = Database(place)
    try:
        return str(export_run(database, Config(project=project, database=place, upto=upto, out=out)).path)
    finally:
        database.close()


def is_database(path: str) -> bool:
    """Whether a path is a file of SQLite's."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except (OSError, ValueError):
        return False


def _point(project: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.+)@(\d{1,18})", project)
    return (found[1], int(found[2])) if found else (project, None)
