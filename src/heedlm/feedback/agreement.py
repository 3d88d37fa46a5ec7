"""How far people agree: over all, by project, group and annotator, with the right answers and with a reward model.

The percentage leaves out pairs of answers that either annotator calls a tie (so does the often quoted 73 %); κ and α
keep a tie as a third value. "docs/agreement.md" says how each figure is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from heedlm.feedback.coefficients import (
    Against,
    Interval,
    Metric,
    Pairs,
    against,
    alpha,
    cohen,
    concordance,
    fleiss,
    interval,
    meetings,
    pairs_of,
    percent,
    with_others,
)
from heedlm.feedback.judgements import Coded, Judgement, Kind, Value, coded

METRICS: dict[Kind, tuple[Metric, ...]] = {
    "ranking": ("nominal", "ordinal"),
    "score": ("nominal", "ordinal", "interval"),
    "label": ("nominal",),
}


@dataclass(frozen=True)
class Agreement:
    """How far the annotators of one kind of judgement agree; None where it is not defined.

    `items` counts items that two or more judged, `compared` pairs of annotators on an item (of rankings, on a pair of
    answers). `cohen` is the mean over pairs of annotators, weighted by what they share; with two it is Cohen's κ.
    """

    kind: Kind
    judgements: int
    annotators: int
    items: int
    compared: int
    percent: Interval | None
    percent_with_ties: Interval | None
    cohen: float | None
    fleiss: Interval | None
    alpha: dict[Metric, Interval | None]


@dataclass(frozen=True)
class Line:
    """One annotator's share of agreement and κ with somebody, their errors, and how many values were compared."""

    compared: int
    share: float | None
    share_error: float | None = None
    kappa: float | None = None
    kappa_error: float | None = None


@dataclass(frozen=True)
class Person:
    """One annotator: with the others, with the right answers, with a reward model's scores."""

    annotator: str
    kind: Kind
    group: str | None
    judgements: int
    others: Line
    gold: Line | None
    model: Line | None


@dataclass(frozen=True)
class Disagreement:
    """An item on which annotators differ: in which share of their pairs (ties kept), and what each said."""

    item: str
    kind: Kind
    share: float
    said: dict[str, Value]


@dataclass(frozen=True)
class Report:
    """Everything `report` measures; the keys are kinds, and above them projects or groups."""

    overall: dict[Kind, Agreement]
    projects: dict[str, dict[Kind, Agreement]]
    groups: dict[str, dict[Kind, Agreement]]
    between_groups: dict[Kind, list[tuple[str, str, Line]]]
    people: list[Person]
    pairs: dict[Kind, list[tuple[str, str, Line]]]
    disagreements: list[Disagreement]


def measure(judgements: Sequence[Judgement], *, seed: int = 0, resamples: int = 1000, level: float = 0.95) -> Agreement:
    """Agreement of judgements of one kind, with bootstrap intervals over items.

    Args:
        judgements: All of one kind; any annotator may have judged any item.
        seed: The intervals are the same for the same seed and judgements, in whatever order items come.
        resamples: How often the items are redrawn.
        level: Coverage of the intervals.

    Raises:
        BadInput: Values do not fit the kind, or one item has rankings of different lengths.
    """
    return _measured(coded(judgements), seed, resamples, level)


def _measured(codes: Coded, seed: int, resamples: int, level: float) -> Agreement:
    units, tie = codes.units, codes.tie
    pairs = pairs_of(units)
    table, sizes = meetings(units, pairs, seed, resamples)
    _, _, by_two = cohen(units, pairs, tie)
    defined = np.isfinite(by_two.kappa)
    return Agreement(
        kind=codes.kind,
        judgements=len(codes.judgements),
        annotators=len(codes.annotators),
        items=len(np.unique(units.item[pairs.left])),
        compared=len(pairs.left),
        percent=interval(percent(table, tie), level),
        percent_with_ties=None if tie is None else interval(percent(table), level),
        cohen=float(np.average(by_two.kappa[defined], weights=by_two.compared[defined])) if defined.any() else None,
        fleiss=interval(fleiss(table, sizes), level),
        alpha={name: interval(alpha(table, sizes, name, units.scale), level) for name in METRICS[codes.kind]},
    )


def report(
    judgements: Sequence[Judgement],
    gold: Mapping[str, Value] | None = None,
    scores: Mapping[str, float | Sequence[float]] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    worst: int = 20,
) -> Report:
    """Everything: over all, by project, group and annotator, every two annotators, and the most disputed items.

    Args:
        judgements: Of any kinds.
        gold: The right value of items, as an annotator would have said it.
        scores: A reward model's score of each answer of a ranking, in the order of its ranks; else one score.
        seed: See `measure`.
        resamples: See `measure`.
        level: Coverage of the intervals.
        worst: How many disputed items to list.

    Raises:
        BadInput: See `measure`.
    """
    kinds: dict[Kind, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        kinds[judgement.kind].append(judgement)
    found = Report({}, {}, {}, {}, [], {}, [])
    for kind, some in sorted(kinds.items()):
        codes = coded(some)
        pairs = pairs_of(codes.units)
        found.overall[kind] = _measured(codes, seed, resamples, level)
        for parts, name in ((found.projects, "project"), (found.groups, "group")):
            for part, members in _apart(some, name).items():
                parts.setdefault(part, {})[kind] = measure(members, seed=seed, resamples=resamples, level=level)
        found.pairs[kind] = _by_two(codes, pairs)
        found.between_groups[kind] = _between(codes, pairs)
        found.people.extend(_people(codes, pairs, gold or {}, scores or {}))
        found.disagreements.extend(_disputed(codes, pairs, worst))
    found.disagreements.sort(key=lambda item: -item.share)
    del found.disagreements[worst:]
    return found


def _apart(judgements: Sequence[Judgement], name: str) -> dict[str, list[Judgement]]:
    parts: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        part = getattr(judgement, name)
        if part is not None:
            parts[part].append(judgement)
    return dict(sorted(parts.items()))


def _line(found: Against, at: int) -> Line:
    numbers = (_number(values[at]) for values in (found.share, found.share_error, found.kappa, found.kappa_error))
    return Line(int(found.compared[at]), *numbers)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _by_two(codes: Coded, pairs: Pairs) -> list[tuple[str, str, Line]]:
    one, two, found = cohen(codes.units, pairs, codes.tie)
    names = codes.annotators
    return [(names[a], names[b], _line(found, at)) for at, (a, b) in enumerate(zip(one, two, strict=True))]


def _between(codes: Coded, pairs: Pairs) -> list[tuple[str, str, Line]]:
    """Members of one group against members of another."""
    groups = sorted({judgement.group for judgement in codes.judgements if judgement.group is not None})
    number = {group: at for at, group in enumerate(groups)}
    of_row = np.array([number.get(judgement.group or "", -1) for judgement in codes.judgements], dtype=np.int64)
    of = of_row[codes.row]
    left, right = of[pairs.left], of[pairs.right]
    swap = left > right
    first, second = np.where(swap, pairs.right, pairs.left), np.where(swap, pairs.left, pairs.right)
    chosen = (of[first] >= 0) & (of[first] < of[second])
    first, second = first[chosen], second[chosen]
    both = list(combinations(range(len(groups)), 2))
    at = {two: place for place, two in enumerate(both)}
    group = np.array([at[a, b] for a, b in zip(of[first].tolist(), of[second].tolist(), strict=True)], dtype=np.int64)
    value, item = codes.units.value, codes.units.item
    found = against(group, item[first], value[first], value[second], codes.units, len(both), codes.tie)
    return [(groups[a], groups[b], _line(found, place)) for place, (a, b) in enumerate(both) if found.compared[place]]


def _people(
    codes: Coded, pairs: Pairs, gold: Mapping[str, Value], scores: Mapping[str, float | Sequence[float]]
) -> list[Person]:
    names = codes.annotators
    others = with_others(codes.units, pairs, len(names), codes.tie)
    right = against_values(codes, gold)
    by_model: list[Line | None]
    if codes.kind == "ranking":
        by_model = against_values(codes, {item: ranks_by(value) for item, value in scores.items()})
    else:
        by_model = _by_score(codes, scores)
    counts = np.bincount(codes.units.annotator[np.unique(codes.row, return_index=True)[1]], minlength=len(names))
    group = {judgement.annotator: judgement.group for judgement in codes.judgements}
    return [
        Person(name, codes.kind, group[name], int(counts[at]), _line(others, at), right[at], by_model[at])
        for at, name in enumerate(names)
    ]


def ranks_by(scores: float | Sequence[float]) -> tuple[int, ...]:
    """Ranks (1 best, equal scores share one) that scores give to answers."""
    values = [scores] if isinstance(scores, int | float) else list(scores)
    return tuple(1 + sum(other > value for other in values) for value in values)


def against_values(codes: Coded, values: Mapping[str, Value]) -> list[Line | None]:
    """Each annotator against one value for each item; None for who judged none of these items."""
    people = len(codes.annotators)
    known = [judgement for judgement in codes.judgements if judgement.item in values]
    if not known:
        return [None] * people
    # Coded anew with the values as one more annotator, so that both are told in the same codes.
    named = _unused("gold", codes.annotators)
    answers = [Judgement(item, named, values[item], codes.kind) for item in {judgement.item for judgement in known}]
    both = coded([*known, *answers])
    units = both.units
    right = np.full(int(units.unit.max()) + 1, -1)
    is_gold = units.annotator == both.annotators.index(named)
    right[units.unit[is_gold]] = units.value[is_gold]
    at = {name: place for place, name in enumerate(codes.annotators)}
    group = np.array([at.get(name, 0) for name in both.annotators])[units.annotator][~is_gold]
    one, other = units.value[~is_gold], right[units.unit[~is_gold]]
    found = against(group, units.item[~is_gold], one, other, units, people, codes.tie)
    return [_line(found, place) if found.compared[place] else None for place in range(people)]


def _unused(name: str, names: Sequence[str]) -> str:
    while name in names:
        name += "'"
    return name


def _by_score(codes: Coded, scores: Mapping[str, float | Sequence[float]]) -> list[Line | None]:
    """Share of pairs of items that a model's scores order as the annotator's scores or thumbs do."""
    levels: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for judgement in codes.judgements:
        score = scores.get(judgement.item)
        level = _level(judgement.value)
        if isinstance(score, int | float) and level is not None:
            levels[judgement.annotator].append((level, float(score)))
    found: list[Line | None] = []
    for name in codes.annotators:
        share, compared = concordance(*zip(*levels[name], strict=True)) if name in levels else (float("nan"), 0)
        found.append(Line(compared, _number(share)) if compared else None)
    return found


def _level(value: Value) -> float | None:
    """A value as a number where it has an order: scores and thumbs do, other labels do not."""
    if isinstance(value, str):
        return {"up": 1.0, "down": 0.0}.get(value)
    return None if isinstance(value, tuple) else float(value)


def _disputed(codes: Coded, pairs: Pairs, worst: int) -> list[Disagreement]:
    units = codes.units
    item = units.item[pairs.left]
    apart = np.bincount(item, units.value[pairs.left] != units.value[pairs.right], len(codes.items))
    total = np.bincount(item, minlength=len(codes.items))
    share = np.divide(apart, total, out=np.zeros(len(total)), where=total > 0)
    # Of equal shares the one more people stand behind first; then by name, so that the list is always the same.
    ranked = sorted(np.flatnonzero(apart).tolist(), key=lambda at: (-share[at], -total[at], codes.items[at]))[:worst]
    said: dict[str, dict[str, Value]] = {codes.items[at]: {} for at in ranked}
    for judgement in codes.judgements:
        if judgement.item in said:
            said[judgement.item][judgement.annotator] = judgement.value
    return [Disagreement(codes.items[at], codes.kind, float(share[at]), said[codes.items[at]]) for at in ranked]
