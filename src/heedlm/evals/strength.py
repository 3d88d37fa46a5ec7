"""How strongly each preference is meant: what many reward models that never saw it make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from heedlm.errors import HeedError
from heedlm.evals.calibration import sigmoid


@dataclass(frozen=True)
class Strength:
    """Mean and population deviation over models of the score of the preferred answer less the other's."""

    mean: float
    std: float

    @property
    def probability(self) -> float:
        """σ(mean): how probable it is that the label is the right way round."""
        return sigmoid(self.mean)


@dataclass(frozen=True)
class StrengthGroup:
    """Preferences of like strength: how many, from which mean to which, their mean deviation, and those below 0."""

    low: float
    high: float
    n: int
    std: float
    negative: float

    def to_dict(self) -> dict[str, float | int]:
        """The same as plain JSON values."""
        return asdict(self)


def strength(differences: Sequence[float]) -> Strength:
    """û and σ̂ of one preference from the score differences that M models give it (reward units).

    Source: Wang et al. 2024 (Secrets of RLHF II), §2.2; docs/methods.md §3.5 and N7.

    Raises:
        HeedError: There are no differences.
    """
    if not differences:
        raise HeedError("preference strength: no model scored the pair")
    mean = fmean(differences)
    return Strength(mean, math.sqrt(fmean((each - mean) ** 2 for each in differences)))


def by_strength(strengths: Sequence[Strength], groups: int) -> list[list[int]]:
    """The places of preferences from the weakest to the strongest, in so many groups of nearly equal size.

    Raises:
        HeedError: There are fewer preferences than groups.
    """
    count = len(strengths)
    if not 1 <= groups <= count:
        raise HeedError(f"preference strength: {groups} groups of {count} preferences")
    order = sorted(range(count), key=lambda place: (strengths[place].mean, place))
    return [order[count * k // groups : count * (k + 1) // groups] for k in range(groups)]


def describe(strengths: Sequence[Strength], places: Sequence[int]) -> StrengthGroup:
    """A group in figures."""
    means = [strengths[place].mean for place in places]
    spread = fmean(strengths[place].std for place in places)
    return StrengthGroup(min(means), max(means), len(places), spread, fmean(float(mean < 0) for mean in means))
