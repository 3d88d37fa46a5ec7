"""Export: what people said in a project, or of answers in chats, as rows that train a model."""

from __future__ import annotations

from dataclasses import asdict

from heedlm.feedback.database import open_existing
from heedlm.feedback.export import Config, collect, export_run
from heedlm.feedback.interchange import save
from heedlm.runs import Run

__all__ = ["Config", "run"]


def run(config: Config) -> Run:
    """Export and return the run; its outputs are comparisons, ratings, thumbs, demonstrations or steps.

    Raises:
        BadInput: There is no such database or project, it has no labels yet, or `to` cannot hold them.
    """
    database = open_existing(config.database)
    try:
        this = export_run(database, config)
        if config.to is not None:
            upto = this.info.results["labels"]["upto"]
            rows = collect(database, config.project, upto, names=config.names, tests=config.tests).rows
            made = asdict(save(config.to, rows, config.form)) | {"form": config.form, "path": str(config.to)}
            copies = [each for each in this.info.results.get("copies", []) if each["path"] != str(config.to)]
            this.note(copies=[*copies, made])
        return this
    finally:
        database.close()
