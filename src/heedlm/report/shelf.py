"""All runs of a folder, found by looking for them: what a list of runs shows, and what one run shows while it grows."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedlm.errors import BadInput
from heedlm.report.alarms import Record, stretches
from heedlm.report.following import SILENCE, Following, Look
from heedlm.report.panels import arrange
from heedlm.report.series import Series, thin
from heedlm.report.source import json_object
from heedlm.report.words import as_number, duration, number, percent
from heedlm.runs import Run, RunInfo
from heedlm.runs.lock import Lock

_NO_RUNS_IN = {"checkpoints", "model", "critic", "tensorboard", "abandoned"}
_FOLLOWED = 32  # runs whose numbers are kept in memory
_POINTS = 200  # of a curve
_STEPS = 12  # of which answers are shown
_PROMPTS = 24


@dataclass(frozen=True)
class Card:
    """A run in a list.

    Attributes:
        key: Its path below the folder of runs, such as ppo/NAME.
        status: running, complete, failed, interrupted; killed if it runs no more and did not say so.
        state: healthy, warn or collapsed; empty where nobody watched it.
        reasons: Why it is in that state.
        figure: The one number to know, with its name.
        makes: Roles of its outputs.
    """

    key: str
    stage: str
    name: str
    status: str
    reason: str | None
    started: str
    seconds: float
    state: str
    reasons: tuple[str, ...]
    figure: tuple[str, str] | None
    makes: tuple[str, ...]

    @property
    def duration(self) -> str:
        """How long it took, in words; empty while nothing is known."""
        return duration(self.seconds) if self.seconds else ""

    @property
    def makes_policy(self) -> bool:
        """Whether it holds a language model that can be trained on or talked to."""
        return self.status == "complete" and "model" in self.makes and self.stage != "reward"

    @property
    def makes_reward(self) -> bool:
        """Whether it holds a reward model."""
        return self.status == "complete" and self.stage == "reward"


class Shelf:
    """The runs below a folder. A key that scanning does not find is no run, whatever lies at that path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._followed: OrderedDict[str, Following] = OrderedDict()
        self._turn = threading.Lock()

    def found(self) -> Iterator[str]:
        """Every run's key."""
        for parent, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NO_RUNS_IN)
            if "run.json" in files and Path(parent) != self.folder:
                yield Path(parent).relative_to(self.folder).as_posix()

    def path(self, key: str) -> Path:
        """The folder of a run.

        Raises:
            BadInput: There is no such run.
        """
        if key not in set(self.found()):
            raise BadInput("there is no such run")
        return self.folder / key

    def cards(self) -> list[Card]:
        """Every readable run, newest first."""
        found = []
        for key in self.found():
            try:
                found.append(card(key, Run.open(self.folder / key)))
            except BadInput:
                continue  # a damaged run must not hide the others
        return sorted(found, key=lambda each: (each.started, each.key), reverse=True)

    def look(self, key: str) -> Look:
        """What a run shows now; only what is new since the last look is read.

        Raises:
            BadInput: There is no such run, or it is damaged.
        """
        path = self.path(key)
        with self._turn:
            following = self._followed.pop(key, None) or Following(path)
            self._followed[key] = following
            while len(self._followed) > _FOLLOWED:
                self._followed.popitem(last=False)
            return following.look()


def card(key: str, run: Run) -> Card:
    """A run as a list shows it."""
    info = run.info
    settings = json_object(run.path / "config.json")
    record = Record.read(run.path, info.results, settings)
    status: str = info.status
    if status == "running" and _silent(run.path) and (run.path / ".lock").exists() and not Lock.held(run.path):
        status = "killed"
    return Card(
        key=key,
        stage=info.stage,
        name=info.name,
        status=status,
        reason=info.reason,
        started=info.started,
        seconds=info.seconds,
        state=record.state if record.watched else "",
        reasons=record.reasons,
        figure=figure(info),
        makes=tuple(item.role for item in info.outputs),
    )


def _silent(path: Path) -> bool:
    changed = [file.stat().st_mtime for file in path.glob("*.json*")]
    return time.time() - max(changed, default=0.0) > SILENCE


def figure(info: RunInfo) -> tuple[str, str] | None:
    """The number that tells most about a run, with its name."""
    results = info.results
    rate = results.get("win_rate")
    wins = as_number(rate.get("rate") if isinstance(rate, Mapping) else rate)
    if wins is not None:
        return "Win rate", percent(wins)
    accuracy = results.get("accuracy")
    if isinstance(accuracy, Mapping):
        accuracy = accuracy.get("accuracy")
    right = as_number(accuracy.get("estimate") if isinstance(accuracy, Mapping) else accuracy)
    if right is not None:
        return "Accuracy", percent(right)
    for key, name, form in (
        ("final/watch/win_rate", "Win rate", percent),
        ("held_out_loss", "Held-out loss", number),
        ("agreement", "Agreement", percent),
    ):
        value = as_number(results.get(key))
        if value is not None:
            return name, form(value)
    labels = results.get("labels")
    if isinstance(labels, Mapping):
        return "Labels that count", str(labels.get("count"))
    rows = [item.rows for item in info.outputs if item.rows is not None]
    return ("Rows", number(max(rows))) if rows else None


# ------------------------------------------------------------------------------------------ one run


def curves(look: Look) -> list[dict[str, Any]]:
    """The charts of a run as JSON values, each curve of at most `_POINTS` points with the range behind them."""
    found = []
    for group, charts in arrange(look.series).items():
        for panel, series in charts:
            lines = [{"label": line.label, **_thinned(series[line.key])} for line in panel.lines]
            band = [_thinned(series[key]) for key in panel.band] if panel.band else None
            about = {"group": group, "title": panel.title, "unit": panel.unit, "note": panel.note}
            found.append({**about, "level": panel.level, "lines": lines, "band": band})
    return found


def _thinned(series: Series) -> dict[str, Any]:
    made = thin(series, _POINTS)
    averaged = len(series.values) > _POINTS
    shown = {"key": series.key, "steps": made.steps, "values": _short(made.values)}
    if averaged:
        shown |= {"low": _short(made.low), "high": _short(made.high)}
    if made.smooth is not None:
        shown["smooth"] = _short(made.smooth)
    return shown


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def alarms(look: Look) -> list[dict[str, Any]]:
    """Stretches of steps in which something was wrong, and those that a rollback gave up."""
    kept = [{**asdict(each), "lost": False} for each in stretches(look.record.changes, look.step)]
    lost = [
        {**asdict(each), "lost": True}
        for rollback in look.record.rollbacks
        for each in stretches(rollback.changes, rollback.at)
    ]
    return kept + lost


def answers(run: Run) -> dict[str, Any]:
    """What a run's model answered at its steps: {steps, prompts: [{prompt, before, answers by step}]}.

    At most `_STEPS` steps, the first and the last among them, and `_PROMPTS` prompts.
    """
    rows = [
        row for row in run.read_samples() if isinstance(row.get("answer"), str) and isinstance(row.get("prompt"), str)
    ]
    steps = sorted({step for row in rows if (step := as_number(row.get("step"))) is not None})
    every = max(1, -(-len(steps) // _STEPS))
    shown = sorted({*steps[::every], *steps[-1:]})
    prompts: dict[str, dict[str, Any]] = {}
    for row in rows:
        at = prompts.setdefault(row["prompt"], {"prompt": row["prompt"], "before": None, "answers": {}})
        if isinstance(row.get("before"), str):
            at["before"] = _answer(row["before"], row, "_before")
        if as_number(row.get("step")) in shown:
            at["answers"][f"{row['step']:g}"] = _answer(row["answer"], row, "")
    return {"steps": [f"{step:g}" for step in shown], "prompts": list(prompts.values())[:_PROMPTS]}


def _answer(text: str, row: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    scores = {name: as_number(row.get(f"{name}{suffix}")) for name in ("gold", "reward")}
    return {"text": text, **{name: value for name, value in scores.items() if value is not None}}
