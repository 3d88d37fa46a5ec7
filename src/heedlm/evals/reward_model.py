"""Held-out accuracy of a reward model, and how far it is from the best that noisy people allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from heedlm.errors import HeedError
from heedlm.evals import calibration
from heedlm.evals.bootstrap import Difference, Interval, bootstrap_mean, paired_bootstrap
from heedlm.evals.text import units
from heedlm.records import Comparison


@dataclass(frozen=True)
class Pair:
    """One preference of a comparison as a reward model saw it.

    `prompt` names the prompt (its text, so that two rows about one prompt stay together); `margin` is the
    score of the preferred answer minus the other's; `length_difference` the same in units (words or
    characters); `better`/`worse` are the answers' places in comparison number `row`.
    """

    row: int
    prompt: str
    better: int
    worse: int
    margin: float
    length_difference: int
    source: str | None
    criterion: str = "overall"


@dataclass(frozen=True)
class RewardAccuracy:
    """Held-out accuracy with its interval over prompts, calibration, and the accuracy by bin.

    `temperature` is the one at which the scores explain the preferences best, `ece_refit` the calibration error there.
    """

    accuracy: Interval
    prompts: int
    ties: int
    ece: float
    temperature: float
    ece_refit: float
    length_correlation: float
    by_margin: list[calibration.Bin]
    by_length: list[calibration.Bin]
    by_source: dict[str, tuple[int, float]]
    by_criterion: dict[str, tuple[int, float]]

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
        return {
            **self.__dict__,
            "accuracy": self.accuracy.to_dict(),
            "by_margin": [each.to_dict() for each in self.by_margin],
            "by_length": [each.to_dict() for each in self.by_length],
            "by_source": {name: {"n": n, "accuracy": value} for name, (n, value) in self.by_source.items()},
            "by_criterion": {name: {"n": n, "accuracy": value} for name, (n, value) in self.by_criterion.items()},
        }


def pairs(comparisons: Sequence[Comparison], scores: Sequence[Sequence[float]]) -> list[Pair]:
    """Every preference in the comparisons (ties are none) with the margin the scores give it.

    Args:
        comparisons: Rankings by people or simulated annotators.
        scores: One list a comparison, one score an answer, in the same order.

    Raises:
        HeedError: A comparison has another number of scores than answers.
    """
    if len(comparisons) != len(scores):
        raise HeedError(f"reward accuracy: {len(comparisons)} comparisons but {len(scores)} score lists")
    result = []
    for number, (row, values) in enumerate(zip(comparisons, scores, strict=True)):
        if len(values) != len(row.answers):
            raise HeedError(
                f"reward accuracy: comparison {row.id} has {len(row.answers)} answers, {len(values)} scores"
            )
        prompt = "\n".join(f"{message.role}: {message.content}" for message in row.prompt)
        lengths = [len(units(answer.text)) for answer in row.answers]
        source = row.meta.source
        for better, worse in row.pairs():
            margin = values[better] - values[worse]
            longer = lengths[better] - lengths[worse]
            result.append(Pair(number, prompt, better, worse, margin, longer, source, row.criterion))
    return result


def held_out_accuracy(
    comparisons: Sequence[Comparison], scores: Sequence[Sequence[float]], *, seed: int = 0
) -> RewardAccuracy:
    """Accuracy of scores on comparisons the reward model never saw, equal scores counting ½.

    The interval redraws prompts, not pairs: six pairs of one ranking are far from six independent votes.

    Raises:
        HeedError: There is no preference among the comparisons, or the lists do not fit.
        NotFinite: A score is NaN or infinite.
    """
    found = pairs(comparisons, scores)
    if not found:
        raise HeedError("reward accuracy: the comparisons hold no preference (no rows, or only ties)")
    margins = [pair.margin for pair in found]
    correct = calibration.correctness(margins)
    lengths = [float(pair.length_difference) for pair in found]
    temperature = calibration.fit_temperature(margins)
    return RewardAccuracy(
        accuracy=bootstrap_mean(correct, [pair.prompt for pair in found], seed=seed),
        prompts=len({pair.prompt for pair in found}),
        ties=sum(len(row.ties()) for row in comparisons),
        ece=calibration.ece(calibration.confidences(margins), correct),
        temperature=temperature,
        ece_refit=calibration.ece(calibration.confidences([m / temperature for m in margins]), correct),
        length_correlation=calibration.correlation(margins, lengths),
        by_margin=calibration.accuracy_by_bin(margins, [abs(m) for m in margins], _quintiles(margins)),
        by_length=calibration.accuracy_by_bin(margins, lengths, _length_edges(lengths)),
        by_source=calibration.accuracy_by_group(margins, [pair.source or "unknown" for pair in found]),
        by_criterion=calibration.accuracy_by_group(margins, [pair.criterion for pair in found]),
    )


def compare_accuracy(
    comparisons: Sequence[Comparison],
    scores: Sequence[Sequence[float]],
    other_scores: Sequence[Sequence[float]],
    *,
    seed: int = 0,
) -> Difference:
    """Accuracy of one scorer minus another's on the same pairs, by paired bootstrap over prompts."""
    ours, theirs = pairs(comparisons, scores), pairs(comparisons, other_scores)
    return paired_bootstrap(
        calibration.correctness([pair.margin for pair in ours]),
        calibration.correctness([pair.margin for pair in theirs]),
        [pair.prompt for pair in ours],
        seed=seed,
    )


def noise_ceiling(probabilities: Sequence[float]) -> float:
    """Best accuracy anybody can expect on noisy labels: mean of max(p, 1 − p).

    Args:
        probabilities: For each pair the true chance that an annotator prefers its first answer.
    """
    if not probabilities:
        raise HeedError("noise ceiling: there are no pairs")
    return fmean(max(p, 1 - p) for p in probabilities)


def gap_to_ceiling(
    comparisons: Sequence[Comparison],
    scores: Sequence[Sequence[float]],
    gold: Sequence[Sequence[float]],
    *,
    seed: int = 0,
) -> Difference:
    """What the reward model lacks to the best possible given the noise: gold's accuracy minus its own.

    Gold scores order each pair as well as anybody could; what they miss is the annotators' noise. Measured on
    the same labels, so that the luck of the draw cancels.
    """
    return compare_accuracy(comparisons, gold, scores, seed=seed)


def length_scores(comparisons: Sequence[Comparison]) -> list[list[float]]:
    """The baseline "the longer answer is better": each answer's length in units as its score."""
    return [[float(len(units(answer.text))) for answer in row.answers] for row in comparisons]


def _length_edges(differences: Sequence[float]) -> list[float]:
    """Much shorter, shorter, a little shorter, equal, a little longer, longer, much longer."""
    return [min(-21.0, *differences), -20.0, -5.0, 0.0, 1.0, 6.0, 21.0, max(22.0, *differences)]


def _quintiles(margins: Sequence[float]) -> list[float]:
    """Edges that put about a fifth of the pairs, by |margin|, into each bin; equal edges are merged."""
    ordered = sorted(abs(margin) for margin in margins)
    edges = [0.0, *(ordered[len(ordered) * k // 5] for k in range(1, 5)), ordered[-1]]
    rising = sorted(set(edges))
    return rising if len(rising) > 1 else [0.0, 1.0]
