"""Thresholds for another size of model, from runs whose outcome is known (docs/monitor.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from heedlm.monitor.history import CUT, KL, MOVED, NLL, WIN_RATE
from heedlm.monitor.thresholds import FEWEST, Thresholds

Rows = Sequence[Mapping[str, float]]
MARGIN = 1.25  # an alarm lies at least this factor beyond what healthy runs reach, where failing ones go no further
SHARE = 3  # the windows together take no more than a third of the rows until a failing run reached an alarm


def calibrate(healthy: Sequence[Rows], failing: Sequence[Rows], start: Thresholds | None = None) -> Thresholds:
    """Alarms for KL and NLL between the levels of healthy and failing runs, and windows as short as the latter demand.

    An alarm lies at the geometric midpoint of the farthest that a healthy run went and of where a failing run lost
    quality: at its first win rate 10 points below its best or, without win rates, in its last quarter. A warning lies
    midway between the healthy level and the alarm. Shares of cut answers are raised above those of healthy runs. The
    windows shrink if a failing run reached an alarm too soon for
    them; `pace` then lets a detector shrink them further in runs that move faster still.

    Args:
        healthy: Runs that went well, each its rows under Heed's keys (`files.read_log`).
        failing: Runs that did not.
        start: Thresholds to begin from; those of 7 B parameters if not given.

    Returns:
        The thresholds; whatever the runs do not tell stays as it was.
    """
    limits, changes = start or Thresholds(), dict[str, float]()
    level = _between([_strain(run, KL) for run in healthy], [_at_loss(run, KL) for run in failing])
    if level is not None:
        changes |= {"kl": level[1], "kl_warn": level[0]}
    level = _between([_strain(run, NLL) for run in healthy], [_at_loss(run, NLL) for run in failing])
    if level is not None:
        changes |= {"nll": 1 / level[1], "nll_warn": 1 / level[0]}
    cut = MARGIN * max((row.get(CUT, 0.0) for run in healthy for row in run), default=0.0)
    changes |= {key: min(max(getattr(limits, key), cut), 1.0) for key in ("truncated", "truncated_warn")}
    limits = Thresholds.model_validate({**limits.model_dump(), **changes})
    ends = [(end, run) for run in failing if (end := _first_alarm(run, limits)) is not None]
    if not ends:
        return limits
    # The slowest sets the windows; faster ones have them shortened by their own pace.
    end, slowest = max(ends, key=lambda found: found[0])
    return limits.scaled(end / SHARE / (limits.trend + limits.window)).model_copy(update={"pace": pace_of(slowest)})


def pace_of(rows: Rows) -> float | None:
    """KL a step between the policy before and after its updates (nats a token): the median of the first rows."""
    found = [row[MOVED] for row in rows[:FEWEST] if 0 < row.get(MOVED, 0.0) < math.inf]
    return median(found) if found else None


def _between(healthy: Sequence[Mapping[int, float]], failing: Sequence[float | None]) -> tuple[float, float] | None:
    """Levels of warning and alarm between the most strained healthy run and the least strained failing one."""
    calm = max((strain for run in healthy for strain in run.values()), default=0.0)
    lost = min((level for level in failing if level is not None), default=0.0)
    if calm <= 0 or lost <= 0:
        return None
    alarm = max(math.sqrt(calm * lost), MARGIN * calm)
    return math.sqrt(calm * alarm), alarm


def _strain(rows: Rows, key: str) -> dict[int, float]:
    """Row → how far the run has gone, as a mean over the last few rows: KL, or the first NLL ÷ this NLL."""
    known = [(place, row[key]) for place, row in enumerate(rows) if math.isfinite(row.get(key, math.nan))]
    means = {
        known[last][0]: fmean(value for _, value in known[last + 1 - FEWEST : last + 1])
        for last in range(FEWEST - 1, len(known))
    }
    if key == KL:
        return means
    first = next(iter(means.values()), 0.0)
    return {place: first / mean for place, mean in means.items() if mean > 0}


def _at_loss(rows: Rows, key: str) -> float | None:
    """How far a failing run had gone when it lost quality."""
    strain, best = _strain(rows, key), 0.0
    for place, row in enumerate(rows):
        rate = row.get(WIN_RATE)
        if rate is not None and rate <= best - Thresholds().win_rate_drop:
            before = [value for at, value in strain.items() if at <= place]
            return before[-1] if before else None
        best = max(best, rate or 0.0)
    late = [value for at, value in strain.items() if at >= len(rows) * 3 // 4]
    return median(late) if late else None


def _first_alarm(rows: Rows, limits: Thresholds) -> int | None:
    """Rows until KL or NLL first reached its alarm."""
    drift = [place for place, value in _strain(rows, KL).items() if value >= limits.kl]
    sure = [place for place, value in _strain(rows, NLL).items() if value >= 1 / limits.nll]
    return min(drift[:1] + sure[:1], default=-1) + 1 or None
