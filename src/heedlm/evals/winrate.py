"""Win rate of one model over another: outcomes, interval, and the checks that keep it honest.

An outcome is 1 for a win, ½ for a tie and 0 for a loss, one per prompt.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

from heedlm.errors import HeedError, NotFinite
from heedlm.evals.bootstrap import Interval, bootstrap_mean

WIN, TIE, LOSS = 1.0, 0.5, 0.0
Z95 = NormalDist().inv_cdf(0.975)  # 1.959964


@dataclass(frozen=True)
class WinRate:
    """Wins, ties and losses, the rate s = (w + t/2)/n and its 95 % intervals.

    `low`/`high` come from the standard error of s; `wilson_low`/`wilson_high` are Wilson's interval of the
    win share among decided prompts (ties left out), which stays honest for few prompts or rates near 0 and 1.
    It is (0, 1) when every prompt is a tie.
    """

    wins: int
    ties: int
    losses: int
    rate: float
    se: float
    low: float
    high: float
    wilson_low: float
    wilson_high: float

    @property
    def n(self) -> int:
        """Number of prompts compared."""
        return self.wins + self.ties + self.losses

    def to_dict(self) -> dict[str, float | int]:
        """The same as plain JSON values, `n` included."""
        return {"n": self.n, **asdict(self)}


@dataclass(frozen=True)
class Setting:
    """One line of the headline table: both models compared at one way of sampling.

    Lengths are in tokens; `gold` and `other_gold` are mean gold scores in [0, 1] where a gold score exists.
    `counts` marks the line that decides (each model at its own best development temperature).
    """

    name: str
    win_rate: WinRate
    length_matched: WinRate | None = None
    temperature: float | None = None
    other_temperature: float | None = None
    length: float | None = None
    other_length: float | None = None
    gold: float | None = None
    other_gold: float | None = None
    counts: bool = False

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values, the win rates nested."""
        row: dict[str, object] = dict(self.__dict__)
        row["win_rate"] = self.win_rate.to_dict()
        row["length_matched"] = self.length_matched.to_dict() if self.length_matched else None
        return row


def outcomes_from_scores(ours: Sequence[float], theirs: Sequence[float], tie_band: float = 0.0) -> list[float]:
    """One outcome per prompt from two score lists; scores at most `tie_band` apart are a tie.

    Raises:
        HeedError: The lists differ in length.
        NotFinite: A score is NaN or infinite.
    """
    if len(ours) != len(theirs):
        raise HeedError(f"win rate: {len(ours)} scores against {len(theirs)}; both must answer the same prompts")
    pairs = enumerate(zip(ours, theirs, strict=True))
    return [_outcome(_finite(a, i) - _finite(b, i), tie_band) for i, (a, b) in pairs]


def outcomes_from_verdicts(
    shown_first: Sequence[float], shown_second: Sequence[float], tie_band: float = 0.0
) -> list[float]:
    """One outcome per prompt from a judge asked in both orders; conflicting verdicts are a tie.

    Args:
        shown_first: P(ours better) when our answer was shown first.
        shown_second: P(ours better) when our answer was shown second, already mapped back to ours.
        tie_band: Probabilities at most this far from ½ count as "same".

    A win needs both orders: "better" in one and "same" in the other is a tie too, the careful reading of
    docs/methods.md §7.1.

    Raises:
        HeedError: The lists differ in length.
        NotFinite: A probability is NaN or infinite.
    """
    if len(shown_first) != len(shown_second):
        raise HeedError(f"win rate: {len(shown_first)} verdicts in one order, {len(shown_second)} in the other")
    outcomes = []
    for index, (first, second) in enumerate(zip(shown_first, shown_second, strict=True)):
        one = _outcome(_finite(first, index) - 0.5, tie_band)
        two = _outcome(_finite(second, index) - 0.5, tie_band)
        outcomes.append(one if one == two else TIE)
    return outcomes


def win_rate(outcomes: Sequence[float]) -> WinRate:
    """Rate, standard error and 95 % intervals of a list of outcomes.

    s = (w + t/2)/n; SE = √[(w(1−s)² + t(½−s)² + l·s²)/n²]; interval s ± 1.959964·SE, cut to [0, 1].

    Raises:
        HeedError: There are no outcomes, or one is not 0, ½ or 1.

    Source: docs/methods.md §7.1, worked number N21.
    """
    counted = dict.fromkeys((WIN, TIE, LOSS), 0)
    for index, value in enumerate(outcomes):
        if value not in counted:
            raise HeedError(f"win rate: outcome {index} is {value}; it must be 1 (win), 0.5 (tie) or 0 (loss)")
        counted[value] += 1
    wins, ties, losses = counted[WIN], counted[TIE], counted[LOSS]
    n = wins + ties + losses
    if n == 0:
        raise HeedError("win rate: there are no outcomes to count")
    rate = (wins + ties / 2) / n
    spread = wins * (1 - rate) ** 2 + ties * (0.5 - rate) ** 2 + losses * rate**2
    se = math.sqrt(spread) / n
    low, high = max(0.0, rate - Z95 * se), min(1.0, rate + Z95 * se)
    wilson_low, wilson_high = wilson(wins, wins + losses)
    return WinRate(wins, ties, losses, rate, se, low, high, wilson_low, wilson_high)


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share; (0, 1) for n = 0. Source: Wilson 1927; docs/methods.md N21."""
    if not 0 <= successes <= n:
        raise HeedError(f"Wilson interval: {successes} successes of {n}")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z**2 / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def bootstrap_win_rate(
    outcomes: Sequence[float],
    prompts: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Win rate with a bootstrap interval over prompts, for when one prompt was answered several times."""
    return bootstrap_mean(outcomes, prompts, seed=seed, resamples=resamples)


def length_matched(
    outcomes: Sequence[float],
    lengths: Sequence[float],
    other_lengths: Sequence[float],
    low: float = 0.8,
    high: float = 1.25,
) -> WinRate | None:
    """Win rate on the prompts where our length divided by the other's lies in [low, high].

    It shows whether a win is more than "longer" or "shorter"; its `n` says how many prompts remain. Two empty
    answers match; one empty answer never does.

    Returns:
        None where no prompt matches.

    Raises:
        HeedError: The lists differ in length.
    """
    if not len(outcomes) == len(lengths) == len(other_lengths):
        raise HeedError(
            f"length-matched win rate: {len(outcomes)} outcomes for {len(lengths)} and {len(other_lengths)} lengths"
        )
    kept = [
        outcome
        for outcome, ours, theirs in zip(outcomes, lengths, other_lengths, strict=True)
        if (ours == theirs == 0) or (theirs > 0 and low <= ours / theirs <= high)
    ]
    return win_rate(kept) if kept else None


def position_consistency(shown_first: Sequence[float], shown_second: Sequence[float], tie_band: float = 0.0) -> float:
    """Share of prompts on which a judge says the same in both orders (see outcomes_from_verdicts).

    Raises:
        HeedError: The lists differ in length or are empty.
    """
    if len(shown_first) != len(shown_second) or not shown_first:
        raise HeedError(f"position consistency: {len(shown_first)} verdicts against {len(shown_second)}")
    same = [
        _outcome(_finite(a, i) - 0.5, tie_band) == _outcome(_finite(b, i) - 0.5, tie_band)
        for i, (a, b) in enumerate(zip(shown_first, shown_second, strict=True))
    ]
    return sum(same) / len(same)


def _outcome(difference: float, tie_band: float) -> float:
    if abs(difference) <= tie_band:
        return TIE
    return WIN if difference > 0 else LOSS


def _finite(value: float, index: int) -> float:
    if not math.isfinite(value):
        raise NotFinite(f"win rate: the score of prompt {index} is {value}")
    return value
