"""The five signals of a collapse, each a function of window means (docs/methods.md §4.4).

A signal tells whether it raises an alarm and whether it is quiet enough for an earlier warning to end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from heedlm.monitor.thresholds import Thresholds

NOISE_FLOOR = 0.05  # S1 takes the scatter about the line for no less than this share of σ
MOST_CORRELATED = 0.9  # and the correlation of neighbouring residuals for no more than this


@dataclass(frozen=True)
class Alarm:
    """A signal that is on, or past its warning level, and why in words."""

    signal: Literal["S1", "S2", "S3", "S4", "S5"]
    level: Literal["on", "warn"]
    reason: str


@dataclass(frozen=True)
class Baseline:
    """What the first rows were like; None where they do not tell.

    `sigma`: standard deviation of the rewards of single answers; `length`: tokens; `nll`: nats a token; `rows`: of how
    many rows, 0 before there are enough.
    """

    sigma: float | None
    length: float | None
    nll: float | None
    rows: int = 0


class Reading(NamedTuple):
    """What one signal says at one look."""

    alarm: Alarm | None
    quiet: bool


QUIET = Reading(None, True)


def reward_jump(rewards: Sequence[float | None], sigma: float | None, limits: Thresholds) -> Reading:
    """S1: the window's mean reward is above a straight line through the rows before it, carried on.

    The difference must be large beside the spread of single answers and beside its own standard error, in which
    the correlation ρ of neighbouring residuals makes n rows count as n·(1−ρ)/(1+ρ).

    Args:
        rewards: The last `trend` + `window` mean rewards; None where one is missing.
        sigma: Standard deviation of single answers' rewards at the start.
        limits: Thresholds.
    """
    if not sigma or len(rewards) < limits.trend + limits.window:
        return QUIET
    times = np.arange(len(rewards), dtype=float)
    values = np.array([math.nan if value is None else value for value in rewards])
    known = np.isfinite(values)
    past, now = known.copy(), known.copy()
    past[limits.trend :] = False
    now[: limits.trend] = False
    if past.sum() < max(limits.trend / 2, 3) or now.sum() < limits.window / 2:
        return QUIET
    centre, level = times[past].mean(), values[past].mean()
    apart = times[past] - centre
    spread = float((apart**2).sum())
    slope = float((apart * (values[past] - level)).sum()) / spread
    ahead = times[now].mean() - centre
    mean = values[now].mean()
    excess = float(mean - level - slope * ahead)
    residuals = values[past] - level - slope * apart
    scatter, rho = _scatter(residuals)
    variance = (1 / now.sum() + 1 / past.sum() + ahead**2 / spread) * (1 + rho) / (1 - rho)
    errors = excess / (max(scatter, NOISE_FLOOR * sigma) * math.sqrt(variance))
    if excess < limits.reward_jump * sigma or errors < limits.reward_jump_errors:
        return Reading(None, errors < limits.reward_clear)
    reason = (
        f"reward {mean:.3g} is {excess:.2g} ({excess / sigma:.2g} standard deviations of single answers) "
        f"above its line through the {limits.trend} steps before"
    )
    return Reading(Alarm("S1", "on", reason), False)


def _scatter(residuals: np.ndarray) -> tuple[float, float]:
    """Standard deviation about a fitted line, and the correlation of neighbours, from 0 to 0.9."""
    squares = float((residuals**2).sum())
    scatter = math.sqrt(squares / (len(residuals) - 2))
    if scatter < 1e-9:
        return scatter, 0.0
    rho = float((residuals[1:] * residuals[:-1]).sum()) / squares
    return scatter, min(max(rho, 0.0), MOST_CORRELATED)


def length(mean: float | None, cut: float | None, start: float | None, cap: int | None, limits: Thresholds) -> Reading:
    """S2: answers as long as is allowed.

    Args:
        mean: Tokens an answer, the window's mean.
        cut: Share of answers that ran into the limit.
        start: Tokens an answer at the start.
        cap: Longest answer allowed, in tokens.
        limits: Thresholds.
    """
    full = mean is not None and cap is not None and mean >= limits.length_full * cap
    longer = mean is not None and start is not None and mean > limits.length_warn * start
    often = cut is not None and cut >= limits.truncated_warn
    reasons = []
    if mean is not None and (full or longer):
        most = f" of at most {cap}" if cap is not None else ""
        since = f", {mean / start:.1f} times the {start:.0f} at the start" if longer and start else ""
        reasons.append(f"mean length {mean:.0f}{most} tokens{since}")
    if cut is not None and often:
        reasons.append(f"{cut:.0%} of answers cut")
    if not reasons:
        return Reading(None, mean is None or cap is None or mean < limits.length_clear * cap)
    on = full or (cut is not None and cut >= limits.truncated)
    return Reading(Alarm("S2", "on" if on else "warn", " and ".join(reasons)), False)


def certainty(nll: float | None, start: float | None, limits: Thresholds) -> Reading:
    """S3: the policy has become sure of what it says; both in nats a token, the window's mean and the first rows'."""
    if nll is None or not start or nll > limits.nll_warn * start:
        return QUIET
    level: Literal["on", "warn"] = "on" if nll <= limits.nll * start else "warn"
    return Reading(
        Alarm("S3", level, f"NLL {nll:.3g} nats a token, {nll / start:.0%} of {start:.3g} at the start"), False
    )


def drift(kl: float | None, tokens: float | None, target: float | None, limits: Thresholds) -> Reading:
    """S4: far from the reference.

    Args:
        kl: Nats a token, the window's mean.
        tokens: Mean length of an answer.
        target: Nats an answer that a controller steers to; the levels are then no lower than a multiple of it.
        limits: Thresholds.
    """
    if kl is None:
        return QUIET
    steered = limits.kl_target_factor * target / tokens if target and tokens else 0.0
    scale = max(1.0, steered / limits.kl)
    if kl < limits.kl_warn * scale:
        return QUIET
    level: Literal["on", "warn"] = "on" if kl >= limits.kl * scale else "warn"
    reason = f"KL {kl:.3g} nats a token to the reference, alarm from {limits.kl * scale:.3g}"
    return Reading(Alarm("S4", level, reason), False)


class Quality(NamedTuple):
    """One measure of the win rate (a share), and the window's mean reward at that step."""

    step: int
    win_rate: float
    reward: float | None


def quality(
    now: Quality, best: Quality, drop_low: float | None, sigma: float | None, limits: Thresholds
) -> Alarm | None:
    """S5: the win rate has fallen while the reward has risen.

    Args:
        now: The newest measure.
        best: The one with the highest win rate so far.
        drop_low: Lower end of the drop's 95 % interval, where it is known; the drop counts only if that is above 0.
        sigma: Standard deviation of single answers' rewards at the start.
        limits: Thresholds.
    """
    drop = best.win_rate - now.win_rate
    if drop < limits.win_rate_drop - 1e-9 or (drop_low is not None and drop_low <= 0):
        return None
    if not sigma or now.reward is None or best.reward is None:
        return None
    gain = now.reward - best.reward
    if gain < limits.reward_gain * sigma:
        return None
    reason = (
        f"win rate {now.win_rate:.0%}, {100 * drop:.0f} points below the {best.win_rate:.0%} of step {best.step}, "
        f"while reward rose by {gain:.3g}"
    )
    return Alarm("S5", "on", reason)
