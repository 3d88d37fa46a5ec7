"""Coefficients of agreement over many annotators, missing judgements included, with bootstrap intervals over items.

All of them are functions of one table: how often value c of one annotator meets value k of another on the same unit,
split by m, how many annotators judged the unit. The bootstrap redraws whole items, as everything said of one item
shares its difficulty, and reads every coefficient off the same redraws. "docs/agreement.md" holds the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Metric = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """What was said: N values, each by one annotator on one unit (an item, or one pair of answers of an item).

    `value` holds codes 0 … C − 1 into `scale`, the C values in ascending order. A `mirrored` unit is a pair of answers,
    which one stands first means nothing, so that each counts in both directions: code c also as C − 1 − c.
    """

    item: Ints
    unit: Ints
    annotator: Ints
    value: Ints
    scale: Floats
    mirrored: bool = False


@dataclass(frozen=True)
class Pairs:
    """Every two annotators' values on a unit that both judged: places in `Units`, and m annotators of that unit."""

    left: Ints
    right: Ints
    judges: Ints


def pairs_of(units: Units) -> Pairs:
    """Every pair of values on one unit, each once; units with a single value have none."""
    order = np.argsort(units.unit, kind="stable")
    unit = units.unit[order]
    judges = np.bincount(unit)[unit] if len(unit) else unit
    left, right = [], []
    for step in range(1, int(judges.max(initial=1))):
        place = np.flatnonzero(unit[step:] == unit[:-step])
        left.append(place)
        right.append(place + step)
    first = np.concatenate([np.empty(0, np.int64), *left])
    second = np.concatenate([np.empty(0, np.int64), *right])
    return Pairs(order[first], order[second], judges[first])


def meetings(units: Units, pairs: Pairs, seed: int, resamples: int) -> tuple[Floats, Ints]:
    """How often value c met value k, of the sample and of redraws of its items.

    Items without a pair of values say nothing and are not drawn. Items that hold the same meetings are of one kind:
    drawing kinds by their frequency is the same as drawing items, and much faster.

    Returns:
        Counts [1 + resamples, M, C, C], symmetric, the sample first; and the M numbers of annotators of a unit.
    """
    C = len(units.scale)
    sizes, size = np.unique(pairs.judges, return_inverse=True)
    one, two = units.value[pairs.left], units.value[pairs.right]
    low, high = np.minimum(one, two), np.maximum(one, two)
    cell = low * C + high
    if units.mirrored:
        cell = np.minimum(cell, (C - 1 - high) * C + C - 1 - low)
    cell = size * C * C + cell
    generator = np.random.default_rng(seed)
    kind, cells, times, counts = _kinds(units.item[pairs.left], cell, generator)
    width = len(sizes) * C * C
    found = np.empty((1 + resamples, width))
    found[0] = np.bincount(cell, minlength=width)
    share = counts / counts.sum() if len(counts) else counts
    for redraw in range(1, resamples + 1):
        drawn = generator.multinomial(int(counts.sum()), share) if len(counts) else counts
        found[redraw] = np.bincount(cells, times * drawn[kind], minlength=width)
    table = found.reshape(1 + resamples, len(sizes), C, C)
    table = table + table.swapaxes(2, 3)
    if units.mirrored:
        table = table + table[:, :, ::-1, ::-1]
    return table, sizes


def _kinds(item: Ints, cell: Ints, generator: np.random.Generator) -> tuple[Ints, Ints, Floats, Ints]:
    """Kinds of items: (kind, cell, times) for each cell that a kind holds, and how many items are of each kind.

    Two items are of one kind where a sum of random 64-bit numbers, one for each cell, is the same for both.
    """
    if not len(item):
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0), empty
    _, first, item = np.unique(item, return_index=True, return_inverse=True)
    mark = np.zeros(len(first), np.uint64)
    np.add.at(mark, item, generator.integers(0, 2**63, int(cell.max()) + 1, dtype=np.uint64)[cell])
    _, example, counts = np.unique(mark, return_index=True, return_counts=True)
    kind_of = np.full(len(first), -1)
    kind_of[example] = np.arange(len(example))
    chosen = kind_of[item] >= 0
    kind, cells = kind_of[item][chosen], cell[chosen]
    both, times = np.unique(kind * (int(cell.max()) + 1) + cells, return_counts=True)
    return both // (int(cell.max()) + 1), both % (int(cell.max()) + 1), times.astype(np.float64), counts


# ------------------------------------------------------------------------------------------ coefficients


def coincidences(table: Floats, sizes: Ints) -> Floats:
    """Krippendorff's coincidence matrices [R, C, C]: a unit of m values gives each ordered pair 1 / (m − 1)."""
    found: Floats = np.einsum("rmck,m->rck", table, 1 / (sizes - 1))
    return found


def alpha(table: Floats, sizes: Ints, metric: Metric, scale: Floats) -> Floats:
    """Krippendorff's α of each table [R]: 1 − observed / expected disagreement; NaN where only one value occurs.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability".
    """
    found = coincidences(table, sizes)
    values = found.sum(2)  # n_c of each value among the pairable ones
    total = values.sum(1)
    distance = _distances(metric, values, scale)
    observed = (found * distance).sum((1, 2))
    expected = np.einsum("rc,rk,rck->r", values, values, np.broadcast_to(distance, found.shape))
    share: Floats = (total - 1) * _ratio(observed, expected)
    return 1 - share


def _distances(metric: Metric, values: Floats, scale: Floats) -> Floats:
    """Squared differences [R or 1, C, C] between values."""
    if metric == "nominal":
        return 1 - np.eye(len(scale), dtype=np.float64)[None]
    # Ordinal: as many places apart as values lie between their middles.
    place: Floats = np.cumsum(values, 1) - values / 2 if metric == "ordinal" else scale[None]
    squared: Floats = np.square(place[:, :, None] - place[:, None, :])
    return squared


def fleiss(table: Floats, sizes: Ints) -> Floats:
    """Fleiss' κ of each table [R]; where units have different numbers of annotators, the mean over units of P_i.

    Source: Fleiss 1971, equations 3 to 7.
    """
    weight = 1 / (sizes * (sizes - 1))
    units = np.einsum("rmck,m->r", table, weight)
    observed = _ratio(np.einsum("rmcc,m->r", table, weight), units)
    values = coincidences(table, sizes).sum(2)
    expected = np.square(_ratio(values, values.sum(1, keepdims=True))).sum(1)
    return _ratio(observed - expected, 1 - expected)


def percent(table: Floats, without: int | None = None) -> Floats:
    """Share of pairs of annotators who say the same [R]; pairs in which either says code `without` are left out."""
    found = table.sum(1)
    if without is not None:
        kept = np.arange(found.shape[1]) != without
        found = found[:, kept][:, :, kept]
    return _ratio(np.einsum("rcc->r", found), found.sum((1, 2)))


def interval(values: Floats, level: float) -> Interval | None:
    """The first value with the percentile interval of the others; None where it is not defined."""
    redraws = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not len(redraws):
        return None
    tail = 50 * (1 - level)
    low, high = np.percentile(redraws, [tail, 100 - tail])
    return Interval(float(values[0]), float(low), float(high))


# ------------------------------------------------------------------------------------------ one against another


@dataclass(frozen=True)
class Against:
    """G lines of one annotator against others, NaN where nothing is defined; the standard errors are clustered by item.

    `share` is that of values which agree, of those where neither is a tie; Cohen's `kappa` counts every value.
    """

    compared: Ints
    share: Floats
    share_error: Floats
    kappa: Floats
    kappa_error: Floats


def against(group: Ints, item: Ints, one: Ints, other: Ints, units: Units, groups: int, tie: int | None) -> Against:
    """Cohen's κ of codes `one` against codes `other`, apart for each group.

    Args:
        group: Group of each of the N comparisons, 0 … G − 1.
        item: Item of each: what is said of one item is one draw.
        one: Code of the first annotator, N.
        other: Code of the second annotator, N.
        units: Where the codes come from: their number C, and whether each also counts mirrored.
        groups: G.
        tie: Code that means "the same"; the share leaves it out. None: there is none.

    Source: Cohen 1960. [[40, 10], [12, 38]] gives share .78 and κ .56.
    """
    C = len(units.scale)
    same = (one == other).astype(np.float64)
    every = np.ones(len(one))
    kept = every if tie is None else ((one != tie) & (other != tie)).astype(np.float64)
    observed, observed_error = _shares(group, item, same, every, groups)
    share, share_error = _shares(group, item, same, kept, groups)
    count = np.bincount(group, minlength=groups)
    sides: list[Floats] = [
        np.bincount(group * C + side, minlength=groups * C).reshape(groups, C).astype(np.float64)
        for side in (one, other)
    ]
    if units.mirrored:
        sides = [(side + side[:, ::-1]) / 2 for side in sides]
    chance = _ratio((sides[0] * sides[1]).sum(1), np.square(count))
    kappa = _ratio(observed - chance, 1 - chance)
    return Against(count, share, share_error, kappa, _ratio(observed_error, 1 - chance))


def _shares(group: Ints, item: Ints, hit: Floats, weight: Floats, groups: int) -> tuple[Floats, Floats]:
    """Weighted share of hits in each group, and its standard error as a ratio of sums over items, linearised."""
    total = np.bincount(group, weight, groups)
    share = _ratio(np.bincount(group, hit * weight, groups), total)
    items = int(item.max(initial=0)) + 1
    cluster, place = np.unique(group * items + item, return_inverse=True)
    residual = np.bincount(place, weight * (hit - np.nan_to_num(share)[group]), len(cluster))
    return share, _ratio(np.sqrt(np.bincount(cluster // items, np.square(residual), groups)), total)


def cohen(units: Units, pairs: Pairs, tie: int | None) -> tuple[Ints, Ints, Against]:
    """Cohen's κ of every two annotators who share a unit: the first, the second, and how they compare."""
    one, two = units.annotator[pairs.left], units.annotator[pairs.right]
    swap = one > two
    first, second = np.where(swap, pairs.right, pairs.left), np.where(swap, pairs.left, pairs.right)
    people = int(units.annotator.max(initial=0)) + 1
    both, group = np.unique(units.annotator[first] * people + units.annotator[second], return_inverse=True)
    found = against(group, units.item[first], units.value[first], units.value[second], units, len(both), tie)
    return both // people, both % people, found


def with_others(units: Units, pairs: Pairs, people: int, tie: int | None) -> Against:
    """Each annotator against everybody else who judged the same units, pooled; a line for each of `people`."""
    first, second = np.concatenate([pairs.left, pairs.right]), np.concatenate([pairs.right, pairs.left])
    return against(
        units.annotator[first], units.item[first], units.value[first], units.value[second], units, people, tie
    )


def concordance(levels: Sequence[float], scores: Sequence[float]) -> tuple[float, int]:
    """Share of pairs with different levels that `scores` orders the same way (equal scores: half), and their number.

    With two levels this is the area under the ROC curve. NaN where there is no such pair.
    """
    level, score = np.asarray(levels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    apart = [np.sort(score[level == value]) for value in np.unique(level)]
    wins, total = 0.0, 0
    for high in range(len(apart)):
        for low in range(high):
            below = np.searchsorted(apart[low], apart[high], "left").sum()
            upto = np.searchsorted(apart[low], apart[high], "right").sum()
            wins += float(below + upto) / 2
            total += len(apart[low]) * len(apart[high])
    return (wins / total if total else float("nan")), total


def _ratio(top: Floats | Ints, bottom: Floats | Ints) -> Floats:
    """top / bottom, NaN where bottom is 0 (to rounding: chance agreement of 1 comes out as 1 − 1e-16)."""
    top, bottom = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=np.abs(bottom) > 1e-12))
