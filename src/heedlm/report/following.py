"""A run as it grows: each look reads what was written since the last one."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedlm.report.alarms import Record
from heedlm.report.series import Series
from heedlm.report.source import json_object, runs_below
from heedlm.report.words import as_number
from heedlm.runs import Run, RunInfo
from heedlm.runs.lock import Lock

PACE = 50  # newest steps from which the time left is reckoned
SILENCE = 60.0  # seconds without a word after which a run is suspected to be dead


@dataclass(frozen=True)
class Look:
    """What one look at a run found.

    Attributes:
        path: The run that is shown: the one asked for, or the newest part of a chain.
        info: Its record.
        record: What the collapse detector and the guard said.
        series: Its curves.
        steps: Steps it is to make, None if unknown.
        sample: The newest row of `samples.jsonl`.
        silent: Seconds since it last wrote.
        ended: Why nothing more will come, in words; empty while it goes on.
    """

    path: Path
    info: RunInfo
    record: Record
    series: Mapping[str, Series]
    steps: int | None
    sample: Mapping[str, Any]
    silent: float
    ended: str

    @property
    def step(self) -> float:
        """Newest step."""
        return max((each.steps[-1] for each in self.series.values() if each.steps), default=0.0)

    @property
    def seconds(self) -> float:
        """Time spent."""
        clock = self.series.get("seconds")
        return self.info.seconds or (clock.last if clock is not None and clock.values else 0.0)

    def seconds_left(self) -> float | None:
        """Time to go at the pace of the newest steps; None while unknown, and where the run has ended."""
        clock = self.series.get("seconds")
        if self.ended or self.steps is None or clock is None:
            return None
        # Across a rollback the clock jumps while the steps do not.
        first = max((each.to for each in self.record.rollbacks), default=-math.inf)
        known = [(s, t) for s, t in zip(clock.steps[-PACE:], clock.values[-PACE:], strict=True) if s > first]
        if len(known) < 2 or known[-1][0] <= known[0][0]:
            return None
        pace = (known[-1][1] - known[0][1]) / (known[-1][0] - known[0][0])
        return max(0.0, pace * (self.steps - known[-1][0]))


class Following:
    """Looks at a run again and again.

    Args:
        path: The run directory, or that of a chain of runs, whose newest part is then shown.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shown: Path | None = None
        self._metrics, self._samples = _Tail(path), _Tail(path)
        self._columns = _Columns()
        self._sample: dict[str, Any] = {}

    def look(self) -> Look:
        """What there is now.

        Raises:
            BadInput: The folder is no run, or its `run.json` is damaged.
        """
        asked = Run.open(self.path)
        run = _shown(asked)
        if run.path != self._shown:
            self._shown, self._columns, self._sample = run.path, _Columns(), {}
            self._metrics = _Tail(run.path / "metrics.jsonl")
            self._samples = _Tail(run.path / "samples.jsonl")
        rows, anew = self._metrics.read()
        self._columns = _Columns() if anew else self._columns
        for row in rows:
            self._columns.add(row)
        samples, anew = self._samples.read()
        self._sample = samples[-1] if samples else {} if anew else self._sample
        settings = json_object(run.path / "config.json")
        planned = settings.get("steps", run.info.results.get("steps"))
        silent = max(0.0, time.time() - max(_written(run.path)))
        return Look(
            path=run.path,
            info=run.info,
            record=Record.read(run.path, run.info.results, settings),
            series=self._columns.series(),
            steps=planned if isinstance(planned, int) else None,
            sample=self._sample,
            silent=silent,
            ended=_ended(asked, silent),
        )


def _shown(asked: Run) -> Run:
    """The run itself, or of a chain the newest part; once it has ended, the newest with curves."""
    parts = [] if (asked.path / "metrics.jsonl").exists() else list(runs_below(asked.path))
    if asked.info.status != "running":
        parts = [part for part in parts if (part.path / "metrics.jsonl").exists()]
    return [asked, *parts][-1]


class _Tail:
    """The lines of a file that grows, each read once; all of them again where the file was rewritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._last = b""  # the line before the offset, by which a rewritten file is told

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """New rows without torn and foreign lines, and whether they are those of a file begun anew."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset - len(self._last))
                anew = file.read(len(self._last)) != self._last
                if anew:
                    self._offset = file.seek(0)
                data = file.read()
        except OSError:
            data, anew = b"", self._offset > 0
            self._offset, self._last = 0, b""
        whole = data[: data.rfind(b"\n") + 1]  # a line still being written is left for the next look
        lines = whole.splitlines(keepends=True)
        if anew or lines:
            self._last = lines[-1] if lines else b""
        self._offset += len(whole)
        return [row for row in map(_parsed, lines) if row is not None], anew


@dataclass
class _Columns:
    """Rows of numbers by key, so that a long run is not gone through again at every look."""

    found: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a row; values that are not finite leave a gap."""
        step = as_number(row.get("step"))
        for key, each in row.items():
            value = as_number(each)
            if step is not None and key != "step" and value is not None and math.isfinite(value):
                steps, values = self.found.setdefault(key, ([], []))
                steps.append(step)
                values.append(value)

    def series(self) -> dict[str, Series]:
        """The curves so far."""
        return {key: Series(key, steps, values) for key, (steps, values) in self.found.items()}


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _written(path: Path) -> Iterator[float]:
    """When the files that a run writes while it goes on were last changed."""
    for name in ("run.json", "metrics.jsonl", "samples.jsonl"):
        try:
            yield (path / name).stat().st_mtime
        except OSError:
            yield 0.0


def _ended(run: Run, silent: float) -> str:
    """Why nothing more will come from a run, in words."""
    if run.info.status != "running":
        return f"{run.info.status}: {run.info.reason}" if run.info.reason else run.info.status
    # The lock is asked for rarely, and only where there is one: looking on must not disturb a run that starts.
    if silent > SILENCE and (run.path / ".lock").exists():
        try:
            return "" if Lock.held(run.path) else "was killed"
        except OSError:
            return ""
    return ""
