"""Monitoring: whether a training log, Heed's or another trainer's, shows a collapse, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from heedlm.config import Config as Settings
from heedlm.errors import Collapsed
from heedlm.monitor import Detector, Thresholds, calibrate
from heedlm.monitor.columns import Columns
from heedlm.monitor.files import open_log, read_log, run_settings
from heedlm.monitor.history import SPREAD
from heedlm.monitor.timeline import play


class Config(Settings):
    """Settings of monitoring; exit code 0 if the log ends healthy or in a warning, 3 if it ends in a collapse."""

    positional: ClassVar[str | None] = "log"

    log: Path = Field(description="a run, metrics.jsonl, CSV, trainer_state.json, or TensorBoard file or folder")
    cap: PositiveInt | None = Field(None, description="longest answer allowed, in tokens; a run's own if not given")
    kl_target: PositiveFloat | None = Field(
        None, description="nats an answer that β is steered to; a run's own likewise"
    )
    reward_std: PositiveFloat | None = Field(
        None, description="standard deviation of single answers' rewards at the start, where the log has none"
    )
    length: PositiveFloat | None = Field(
        None, description="tokens an answer, where the log has none, to turn KL an answer into KL a token"
    )
    columns: Columns = Field(Columns(), description="which column holds what, where its name is not known")
    thresholds: Thresholds | None = Field(
        None, description="when signals are on; a run's own if not given, else those of 7 B parameters"
    )
    healthy: tuple[Path, ...] = Field((), description="logs of runs that went well, to calibrate the thresholds on")
    failing: tuple[Path, ...] = Field((), description="logs of runs that did not, to calibrate the thresholds on")


def run(config: Config) -> dict[str, Any]:
    """Play the log through a detector; nothing is written.

    Raises:
        BadInput: The log cannot be read.
    """
    log = open_log(config.log, config.columns, config.length)
    healthy, failing = (
        [read_log(path, config.columns, config.length) for path in logs] for logs in (config.healthy, config.failing)
    )
    own = run_settings(config.log)
    thresholds = calibrate(healthy, failing, config.thresholds or own.thresholds or Thresholds())
    given = {SPREAD: config.reward_std} if config.reward_std is not None else {}
    detector = Detector(thresholds, config.cap or own.cap, config.kl_target or own.kl_target)
    story = play([{**given, **row} for row in log.rows], detector)
    return {
        "state": detector.state,
        "first_warning": story.first_warning,
        "collapsed_at": story.collapsed_at,
        "rows": len(log.rows),
        "last_step": log.rows[-1]["step"],
        "changes": [asdict(change) for change in story.changes],
        "alarms": [{"step": step, **asdict(alarm)} for step, alarm in story.alarms.values()],
        "off": detector.off,
        "not_finite": list(detector.not_finite),
        "columns": log.columns,
        "thresholds": detector.limits.model_dump(mode="json"),
    }


def exit_code(result: Mapping[str, Any]) -> int:
    """0 for a log that ends healthy or in a warning, 3 for one that ends in a collapse."""
    return Collapsed.exit_code if result["state"] == "collapsed" else 0


def describe(result: Mapping[str, Any]) -> str:
    """The changes of state with their reasons, the verdict, and what could not be watched."""
    lines = [_line(change) for change in result["changes"]]
    end = f"{result['rows']} rows up to step {result['last_step']}"
    if result["state"] == "collapsed":
        lines.append(f"collapsed at step {result['collapsed_at']}, first warning at {result['first_warning']} ({end})")
    elif result["state"] == "warn":
        lines.append(f"warning since step {result['changes'][-1]['step']} ({end})")
    else:
        lines.append(f"healthy ({end})")
    lines += [f"  {sentence}" for sentence in (*result["off"].values(), *result["not_finite"])]
    other = [f"{key} from {name}" for key, name in result["columns"].items() if key != name]
    return "\n".join([*lines, *([f"  read: {', '.join(other)}"] if other else [])])


def _line(change: Mapping[str, Any]) -> str:
    reasons = "; ".join(change["reasons"]) or "quiet again"
    return f"step {change['step']:>6}  {change['state']:9}  {reasons}"
