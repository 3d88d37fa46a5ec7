"""The rows a detector remembers: window means, what the first rows were like, and what is missing."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from heedlm.monitor.signals import Baseline

REWARD, SPREAD, LENGTH, CUT = "reward/mean", "reward/std", "length/mean", "length/truncated"
NLL, KL, WIN_RATE = "nll/policy", "kl/token_nats", "watch/win_rate"
MOVED = "policy/approx_kl"  # KL a step between the policy before and after its updates
NAMES = {
    REWARD: "reward",
    SPREAD: "spread of rewards (reward/std)",
    LENGTH: "length",
    CUT: "share of cut answers",
    NLL: "NLL",
    KL: "KL a token",
    WIN_RATE: "win rate",
    MOVED: "KL between updates",
}
_PLACES = {key: place for place, key in enumerate((REWARD, SPREAD, LENGTH, CUT, NLL, KL, MOVED), start=1)}


class History:
    """The last rows of a log, reduced to what the signals need; a value that is not finite counts as missing.

    Args:
        kept: Rows that are remembered.
    """

    def __init__(self, kept: int) -> None:
        self.baseline = Baseline(None, None, None)
        self.count = 0
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=kept)  # step, then a value or None for each place
        self._known = dict.fromkeys(NAMES, 0)
        self._not_finite: dict[str, tuple[int, int]] = {}  # first step, rows

    @property
    def last(self) -> int | None:
        """Step of the newest row."""
        return self._rows[-1][0] if self._rows else None

    def add(self, step: int, row: Mapping[str, float]) -> float | None:
        """Take in a row; its win rate, if it has one."""
        values = {key: self._finite(step, key, row.get(key)) for key in NAMES}
        self._rows.append((step, *(values[key] for key in _PLACES)))
        self.count += 1
        return values[WIN_RATE]

    def back_to(self, step: int) -> None:
        """Forget the rows after a step; the baseline stays."""
        while self._rows and self._rows[-1][0] > step:
            self._rows.pop()

    def settle(self, rows: int) -> None:
        """Take the newest rows as the baseline; called when there are just so many."""
        rewards, spreads, lengths, nlls = (_known(self.column(key, rows)) for key in (REWARD, SPREAD, LENGTH, NLL))
        sigma = None
        if rewards and spreads:
            # The variance of all these answers: that within a step and that between the steps' means.
            middle = _average(rewards)
            within = _average([spread**2 for spread in spreads])
            sigma = math.sqrt(within + _average([(reward - middle) ** 2 for reward in rewards]))
        length, nll = (_average(values) if values else None for values in (lengths, nlls))
        self.baseline = Baseline(sigma, length, nll, rows)

    def column(self, key: str, rows: int) -> list[float | None]:
        """The newest values of a key, oldest first; None where one is missing."""
        place = _PLACES[key]
        newest = [row[place] for row in islice(reversed(self._rows), rows)]
        return newest[::-1]

    def mean(self, key: str, window: int, least: float | None = None) -> float | None:
        """Mean over the newest rows; None if fewer than `least` values, by default half the window, are there."""
        found = _known(self.column(key, window))
        return _average(found) if len(found) >= (window / 2 if least is None else least) else None

    def lack(self, key: str) -> str:
        """What is missing of a key, in words; empty if there is enough of it."""
        known, name = self._known[key], NAMES[key]
        if known == 0:
            return f"no {name} in this log"
        if key != WIN_RATE and known < self.count / 2:
            return f"{name} in only {known} of {self.count} rows"
        levels = {SPREAD: self.baseline.sigma, NLL: self.baseline.nll}
        if self.baseline.rows and key in levels and levels[key] is None:
            return f"no {name} in the first {self.baseline.rows} rows"
        return ""

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Sentences on values that were NaN or infinite."""
        return tuple(
            f"{key} was NaN or infinite in {rows} rows, first at step {step}; they were left out"
            for key, (step, rows) in self._not_finite.items()
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as JSON values."""
        return {
            "rows": [list(row) for row in self._rows],
            "count": self.count,
            "baseline": asdict(self.baseline),
            "known": dict(self._known),
            "not_finite": {key: list(found) for key, found in self._not_finite.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._rows = deque((tuple(row) for row in state["rows"]), maxlen=self._rows.maxlen)
        self.count = int(state["count"])
        self.baseline = Baseline(**state["baseline"])
        self._known = {**self._known, **state["known"]}
        self._not_finite = {key: (first, rows) for key, (first, rows) in state["not_finite"].items()}

    def _finite(self, step: int, key: str, value: float | None) -> float | None:
        if value is None:
            return None
        if not math.isfinite(value):
            first, rows = self._not_finite.get(key, (step, 0))
            self._not_finite[key] = (first, rows + 1)
            return None
        self._known[key] += 1
        return float(value)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
