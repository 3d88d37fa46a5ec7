"""What several charts on one time axis have in common: shaded alarms, and stretches that a rollback gave up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heedlm.report.alarms import State, Stretch, joined
from heedlm.report.series import Series
from heedlm.report.words import short

CLOSE = 1.0  # percent of the axis: alarms of one state that are closer are shown as one
NARROW = 0.3  # percent of the axis that a shade covers at least, so that it is seen
SHOWN = 160  # characters of a reason beside the pointer


@dataclass(frozen=True)
class Zone:
    """Steps that are shaded: left end and width in percent of the axis, what state they were in, and why."""

    at: float
    width: float
    state: State
    lost: bool
    text: str


@dataclass(frozen=True)
class Overlay:
    """What charts on one time axis have in common.

    Attributes:
        left: First step of the axis.
        right: Last step of the axis.
        kept: Stretches of alarm.
        lost: Stretches of alarm that a rollback gave up.
        backs: Steps at which training went back, and to which.
        given_up: Curves that were given up, for each rollback.
    """

    left: float
    right: float
    kept: Sequence[Stretch] = ()
    lost: Sequence[Stretch] = ()
    backs: Sequence[tuple[float, float]] = ()
    given_up: Sequence[Mapping[str, Series]] = ()

    def place(self, step: float) -> float:
        """A step in percent of the axis."""
        return round(100 * min(1.0, max(0.0, (step - self.left) / (self.right - self.left))), 2)

    @property
    def gap(self) -> float:
        """Healthy steps between two alarms that are too few to be told apart."""
        return CLOSE / 100 * (self.right - self.left)

    def zones(self) -> list[Zone]:
        """Every stretch of alarm, the kept ones first."""
        kept, lost = (joined(found, self.gap) for found in (self.kept, self.lost))
        return [*(self._zone(each, False) for each in kept), *(self._zone(each, True) for each in lost)]

    def _zone(self, each: Stretch, lost: bool) -> Zone:
        at = self.place(each.start)
        words = ["given up"] if lost else []
        words += ["warning" if each.state == "warn" else "collapsed"]
        words += [f"{each.times} times"] if each.times > 1 else []
        text = short("; ".join([", ".join(words), *each.reasons]), SHOWN)
        return Zone(at, max(NARROW, round(self.place(each.end) - at, 2)), each.state, lost, text)
