"""Over-optimisation: how the true reward rises and falls as a policy moves away from where it began.

d = √KL(policy ‖ start), sequence-level, in √nats. Best-of-n follows R(d) = d(α − βd), reinforcement learning
R(d) = d(α − β log d). Source: Gao et al. 2023, §3; docs/methods.md §7.2, worked numbers N15.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heedlm.errors import HeedError

Method = Literal["best_of_n", "rl"]


@dataclass(frozen=True)
class Law:
    """The reward that a method reaches at distance d: α is the slope it begins with, β how fast it wears off."""

    method: Method
    alpha: float
    beta: float

    def reward(self, d: float) -> float:
        """Reward at distance d ≥ 0."""
        if d <= 0:
            return 0.0
        return d * (self.alpha - self.beta * (d if self.method == "best_of_n" else math.log(d)))

    @property
    def peak(self) -> tuple[float, float]:
        """(d*, R*): where the reward is highest, and how high; infinite where it never falls (β ≤ 0)."""
        if self.beta <= 0:
            return math.inf, math.inf
        if self.method == "best_of_n":
            return self.alpha / (2 * self.beta), self.alpha**2 / (4 * self.beta)
        d = math.exp(min(self.alpha / self.beta - 1, 700.0))
        return d, self.beta * d

    @property
    def peak_kl(self) -> float:
        """KL in nats at the peak, d*²."""
        return self.peak[0] ** 2


def fit(method: Method, kl: Sequence[float], reward: Sequence[float], *, smallest: float = 0.1) -> Law:
    """Least-squares law through measured points; rewards are gains over the start.

    Args:
        method: Which law.
        kl: KL of each point in nats.
        reward: Its reward minus the start's.
        smallest: Points with a smaller d are left out: near the origin noise exceeds the signal.

    Raises:
        HeedError: Fewer than two points are left.
    """
    if len(kl) != len(reward):
        raise HeedError(f"over-optimisation: {len(kl)} KL values for {len(reward)} rewards")
    points = [(math.sqrt(k), r) for k, r in zip(kl, reward, strict=True) if k > 0 and math.sqrt(k) >= smallest]
    if len({d for d, _ in points}) < 2:
        raise HeedError(f"over-optimisation: {len(points)} points with d ≥ {smallest} are too few to fit a law")
    d = np.array([point[0] for point in points])
    falling = -d * d if method == "best_of_n" else -d * np.log(d)
    solution = np.linalg.lstsq(np.stack([d, falling], 1), np.array([point[1] for point in points]), rcond=None)[0]
    return Law(method, float(solution[0]), float(solution[1]))


@dataclass(frozen=True)
class GoldPeak:
    """Where the measured gold score was highest, and what was lost after it.

    `inside` says that the peak lies before the last point: the policy went past its best.
    """

    index: int
    kl: float
    gold: float
    lost: float
    gap: float
    inside: bool


def gold_peak(kl: Sequence[float], proxy: Sequence[float], gold: Sequence[float]) -> GoldPeak:
    """The highest gold score along a path, its loss until the end, and proxy minus gold at the peak.

    Raises:
        HeedError: The lists are empty or differ in length.
    """
    if not kl or not len(kl) == len(proxy) == len(gold):
        raise HeedError(f"over-optimisation: {len(kl)} KL, {len(proxy)} proxy and {len(gold)} gold values")
    best = max(range(len(gold)), key=lambda index: gold[index])
    last = len(gold) - 1
    return GoldPeak(best, kl[best], gold[best], gold[best] - gold[last], proxy[best] - gold[best], best < last)
