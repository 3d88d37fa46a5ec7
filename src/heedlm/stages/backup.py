"""Backup: save a feedback database, also while people work in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from heedlm.config import Config as Settings
from heedlm.feedback.backup import backup


class Config(Settings):
    """Settings: what to save, and where to."""

    positional: ClassVar[str | None] = "database"

    database: str = Field("feedback.db", description="file of the feedback database, or postgresql://user@host/name")
    to: Path = Field(description="file to make: .db copies SQLite; .jsonl.gz saves the rows, of PostgreSQL too")


def run(config: Config) -> dict[str, Any]:
    """Save it; nothing is overwritten.

    Raises:
        BadInput: There is no such database, it is damaged, or the file exists.
    """
    rows = backup(config.database, config.to)
    return {"backup": str(config.to), "rows": rows, "text": f"{config.to}: {sum(rows.values())} rows, sound"}
