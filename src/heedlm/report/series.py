"""Numbers logged step by step, thinned to what a chart can show and smoothed to what an eye can follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedlm.report.words import as_number

POINTS = 200  # points a chart draws; more are averaged, with the range kept as a shade


@dataclass(frozen=True)
class Series:
    """One key's values over steps. `bad` counts values that were NaN or infinite; `first_bad` is their first step."""

    key: str
    steps: list[float]
    values: list[float]
    bad: int = 0
    first_bad: float | None = None

    @property
    def last(self) -> float:
        """Newest finite value."""
        return self.values[-1]

    def start(self, share: float = 0.05) -> float:
        """Mean of the first values (a share of them, at least one)."""
        count = max(1, round(len(self.values) * share))
        return math.fsum(self.values[:count]) / count

    def end(self, share: float = 0.05) -> float:
        """Mean of the last values (a share of them, at least one)."""
        count = max(1, round(len(self.values) * share))
        return math.fsum(self.values[-count:]) / count


@dataclass(frozen=True)
class Thinned:
    """At most POINTS points: means, with the lowest and highest value behind each, and the smoothed line."""

    steps: list[float]
    values: list[float]
    low: list[float]
    high: list[float]
    smooth: list[float] | None


def collect(rows: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """All numeric keys of `metrics.jsonl` as series, in order of first appearance.

    Rows without a number as step are counted from 1. A step logged twice (after a resume) keeps its last row.
    """
    by_step: dict[float, Mapping[str, Any]] = {}
    for index, row in enumerate(rows):
        step = as_number(row.get("step"))
        place = float(index + 1) if step is None else step
        by_step[place] = {**by_step.get(place, {}), **row}
    points: dict[str, list[tuple[float, float]]] = {}
    for step in sorted(by_step):
        for key, value in by_step[step].items():
            found = as_number(value)
            if key != "step" and found is not None:
                points.setdefault(key, []).append((step, found))
    return {key: _series(key, values) for key, values in points.items()}


def throughput(series: Mapping[str, Series]) -> Series | None:
    """Tokens a second from the logged tokens and seconds, where both are there."""
    tokens, seconds = series.get("tokens"), series.get("seconds")
    if tokens is None or seconds is None:
        return None
    clock = dict(zip(seconds.steps, seconds.values, strict=True))
    steps, values, before = [], [], 0.0
    for step, count in zip(tokens.steps, tokens.values, strict=True):
        now = clock.get(step)
        if now is None:
            continue
        if now > before > 0:
            steps.append(step)
            values.append(count / (now - before))
        before = now
    return Series("tokens a second", steps, values) if values else None


def thin(series: Series, points: int = POINTS) -> Thinned:
    """Averages of neighbouring values, so that at most `points` remain; smoothed where there are over 30."""
    count = len(series.values)
    size = max(1, math.ceil(count / points))
    steps, means, low, high = [], [], [], []
    for begin in range(0, count, size):
        chunk = series.values[begin : begin + size]
        steps.append(series.steps[min(begin + size, count) - 1] if size > 1 else series.steps[begin])
        means.append(math.fsum(chunk) / len(chunk))
        low.append(min(chunk))
        high.append(max(chunk))
    return Thinned(steps, means, low, high, smoothed(means) if len(means) > 30 else None)


def smoothed(values: Sequence[float], share: float = 0.04) -> list[float]:
    """Centred moving average over a window of `share` of the values on each side, shorter at the ends."""
    reach = max(1, round(len(values) * share))
    result = []
    for index in range(len(values)):
        window = values[max(0, index - reach) : index + reach + 1]
        result.append(math.fsum(window) / len(window))
    return result


def _series(key: str, points: Sequence[tuple[float, float]]) -> Series:
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    bad = [step for step, value in points if not math.isfinite(value)]
    return Series(
        key,
        [step for step, _ in finite],
        [value for _, value in finite],
        len(bad),
        bad[0] if bad else None,
    )
