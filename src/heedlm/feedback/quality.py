"""What is wrong with judgements besides disagreement: place and length that sway choices, and people who do not read.

Every finding comes with a reason in words: what was seen, what was expected, and how unlikely it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

import numpy as np
from pydantic import Field

from heedlm.config import Config
from heedlm.feedback.agreement import Line, against_values
from heedlm.feedback.coefficients import Interval, pairs_of, with_others
from heedlm.feedback.judgements import Judgement, Kind, Value, coded


@dataclass(frozen=True)
class Bias:
    """How often a choice fell on what it should not depend on: `share` of `n`, beside what chance gives."""

    share: Interval
    n: int
    expected: float
    p_value: float


@dataclass(frozen=True)
class Suspicion:
    """An annotator whose judgements may not have been read for, and why, one sentence a reason."""

    annotator: str
    reasons: tuple[str, ...]


class Thresholds(Config):
    """When judgements are held to be careless; every one needs `least` judgements to say anything."""

    least: int = Field(20, ge=2, description="judgements below which nobody is suspected")
    chance: float = Field(
        0.01, gt=0, lt=1, description="largest p-value of a suspicion, all annotators tested together"
    )
    fast: float = Field(0.33, gt=0, lt=1, description="median seconds below this share of the other annotators' median")
    constant: float = Field(0.9, gt=0, le=1, description="share of one and the same value, where others vary more")
    place: float = Field(0.75, gt=0, le=1, description="share of choices that fall on the same place on the screen")
    kappa: float = Field(0.5, gt=0, lt=1, description="kappa with the others surely below this share of the median one")
    gold: float = Field(0.6, gt=0, lt=1, description="share of right answers to gold items surely below this")


# ------------------------------------------------------------------------------------------ tests


def wilson(hits: float, n: float, level: float = 0.95) -> Interval:
    """A share with its interval. Source: Wilson 1927."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def exact_test(hits: int, chances: Mapping[float, int]) -> float:
    """Two-sided p-value of `hits` successes in trials of unequal chances: how likely as unlikely a count is.

    Args:
        hits: Successes seen.
        chances: How many trials have each chance. With one chance only this is the binomial test.

    The distribution is that of a sum of independent trials, computed by its characteristic function (a discrete
    Fourier transform: Hong 2013, "On computing the distribution function for the Poisson binomial distribution"),
    exact to about n · 1e-15.
    """
    n = sum(chances.values())
    if not n:
        return 1.0
    turn = np.exp(-2j * np.pi * np.arange(n + 1) / (n + 1))
    logs = sum(count * np.log(1 - p + p * turn + 1e-300) for p, count in chances.items())
    likely = np.clip(np.fft.ifft(np.exp(logs)).real, 0, 1)
    return float(min(1.0, max(likely[likely <= likely[hits] * (1 + 1e-7) + 1e-15].sum(), 1e-14)))


# ------------------------------------------------------------------------------------------ biases


def position_bias(judgements: Sequence[Judgement], place: int = 0, level: float = 0.95) -> Bias | None:
    """How often the answer shown in one place was chosen as the only best one, and how often chance would have it.

    Args:
        judgements: Rankings with the order shown; others and those with a tie for the best are left out.
        place: Place on the screen: 0 is the first, −1 the last.
        level: Coverage of the interval.
    """
    hits, chances = _place(judgements, place)
    n = sum(chances.values())
    if not n:
        return None
    expected = sum(p * count for p, count in chances.items()) / n
    return Bias(wilson(hits, n, level), n, expected, exact_test(hits, chances))


def _place(judgements: Sequence[Judgement], place: int) -> tuple[int, Counter[float]]:
    hits, chances = 0, Counter[float]()
    for judgement in judgements:
        value, shown = judgement.value, judgement.order_shown
        if judgement.kind != "ranking" or not isinstance(value, tuple) or shown is None:
            continue
        best = min(value)
        if value.count(best) == 1:
            hits += value[shown[place]] == best
            chances[1 / len(value)] += 1
    return hits, chances


def length_bias(judgements: Sequence[Judgement], level: float = 0.95) -> Bias | None:
    """How often the longer of two answers was put above the shorter; ties and equal lengths are left out.

    A share above one half is no fault in itself, as the longer answer may be the better one: compare it with that of
    gold judgements. The pairs of one item depend on each other: interval and test count as many pairs as independent
    ones would give the same variance between items.
    """
    wins: dict[str, int] = defaultdict(int)
    total: dict[str, int] = defaultdict(int)
    for judgement in judgements:
        value, lengths = judgement.value, judgement.lengths
        if judgement.kind != "ranking" or not isinstance(value, tuple) or lengths is None:
            continue
        for i in range(len(value)):
            for j in range(i):
                if value[i] != value[j] and lengths[i] != lengths[j]:
                    wins[judgement.item] += (value[i] < value[j]) == (lengths[i] > lengths[j])
                    total[judgement.item] += 1
    n = sum(total.values())
    if not n:
        return None
    share = sum(wins.values()) / n
    variance = sum((wins[item] - share * total[item]) ** 2 for item in total) / n**2
    # As many independent pairs as would give the same variance; with none to see, as many as there are items.
    worth = min(float(n), share * (1 - share) / variance) if variance else float(len(total))
    z = abs(share - 0.5) * 2 * math.sqrt(worth)
    return Bias(wilson(share * worth, worth, level), n, 0.5, math.erfc(z / math.sqrt(2)))


# ------------------------------------------------------------------------------------------ people


def suspects(
    judgements: Sequence[Judgement],
    gold: Mapping[str, Value] | None = None,
    thresholds: Thresholds | None = None,
) -> list[Suspicion]:
    """Annotators who may not have read what they judged: too fast, constant, at chance, by place, wrong on gold.

    Args:
        judgements: Of any kinds.
        gold: The right value of items, as an annotator would have said it.
        thresholds: When to suspect; the defaults if not given.

    Raises:
        BadInput: Values do not fit their kind.
    """
    limits = thresholds or Thresholds()
    people: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        people[judgement.annotator].append(judgement)
    # Everybody is tested, so that each single test must be stricter (Bonferroni).
    chance = limits.chance / max(1, len(people))
    reasons: dict[str, list[str]] = defaultdict(list)
    for found in (
        _too_fast(people, limits),
        _constant(people, limits, chance),
        _by_place(people, limits, chance),
        _by_agreement(judgements, gold or {}, limits, chance),
    ):
        for name, reason in found:
            reasons[name].append(reason)
    return [Suspicion(name, tuple(reasons[name])) for name in sorted(reasons)]


def _too_fast(people: Mapping[str, Sequence[Judgement]], limits: Thresholds) -> list[tuple[str, str]]:
    times = {name: [j.seconds for j in said if j.seconds is not None] for name, said in people.items()}
    medians = {name: median(seconds) for name, seconds in times.items() if len(seconds) >= limits.least}
    found = []
    for name, own in medians.items():
        others = [value for other, value in medians.items() if other != name]
        if others and own < limits.fast * median(others):
            found.append((
                name,
                f"too fast: {own:.1f} seconds a judgement (median), the others take {median(others):.1f}; "
                f"the limit is {limits.fast:.0%} of that",
            ))  # fmt: skip
    return found


def _constant(people: Mapping[str, Sequence[Judgement]], limits: Thresholds, chance: float) -> list[tuple[str, str]]:
    """Whoever says one value nearly always, far more often than the others say it."""
    found = []
    said: dict[Kind, Counter[Value]] = defaultdict(Counter)
    for mine in people.values():
        for judgement in mine:
            said[judgement.kind][judgement.value] += 1
    for name, mine in people.items():
        for kind in sorted({judgement.kind for judgement in mine}):
            values = Counter(judgement.value for judgement in mine if judgement.kind == kind)
            value, times = values.most_common(1)[0]
            n = values.total()
            rest = said[kind].total() - n
            if n < limits.least or times < limits.constant * n or not rest:
                continue
            # Half an answer more on both sides, so that a value nobody else gives is not impossible.
            usual = (said[kind][value] - times + 0.5) / (rest + 1)
            p = exact_test(times, {usual: n})
            if times / n > usual and p < chance:
                shown = _in_words(value)
                found.append((
                    name,
                    f"constant: {shown} in {times} of {n} judgements, the others say it in {usual:.0%} of theirs "
                    f"({_p(p)})",
                ))  # fmt: skip
    return found


def _by_place(people: Mapping[str, Sequence[Judgement]], limits: Thresholds, chance: float) -> list[tuple[str, str]]:
    found = []
    for name, mine in people.items():
        for place, words in ((0, "first"), (-1, "last")):
            bias = position_bias(mine, place)
            if bias is None or bias.n < limits.least:
                continue
            if bias.share.estimate >= limits.place and bias.share.estimate > bias.expected and bias.p_value < chance:
                hits = round(bias.share.estimate * bias.n)
                found.append((
                    name,
                    f"by place: chose the answer shown {words} in {hits} of {bias.n} judgements, chance gives "
                    f"{bias.expected * bias.n:.0f} ({_p(bias.p_value)})",
                ))  # fmt: skip
    return found


def _by_agreement(
    judgements: Sequence[Judgement], gold: Mapping[str, Value], limits: Thresholds, chance: float
) -> list[tuple[str, str]]:
    """Whoever agrees with the others, or with the right answers, surely less than they should."""
    z = NormalDist().inv_cdf(1 - chance)
    found = []
    kinds: dict[Kind, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        kinds[judgement.kind].append(judgement)
    for _, some in sorted(kinds.items()):
        codes = coded(some)
        counts = Counter(judgement.annotator for judgement in codes.judgements)
        others = with_others(codes.units, pairs_of(codes.units), len(codes.annotators), codes.tie)
        usual = float(np.nanmedian(others.kappa)) if np.isfinite(others.kappa).any() else math.nan
        right = against_values(codes, gold)
        for at, name in enumerate(codes.annotators):
            kappa, error = others.kappa[at], others.kappa_error[at]
            # Where the crowd itself hardly agrees nobody can be told from chance.
            if counts[name] >= limits.least and usual > 0 and kappa + z * error < limits.kappa * usual:
                found.append((
                    name,
                    f"at chance: kappa {kappa:.2f} with the others over {others.compared[at]} comparisons (at most "
                    f"{kappa + z * error:.2f}), the median annotator has {usual:.2f}",
                ))  # fmt: skip
            if (line := right[at]) is not None and (reason := _on_gold(line, limits, z)):
                found.append((name, reason))
    return found


def _on_gold(line: Line, limits: Thresholds, z: float) -> str | None:
    if line.share is None or line.share_error is None or line.compared < limits.least:
        return None
    most = line.share + z * line.share_error
    if most >= limits.gold:
        return None
    return (
        f"wrong on gold: right in {line.share:.0%} of {line.compared} comparisons with gold items (at most "
        f"{most:.0%}), the limit is {limits.gold:.0%}"
    )


def _in_words(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "all answers equal" if len(set(value)) == 1 else f"ranks {', '.join(map(str, value))}"
    return f"{value:g}"


def _p(value: float) -> str:
    return f"p < {1e-12:.0e}" if value < 1e-12 else f"p = {value:.1g}"
