"""Restore: a feedback database from its backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from heedlm.config import Config as Settings
from heedlm.feedback.backup import restore


class Config(Settings):
    """Settings: from which backup, and where to."""

    positional: ClassVar[str | None] = "backup"

    backup: Path = Field(description="what heed backup made: a .db, .jsonl or .jsonl.gz file")
    to: str = Field(description="database to make: a file that is not there yet, or an empty one of PostgreSQL by URL")


def run(config: Config) -> dict[str, Any]:
    """Make the database; nothing is overwritten.

    Raises:
        BadInput: The backup is damaged, or there is a database already.
    """
    rows = restore(config.backup, config.to)
    return {"database": config.to.rpartition("@")[2], "rows": rows, "text": f"restored {sum(rows.values())} rows"}
