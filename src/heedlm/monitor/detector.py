"""The collapse detector: rows of a log in, a state with its reasons out (docs/methods.md §4.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from heedlm.monitor import signals
from heedlm.monitor.history import CUT, KL, LENGTH, MOVED, NLL, REWARD, SPREAD, WIN_RATE, History
from heedlm.monitor.signals import Alarm, Quality
from heedlm.monitor.thresholds import FEWEST, Thresholds

State = Literal["healthy", "warn", "collapsed"]
DROP_LOW = "watch/drop_low"
KEPT = 4  # lengths of S1's trend and window: after a rollback no signal has to wait for rows, if it is not further back


@dataclass(frozen=True)
class Verdict:
    """What one look at the signals found; a collapse stays a collapse, whatever the alarms of later looks."""

    step: int
    state: State
    alarms: tuple[Alarm, ...]


class Detector:
    """Watches a run for collapse; `limits` are the thresholds in force, with windows that suit the run's pace.

    Collapsed if S5 is on, or two of S1 to S4 at three looks in a row; that stays until `restart`. Any alarm else is a
    warning, which ends after ten quiet looks. Values that are missing or not finite are left out of the means; a
    window that lacks more than half of its values is not judged.

    Args:
        thresholds: When signals are on.
        cap: Longest answer allowed, in tokens; None if unknown.
        kl_target: Nats an answer that an adaptive KL controller steers to, if there is one.
        start_win_rate: Win rate before the first step, if it is known: ½ where it is one over the starting policy.
            A policy that only ever gets worse has no better evaluation to fall from.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        cap: int | None,
        kl_target: float | None = None,
        start_win_rate: float | None = None,
    ) -> None:
        self.thresholds, self.cap, self.kl_target = thresholds, cap, kl_target
        self.start_win_rate = start_win_rate
        self.limits, self._factor = thresholds, 1.0
        self._history = History(max(KEPT * (thresholds.trend + thresholds.window), thresholds.baseline))
        self._bests: list[Quality] = []  # each higher than the last, so that `restart` finds the best until its step
        self._quality: Alarm | None = None  # what the newest win rate says; it stands until the next
        self._state: State = "healthy"
        self._first_warn: int | None = None
        self._together = self._quiet = 0

    @property
    def state(self) -> State:
        """What the newest look found."""
        return self._state

    @property
    def first_warn(self) -> int | None:
        """The step at which the present trouble was first seen; None while healthy."""
        return self._first_warn

    def observe(self, step: int, row: Mapping[str, float]) -> Verdict | None:
        """Take in the numbers of a step; a verdict at each look, that is when a multiple of `every` is reached.

        Raises:
            ValueError: The step is not after the one before; a run that goes back needs `restart`.
        """
        history, last = self._history, self._history.last
        if last is not None and step <= last:
            raise ValueError(f"step {step} comes after step {last}: call restart before going back")
        win_rate = history.add(step, row)
        if history.count == 1 and self.start_win_rate is not None:
            self._bests = [Quality(0, self.start_win_rate, history.mean(REWARD, 1, least=1))]
        if history.count == FEWEST:
            self._adapt()
        if history.count == self.limits.baseline:
            history.settle(self.limits.baseline)
        if win_rate is not None:
            self._judge(Quality(step, win_rate, history.mean(REWARD, self.limits.window, least=1)), row.get(DROP_LOW))
        due = last is None or step // self.limits.every > last // self.limits.every
        return self._look(step) if due and history.count >= self.limits.min_steps else None

    def restart(self, step: int) -> None:
        """Go back to a step: forget the rows after it and the state; the baseline stays."""
        self._history.back_to(step)
        self._bests = [best for best in self._bests if best.step <= step]
        self._quality, self._state, self._first_warn = None, "healthy", None
        self._together = self._quiet = 0

    @property
    def off(self) -> dict[str, str]:
        """The signals that cannot speak, or only warn, each with a sentence that says what they lack."""
        lack = self._history.lack
        missing = {
            "S1": lack(REWARD) or lack(SPREAD),
            "S2": lack(CUT) and lack(LENGTH),
            "S3": lack(NLL),
            "S4": lack(KL),
            "S5": lack(WIN_RATE) or lack(REWARD) or lack(SPREAD),
        }
        if self._history.baseline.sigma == 0:
            equal = f"all rewards of the first {self._history.baseline.rows} rows are equal"
            missing |= {signal: missing[signal] or equal for signal in ("S1", "S5")}
        found = {signal: f"{signal} is off: {what}" for signal, what in missing.items() if what}
        if "S2" not in found and lack(CUT) and self.cap is None:
            found["S2"] = f"S2 can only warn: the longest answer allowed (cap) is not given, and {lack(CUT)}"
        return found

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Sentences on values that were NaN or infinite and so were left out."""
        return self._history.not_finite

    def state_dict(self) -> dict[str, Any]:
        """Everything later verdicts depend on, as JSON values; thresholds, cap and target are the caller's."""
        return {
            "history": self._history.state_dict(),
            "factor": self._factor,
            "bests": [list(best) for best in self._bests],
            "quality": asdict(self._quality) if self._quality else None,
            "state": self._state,
            "first_warn": self._first_warn,
            "together": self._together,
            "quiet": self._quiet,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._history.load_state_dict(state["history"])
        self._factor = float(state["factor"])
        self.limits = self.thresholds.scaled(self._factor)
        self._bests = [Quality(*best) for best in state["bests"]]
        self._quality = Alarm(**state["quality"]) if state["quality"] else None
        self._state, self._first_warn = state["state"], state["first_warn"]
        self._together, self._quiet = int(state["together"]), int(state["quiet"])

    def _adapt(self) -> None:
        """Shorten the windows for a run that moves faster than they were made for.

        KL grows with the square of the distance between two policies, so that a run whose KL a step is four times as
        large covers the same distance in half the steps.
        """
        moved = [value for value in self._history.column(MOVED, FEWEST) if value is not None and value > 0]
        if self.thresholds.pace is not None and moved:
            self._factor = math.sqrt(self.thresholds.pace / median(moved))
            self.limits = self.thresholds.scaled(self._factor)

    def _judge(self, now: Quality, drop_low: float | None) -> None:
        if not self._bests or now.win_rate > self._bests[-1].win_rate:
            self._bests.append(now)
        low = drop_low if drop_low is not None and math.isfinite(drop_low) else None
        sigma = self._history.baseline.sigma
        self._quality = signals.quality(now, self._bests[-1], low, sigma, self.limits)

    def _look(self, step: int) -> Verdict:
        limits, history, start = self.limits, self._history, self._history.baseline
        tokens = history.mean(LENGTH, limits.window)
        readings = (
            signals.reward_jump(history.column(REWARD, limits.trend + limits.window), start.sigma, limits),
            signals.length(tokens, history.mean(CUT, limits.window), start.length, self.cap, limits),
            signals.certainty(history.mean(NLL, limits.window), start.nll, limits),
            signals.drift(history.mean(KL, limits.window), tokens, self.kl_target, limits),
        )
        alarms = tuple(reading.alarm for reading in readings if reading.alarm is not None)
        on = sum(alarm.level == "on" for alarm in alarms)
        self._together = self._together + 1 if on >= limits.together else 0
        if self._quality is not None:
            alarms += (self._quality,)
        self._quiet = self._quiet + 1 if not alarms and all(reading.quiet for reading in readings) else 0
        self._decide(step, bool(alarms))
        return Verdict(step, self._state, alarms)

    def _decide(self, step: int, alarmed: bool) -> None:
        if self._quality is not None or self._together >= self.limits.confirm:
            self._state = "collapsed"
        elif self._state == "healthy" and alarmed:
            self._state = "warn"
        elif self._state == "warn" and self._quiet >= self.limits.clear:
            self._state, self._first_warn = "healthy", None
        if self._state != "healthy" and self._first_warn is None:
            self._first_warn = step
