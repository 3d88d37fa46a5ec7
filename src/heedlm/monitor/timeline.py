"""A whole log played through a detector, summed up as its changes of state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from heedlm.monitor.detector import Detector, State
from heedlm.monitor.signals import Alarm


@dataclass(frozen=True)
class Change:
    """A step at which the state changed, and why."""

    step: int
    state: State
    reasons: tuple[str, ...]


@dataclass
class Timeline:
    """What happened in a log: the changes of state, and the first time each signal reached each level."""

    changes: list[Change] = field(default_factory=list)
    alarms: dict[tuple[str, str], tuple[int, Alarm]] = field(default_factory=dict)

    @property
    def first_warning(self) -> int | None:
        """The first step at which the state was not healthy."""
        return next((change.step for change in self.changes if change.state != "healthy"), None)

    @property
    def collapsed_at(self) -> int | None:
        """The step of the collapse the log ends in, if it does."""
        last = self.changes[-1] if self.changes else None
        return last.step if last is not None and last.state == "collapsed" else None


def play(rows: Iterable[Mapping[str, float]], detector: Detector) -> Timeline:
    """Let a detector observe every row; where steps go back, the run has been rolled back and so is the detector.

    Args:
        rows: Numbers of one step each, under Heed's keys, with `step`.
        detector: A fresh one, or one that has seen what came before.
    """
    story, last = Timeline(), None
    for row in rows:
        step = int(row["step"])
        if last is not None and step <= last:
            before = detector.state
            detector.restart(step - 1)
            if before != "healthy":
                story.changes.append(Change(step, "healthy", (f"the log goes back from step {last} to step {step}",)))
        state, last = detector.state, step
        verdict = detector.observe(step, row)
        if verdict is None:
            continue
        for alarm in verdict.alarms:
            story.alarms.setdefault((alarm.signal, alarm.level), (step, alarm))
        if verdict.state != state:
            reasons = tuple(
                f"{alarm.signal}{' (warning)' if alarm.level == 'warn' else ''} {alarm.reason}"
                for alarm in verdict.alarms
            )
            story.changes.append(Change(step, verdict.state, reasons))
    return story
