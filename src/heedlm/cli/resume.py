"""Going on with a run that was stopped, whatever its stage."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from heedlm import runs
from heedlm.cli.commands import COMMANDS
from heedlm.config import Config as Settings
from heedlm.config import from_json
from heedlm.errors import BadInput


class Config(Settings):
    """Which run to go on with; its settings are those it was started with."""

    positional: ClassVar[str | None] = "run"

    run: Path = Field(description="directory of the run")


def run(config: Config) -> Any:
    """Start the run's stage again from its newest complete checkpoint.

    Raises:
        BadInput: If there is no such run, or it is complete already.
    """
    stopped = runs.Run.open(config.run)
    stage = stopped.info.stage
    if stopped.info.status == "complete":
        raise BadInput(f"{config.run}: is complete already; start a new run with another name= or seed=")
    if stage not in COMMANDS:
        raise BadInput(f"{config.run}: its stage {stage!r} is unknown to this version of Heed")
    module = importlib.import_module(COMMANDS[stage].module)
    return module.run(from_json(module.Config, config.run / "config.json"), resume=config.run)
