"""Medians, spread, ratios with an interval, and exponents of growth."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A sample's median with its smallest and largest value."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Interval:
    """A figure with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Power:
    """cost = factor · size^exponent, with the exponent's standard error."""

    exponent: float
    error: float
    factor: float


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio_of_medians(of: Sequence[float], to: Sequence[float], draws: int = 2000, seed: int = 0) -> Interval:
    """median(of) / median(to) with a percentile bootstrap over rounds.

    Rounds are drawn in pairs where both sides ran equally often: runs of one round stood next to each other, so
    that what disturbed the machine then disturbed both. With three rounds the interval is little more than the
    smallest and the largest ratio that the rounds allow.

    Args:
        of: Figures of one contestant, a round each.
        to: Figures of the other.
        draws: Bootstrap samples.
        seed: Seed of the draws.
    """
    generator = random.Random(seed)
    paired = len(of) == len(to)
    ratios = []
    for _ in range(draws):
        first = [generator.randrange(len(of)) for _ in of]
        second = first if paired else [generator.randrange(len(to)) for _ in to]
        ratios.append(statistics.median(of[i] for i in first) / statistics.median(to[i] for i in second))
    ratios.sort()
    low, high = ratios[int(0.025 * draws)], ratios[min(int(0.975 * draws), draws - 1)]
    return Interval(statistics.median(of) / statistics.median(to), low, high)


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> Power:
    """Least-squares line through (log size, log cost): its slope is the exponent of growth.

    The standard error is that of a slope in ordinary least squares, √(SSR / (n − 2) / Sxx); with two points it is
    unknown (NaN).

    Raises:
        ValueError: Fewer than two different sizes, or a value that is not positive.
    """
    if len(set(sizes)) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError("a power law needs two different sizes, and sizes and costs above zero")
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    sxx = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sxx
    start = mean_y - slope * mean_x
    left = sum((b - start - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    error = math.sqrt(left / (len(x) - 2) / sxx) if len(x) > 2 else math.nan
    return Power(slope, error, math.exp(start))
