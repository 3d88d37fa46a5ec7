"""Bootstrap intervals over prompts: answers to one prompt share its difficulty, so it is redrawn whole."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from heedlm.errors import HeedError, NotFinite

_CHUNK = 2_000_000  # drawn indices held at once; bounds memory at about 16 MB


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; `n` counts the values that went in."""

    estimate: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """The same as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference a − b with its interval and two-sided bootstrap p-value."""

    p_value: float


def bootstrap_mean(
    values: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean of `values` with a percentile bootstrap interval.

    Args:
        values: One number per item (a win, a correct pair, a score).
        groups: The prompt of each item; whole groups are redrawn. None: every item is its own group.
        seed: The interval is the same for the same seed, values and groups.
        resamples: How many times the groups are redrawn.
        level: Coverage of the interval.

    Raises:
        HeedError: There are no values, or `groups` has another length.
        NotFinite: A value is NaN or infinite.

    Source: Efron 1979; the cluster form redraws groups, as docs/methods.md §7.1 asks ("bootstrap over prompts").
    """
    draws, estimate = _draws(values, groups, seed, resamples)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high), len(values))


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Difference:
    """Mean of a − b, both measured on the same items, with interval and two-sided p-value.

    Pairing removes the difficulty of the items, so the interval is narrower than that of two separate means.
    The p-value is twice the share of redraws on the other side of zero, with one added to numerator and
    denominator so that it is never exactly 0.

    Raises:
        HeedError: The lengths differ or there are no values.
        NotFinite: A value is NaN or infinite.
    """
    if len(a) != len(b):
        raise HeedError(f"paired bootstrap: {len(a)} values against {len(b)}; both must score the same items")
    differences = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    draws, estimate = _draws(differences, groups, seed, resamples)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    below = (int((draws <= 0).sum()) + 1) / (resamples + 1)
    above = (int((draws >= 0).sum()) + 1) / (resamples + 1)
    return Difference(estimate, float(low), float(high), len(differences), min(1.0, 2 * min(below, above)))


def _draws(
    values: Sequence[float], groups: Sequence[Hashable] | None, seed: int, resamples: int
) -> tuple[NDArray[np.float64], float]:
    """Means of the redrawn samples, and the mean of the sample itself."""
    if not values:
        raise HeedError("bootstrap: there are no values to measure")
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise NotFinite(f"bootstrap: value {index} is {value}")
    sums, counts = _group_sums(values, groups)
    generator = np.random.default_rng(seed)
    size = len(sums)
    draws = np.empty(resamples)
    chunk = max(1, _CHUNK // size)
    for start in range(0, resamples, chunk):
        stop = min(start + chunk, resamples)
        picked = generator.integers(0, size, (stop - start, size))
        draws[start:stop] = sums[picked].sum(1) / counts[picked].sum(1)
    return draws, float(sums.sum() / counts.sum())


def _group_sums(
    values: Sequence[float], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and count of the values of each group, in order of first appearance."""
    if groups is None:
        return np.asarray(values, dtype=np.float64), np.ones(len(values))
    if len(groups) != len(values):
        raise HeedError(f"bootstrap: {len(values)} values but {len(groups)} group names")
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(group, len(numbers)) for group in groups]
    sums, counts = np.zeros(len(numbers)), np.zeros(len(numbers))
    np.add.at(sums, index, np.asarray(values, dtype=np.float64))
    np.add.at(counts, index, 1.0)
    return sums, counts
