"""The guard: what a training run does about a collapse (docs/methods.md §4.4).

It feeds the detector with the numbers of each step, writes what changes to `alarms.jsonl`, sees to it that the
checkpoint to go back to is kept, and says when to go back there or to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

from heedlm.config import Config
from heedlm.errors import Collapsed
from heedlm.monitor.detector import Detector, Verdict
from heedlm.runs import Run, checkpoints

Action = Literal["rollback", "stop", "off"]
WIN_RATE = "watch/win_rate"


class Rollback(Config):
    """How training goes on after a collapse."""

    most: NonNegativeInt = Field(3, description="times a run may go back; at the next collapse it stops")
    margin: NonNegativeInt = Field(
        50, description="without a win rate: steps between the checkpoint gone back to and the first warning"
    )
    lr: float = Field(0.5, gt=0, le=1, description="factor of the learning rates at each rollback")
    kl: float = Field(2.0, ge=1, description="factor of β at each rollback")
    kl_start: PositiveFloat = Field(0.05, description="β after a rollback where it was 0")


class Guard:
    """Watches one run.

    Args:
        run: Whose alarms are written and whose checkpoints are chosen among.
        detector: What tells a collapse.
        action: What is done about one.
        rollback: How to go on.
    """

    def __init__(self, run: Run, detector: Detector, action: Action, rollback: Rollback) -> None:
        self.run, self.detector, self.action, self.rollback = run, detector, action, rollback
        self.rollbacks: list[dict[str, Any]] = []
        self.may_go_back = action != "off"
        self._best: tuple[float, int] | None = None  # win rate and step
        self._said: tuple[Any, ...] = ()

    def observe(self, step: int, values: Mapping[str, float]) -> int | None:
        """Take in the numbers of a step; the step to go back to, or None to go on.

        Raises:
            Collapsed: The run is to stop.
        """
        rate, start = values.get(WIN_RATE), self.detector.start_win_rate
        if rate is not None and self._best is None and start is not None:
            self._best = (start, 0)
        if rate is not None and (self._best is None or rate > self._best[0]):
            self._best = (rate, step)
        verdict = self.detector.observe(step, values)
        if verdict is None:
            return None
        self._tell(verdict)
        if verdict.state != "collapsed" or self.action == "off":
            return None
        reasons = [alarm.reason for alarm in verdict.alarms]
        target = self.target()
        if self.action == "stop" or len(self.rollbacks) >= self.rollback.most or target is None:
            self.note()
            raise Collapsed(self._farewell(step, reasons, target))
        self.rollbacks.append({"at": step, "to": target, "reasons": reasons})
        return target

    def best_at(self, step: int) -> bool:
        """Whether this step's win rate is the best so far, so that its checkpoint is wanted."""
        return self.may_go_back and self._best is not None and self._best[1] == step

    @property
    def best(self) -> int | None:
        """The step with the best win rate, if its checkpoint is there."""
        step = None if self._best is None else self._best[1]
        return step if step in checkpoints.steps(self.run) else None

    def target(self) -> int | None:
        """The checkpoint to go back to: the best win rate's, else the last one well before the first warning."""
        if self.best is not None:
            return self.best
        return _before(checkpoints.steps(self.run), (self.detector.first_warn or 0) - self.rollback.margin)

    def keeps(self, step: int) -> set[int]:
        """Steps whose checkpoints may be needed, now that `step` is done."""
        if not self.may_go_back:
            return set()
        found, kept = checkpoints.steps(self.run), set[int]()
        # Before the first win rate the start may yet turn out to be the best.
        kept.add(0 if self._best is None else self._best[1])
        warned = self.detector.first_warn
        base = _before(found, (step if warned is None else warned) - self.rollback.margin)
        if base is not None:
            kept.add(base)
            # Healthy still: a later one may be far enough from a warning that is yet to come.
            kept |= {other for other in found if other > base and warned is None}
        return kept

    def note(self) -> None:
        """Record state and rollbacks in `run.json`."""
        off = [*self.detector.off.values(), *self.detector.not_finite]
        self.run.note(guard={"state": self.detector.state, "off": off, "rollbacks": self.rollbacks})

    def went_back(self, state: Mapping[str, Any], facts: Mapping[str, float]) -> None:
        """Take up the state saved with the checkpoint, but not its memory of rollbacks.

        Args:
            state: What `state_dict` gave when it was saved.
            facts: What training goes on with, for the record.
        """
        rollbacks = self.rollbacks
        self.load_state_dict(state)
        self.rollbacks = rollbacks
        self.rollbacks[-1] |= facts
        self.note()

    def state_dict(self) -> dict[str, Any]:
        """Everything later verdicts depend on."""
        return {
            "detector": self.detector.state_dict(),
            "rollbacks": self.rollbacks,
            "best": list(self._best) if self._best else None,
            "said": list(self._said),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.detector.load_state_dict(state["detector"])
        self.rollbacks = [dict(item) for item in state["rollbacks"]]
        self._best = (float(state["best"][0]), int(state["best"][1])) if state["best"] else None
        self._said = tuple(state["said"])

    def _tell(self, verdict: Verdict) -> None:
        """Write a line when state or alarms are others than at the last look."""
        said = (verdict.state, *(f"{alarm.signal} {alarm.level}" for alarm in verdict.alarms))
        if said == self._said:
            return
        first, self._said = not self._said, said
        self.note()
        if first and verdict.state == "healthy":
            return
        alarms = [{"signal": a.signal, "level": a.level, "reason": a.reason} for a in verdict.alarms]
        self.run.alarm(verdict.step, {"state": verdict.state, "alarms": alarms})

    def _farewell(self, step: int, reasons: Sequence[str], target: int | None) -> str:
        tried = f" after {len(self.rollbacks)} rollbacks" if self.rollbacks else ""
        best = f"the weights of step {target} are kept as model" if target is not None else "no checkpoint was left"
        return f"{self.run.path}: collapsed at step {step}{tried}: {'; '.join(reasons)}; {best}"


def _before(steps: Sequence[int], most: int) -> int | None:
    """The last step up to `most`, else the first there is."""
    return max((step for step in steps if step <= most), default=min(steps, default=None))
