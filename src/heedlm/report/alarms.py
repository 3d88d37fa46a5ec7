"""What the collapse detector said of a run and what its guard did about it, read from the run's folder.

`alarms.jsonl` has a line for every change of state or alarms; `abandoned/1`, `abandoned/2` and so on hold the lines of
the steps that the first, the second rollback gave up; `results["guard"]` in `run.json` names the rollbacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from heedlm.report.words import as_number
from heedlm.runs.files import read_lines

State = Literal["healthy", "warn", "collapsed"]


@dataclass(frozen=True)
class Change:
    """One line of `alarms.jsonl`: from this step on the run is in this state, for these reasons by signal."""

    step: float
    state: State
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stretch:
    """Steps in one state other than healthy; `end` is where the state changed, or the last step.

    `times` is above 1 where several that are close to each other were put together.
    """

    start: float
    end: float
    state: State
    reasons: tuple[str, ...]
    times: int = 1


@dataclass(frozen=True)
class Rollback:
    """Training went back from step `at` to step `to`.

    `changes` is what was said of the steps given up, and `folder` where their lines lie.
    """

    at: float
    to: float
    reasons: tuple[str, ...]
    lr_scale: float | None
    kl_coef: float | None
    changes: tuple[Change, ...]
    folder: Path

    @property
    def settings(self) -> str:
        """What training went on with, in words; empty if that was not recorded."""
        parts = [f"learning rate × {self.lr_scale:g}"] if self.lr_scale is not None else []
        return ", ".join(parts + ([f"β {self.kl_coef:g}"] if self.kl_coef is not None else []))


@dataclass(frozen=True)
class Record:
    """All of it.

    Attributes:
        watched: Whether a detector looked at the run at all.
        action: What the guard was to do about a collapse: rollback, stop or off; empty if unknown.
        state: The newest state.
        changes: What was said of the steps that were kept.
        rollbacks: Where training went back, in order.
        off: Sentences on signals that could not speak.
    """

    watched: bool
    action: str
    state: State
    changes: tuple[Change, ...]
    rollbacks: tuple[Rollback, ...]
    off: tuple[str, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the run is in its state: what was said last where no alarm is on now; empty while it is healthy."""
        if self.state == "healthy":
            return ()
        return worded([change for change in self.changes if change.state == self.state and change.reasons][-1:])

    @property
    def since(self) -> float | None:
        """The step from which the run has been in its state, if that was ever said."""
        last = stretches(self.changes, math.inf)[-1:]
        return last[0].start if last and self.state != "healthy" else None

    @property
    def told(self) -> list[Change]:
        """Every change of state or alarms in the order it was said, those of steps given up included."""
        first = min((each.to for each in self.rollbacks), default=math.inf)
        before = [change for change in self.changes if change.step <= first]
        lost = [change for each in self.rollbacks for change in each.changes]
        return before + lost + [change for change in self.changes if change.step > first]

    def carried(self, step: float) -> tuple[Change, ...]:
        """The state a stretch given up began in, which was that of the step it began after."""
        earlier = [change for change in self.changes if change.step <= step]
        return tuple(Change(step, each.state, each.reasons) for each in earlier[-1:])

    @classmethod
    def read(cls, path: Path, results: Mapping[str, Any], settings: Mapping[str, Any]) -> Record:
        """What a run's folder holds of all this; whatever is missing or torn is left out."""
        guard = results.get("guard")
        noted: Mapping[str, Any] = guard if isinstance(guard, Mapping) else {}
        changes = tuple(_changes(path / "alarms.jsonl"))
        found = (_rollback(path, number, row) for number, row in enumerate(_list(noted.get("rollbacks")), start=1))
        # A running run writes every change at once, but notes its state only at rollbacks and at its end.
        state = changes[-1].state if changes else _state(noted.get("state")) or "healthy"
        return cls(
            watched=bool(noted or changes or "guard" in settings),
            action=str(settings.get("guard", "")),
            state=state,
            changes=changes,
            rollbacks=tuple(each for each in found if each is not None),
            off=tuple(str(each) for each in _list(noted.get("off"))),
        )


def stretches(changes: Sequence[Change], last: float) -> list[Stretch]:
    """The steps in each state other than healthy, up to the step `last`; one stretch for all reasons of a state."""
    found: list[Stretch] = []
    begin = 0
    for place, change in enumerate(changes):
        ended = place + 1 == len(changes) or changes[place + 1].state != change.state
        if not ended:
            continue
        if change.state != "healthy":
            end = changes[place + 1].step if place + 1 < len(changes) else max(last, change.step)
            found.append(Stretch(changes[begin].step, end, change.state, worded(changes[begin : place + 1])))
        begin = place + 1
    return found


def joined(found: Sequence[Stretch], gap: float) -> list[Stretch]:
    """Stretches of the same state with at most `gap` healthy steps between them as one, with the newest reasons."""
    result: list[Stretch] = []
    for each in found:
        last = result[-1] if result else None
        if last is not None and last.state == each.state and each.start - last.end <= gap:
            result[-1] = replace(each, start=last.start, times=last.times + each.times)
        else:
            result.append(each)
    return result


def worded(changes: Sequence[Change]) -> tuple[str, ...]:
    """The newest reason of each signal that was on, such as "S3: NLL 0.5 nats a token"."""
    newest = {signal: reason for change in changes for signal, reason in change.reasons}
    return tuple(f"{signal}: {reason}" if signal else reason for signal, reason in sorted(newest.items()))


def _changes(path: Path) -> Iterator[Change]:
    for row in read_lines(path):
        step, state = as_number(row.get("step")), _state(row.get("state"))
        if step is not None and math.isfinite(step) and state is not None:
            alarms = [each for each in _list(row.get("alarms")) if isinstance(each, Mapping)]
            yield Change(step, state, tuple((str(a.get("signal", "")), str(a.get("reason", ""))) for a in alarms))


def _rollback(path: Path, number: int, row: Any) -> Rollback | None:
    facts: Mapping[str, Any] = row if isinstance(row, Mapping) else {}
    at, to = as_number(facts.get("at")), as_number(facts.get("to"))
    if at is None or to is None or not math.isfinite(at + to):
        return None
    folder = path / "abandoned" / str(number)
    return Rollback(
        at=at,
        to=to,
        reasons=tuple(str(each) for each in _list(facts.get("reasons"))),
        lr_scale=as_number(facts.get("lr_scale")),
        kl_coef=as_number(facts.get("kl_coef")),
        changes=tuple(_changes(folder / "alarms.jsonl")),
        folder=folder,
    )


def _state(value: Any) -> State | None:
    return next((state for state in get_args(State) if state == value), None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
