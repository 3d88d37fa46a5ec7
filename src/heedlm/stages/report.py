"""The report of a run: one HTML file that shows what went in, what happened, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from heedlm.config import Config as Settings
from heedlm.report import write_report


class Config(Settings):
    """Settings of a report."""

    positional: ClassVar[str | None] = "run"

    run: Path = Field(description="run directory, such as runs/ppo/NAME; the report becomes its report.html")


def run(config: Config) -> dict[str, str]:
    """Write the report into the run directory and say where it lies.

    Raises:
        BadInput: The folder is no run, or its `run.json` is damaged.
    """
    page = write(config.run)
    return {"report": str(page), "text": str(page)}


def write(path: Path) -> Path:
    """Write a run's `report.html` and return its path; for pipelines."""
    return write_report(path)
