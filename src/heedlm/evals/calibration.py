"""Does a reward model know how sure it may be? Accuracy, calibration and where the errors sit.

A margin is the reward of the answer people preferred minus that of the other; P(better) = σ(margin).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean
from typing import TypeVar

from heedlm.errors import HeedError, NotFinite

G = TypeVar("G", bound=Hashable)


@dataclass(frozen=True)
class Bin:
    """Accuracy within one bin [low, high); `accuracy` and `confidence` are None where it is empty."""

    low: float
    high: float
    n: int
    accuracy: float | None
    confidence: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """The same as plain JSON values."""
        return asdict(self)


def sigmoid(x: float) -> float:
    """1/(1+e^−x) without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def correctness(margins: Sequence[float]) -> list[float]:
    """1 where the preferred answer scored higher, 0 where lower, ½ where equal (docs/methods.md §3.7).

    Raises:
        NotFinite: A margin is NaN or infinite.
    """
    for index, margin in enumerate(margins):
        if not math.isfinite(margin):
            raise NotFinite(f"reward accuracy: the margin of pair {index} is {margin}")
    return [1.0 if margin > 0 else 0.0 if margin < 0 else 0.5 for margin in margins]


def accuracy(margins: Sequence[float]) -> float:
    """Share of pairs ordered as people ordered them, equal scores counting ½."""
    if not margins:
        raise HeedError("reward accuracy: there are no pairs")
    return fmean(correctness(margins))


def confidences(margins: Sequence[float]) -> list[float]:
    """The reward model's certainty about each pair, max(σ(margin), σ(−margin)), in [½, 1]."""
    return [sigmoid(abs(margin)) for margin in margins]


def reliability(confidence: Sequence[float], correct: Sequence[float], bins: int = 10, low: float = 0.5) -> list[Bin]:
    """Accuracy and mean confidence in `bins` equal, left-closed bins on [low, 1]; 1 falls into the last.

    Raises:
        HeedError: The lists differ in length, or a confidence lies outside [low, 1].
    """
    if len(confidence) != len(correct):
        raise HeedError(f"calibration: {len(confidence)} confidences for {len(correct)} verdicts")
    width = (1 - low) / bins
    inside: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for sure, right in zip(confidence, correct, strict=True):
        if not low - 1e-9 <= sure <= 1 + 1e-9:
            raise HeedError(f"calibration: confidence {sure} lies outside [{low}, 1]")
        # The tiny shift keeps 0.7 in [0.7, 0.8) although 0.2/0.1 is 1.999… in floating point.
        inside[min(bins - 1, max(0, math.floor((sure - low) / width + 1e-9)))].append((sure, right))
    return [
        Bin(
            low + index * width,
            low + (index + 1) * width,
            len(rows),
            fmean(right for _, right in rows) if rows else None,
            fmean(sure for sure, _ in rows) if rows else None,
        )
        for index, rows in enumerate(inside)
    ]


def ece(confidence: Sequence[float], correct: Sequence[float], bins: int = 10, low: float = 0.5) -> float:
    """Expected calibration error: Σ n_b/n·|accuracy_b − confidence_b|. Source: docs/methods.md §3.7, N24 (five bins).

    Raises:
        HeedError: There is nothing to measure, the lists differ, or a confidence lies outside [low, 1].
    """
    if not confidence:
        raise HeedError("calibration: there are no pairs")
    total = 0.0
    for each in reliability(confidence, correct, bins, low):
        if each.accuracy is not None and each.confidence is not None:
            total += each.n * abs(each.accuracy - each.confidence)
    return total / len(confidence)


def fit_temperature(margins: Sequence[float]) -> float:
    """The T in [0.05, 20] for which σ(margin/T) explains the preferences best (least −log σ, golden search).

    T > 1 says that the reward model is over-confident, T < 1 that it is too timid. Source: Guo et al. 2017.
    """
    correctness(margins)
    if not margins:
        raise HeedError("calibration: there are no pairs")

    def loss(log_t: float) -> float:
        scale = math.exp(-log_t)
        return fmean(_softplus(-margin * scale) for margin in margins)

    a, b = math.log(0.05), math.log(20.0)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = b - golden * (b - a), a + golden * (b - a)
        if loss(left) <= loss(right):
            b = right
        else:
            a = left
    return math.exp((a + b) / 2)


def accuracy_by_bin(margins: Sequence[float], keys: Sequence[float], edges: Sequence[float]) -> list[Bin]:
    """Accuracy by a number of each pair (|margin|, length difference) between the given rising edges.

    Bins are left-closed, the last also holds its upper edge; keys outside the edges are not counted.
    """
    if len(margins) != len(keys) or list(edges) != sorted(edges) or len(edges) < 2:
        raise HeedError(f"accuracy by bin: {len(margins)} margins, {len(keys)} keys, edges {list(edges)}")
    correct = correctness(margins)
    result = []
    for index, (start, stop) in enumerate(pairwise(edges)):
        last = index == len(edges) - 2
        rows = [c for c, k in zip(correct, keys, strict=True) if start <= k < stop or (last and k == stop)]
        result.append(Bin(start, stop, len(rows), fmean(rows) if rows else None))
    return result


def accuracy_by_group(margins: Sequence[float], groups: Sequence[G]) -> dict[G, tuple[int, float]]:
    """Pairs and accuracy of each group (source, domain, annotator group), in order of first appearance."""
    if len(margins) != len(groups):
        raise HeedError(f"accuracy by group: {len(margins)} margins for {len(groups)} group names")
    rows: dict[G, list[float]] = {}
    for right, group in zip(correctness(margins), groups, strict=True):
        rows.setdefault(group, []).append(right)
    return {group: (len(values), fmean(values)) for group, values in rows.items()}


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's r, for reward margin against length difference; 0 where either does not vary."""
    if len(x) != len(y) or not x:
        raise HeedError(f"correlation: {len(x)} values against {len(y)}")
    mean_x, mean_y = fmean(x), fmean(y)
    covariance = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    spread = math.sqrt(math.fsum((a - mean_x) ** 2 for a in x) * math.fsum((b - mean_y) ** 2 for b in y))
    return covariance / spread if spread > 0 else 0.0


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
