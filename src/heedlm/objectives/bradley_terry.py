"""Reward-model training on comparisons: rankings of K answers, ties, margins, soft and smoothed labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedlm.config import Config
from heedlm.ops.masked import widen
from heedlm.ops.shapes import Float, Int
from heedlm.ops.types import Loss

Strength = Literal["significantly", "better", "slightly", "negligibly"]

# Llama 2 (Touvron et al. 2023), table 27: how far apart two answers should score, by the rating of the pair.
MARGINS: dict[str, dict[Strength, float]] = {
    "none": {"significantly": 0.0, "better": 0.0, "slightly": 0.0, "negligibly": 0.0},
    "small": {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "negligibly": 0.0},
    "large": {"significantly": 3.0, "better": 2.0, "slightly": 1.0, "negligibly": 0.0},
}


@dataclass(frozen=True)
class RankedBatch:
    """Pairs of answers as indices into a batch's scores (N,), with P decided pairs and Q tied ones.

    Attributes:
        better: The preferred answer of each decided pair (P,).
        worse: The other one (P,).
        tie_a: One answer of each tied pair (Q,).
        tie_b: The other one (Q,).
        weight: Weight of each decided pair (P,); a prompt's pairs and ties together weigh 1.
        tie_weight: Weight of each tied pair (Q,).
        margin: Difference of scores demanded beyond a win, in reward units (P,); None for none.
        target: Probability that `better` is the better one, for labels that are not certain (P,); None for 1.
    """

    better: Int[Tensor, "P"]
    worse: Int[Tensor, "P"]
    tie_a: Int[Tensor, "Q"]
    tie_b: Int[Tensor, "Q"]
    weight: Float[Tensor, "P"]
    tie_weight: Float[Tensor, "Q"]
    margin: Float[Tensor, "P"] | None = None
    target: Float[Tensor, "P"] | None = None


def ranked_batch(
    rank_lists: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    margins: Sequence[float] | None = None,
    targets: Sequence[float] | None = None,
) -> RankedBatch:
    """All pairs of every prompt, each weighing 1/C(K, 2), so that each prompt weighs 1 whatever its K.

    The indices point into the scores of all answers, prompt after prompt. Source: Ouyang et al. 2022, eq. 1.

    Args:
        rank_lists: The ranks of each prompt's K answers (1 = best, equal = tie).
        device: Where the batch will be used.
        margins: Demanded difference for all decided pairs of each prompt; None for none.
        targets: Probability that each of a prompt's decided pairs is the right way round; None for 1.

    Raises:
        ValueError: A prompt has fewer than two answers.
    """
    better: list[int] = []
    worse: list[int] = []
    tied: list[tuple[int, int]] = []
    weight: list[float] = []
    tie_weight: list[float] = []
    prompt_of: list[int] = []
    start = 0
    for number, ranks in enumerate(rank_lists):
        size = len(ranks)
        if size < 2:
            raise ValueError(f"prompt {number} of the batch has {size} ranks, and a comparison needs two")
        each = 1.0 / math.comb(size, 2)
        for i in range(size):
            for j in range(i + 1, size):
                if ranks[i] == ranks[j]:
                    tied.append((start + i, start + j))
                    tie_weight.append(each)
                    continue
                first, second = (i, j) if ranks[i] < ranks[j] else (j, i)
                better.append(start + first)
                worse.append(start + second)
                weight.append(each)
                prompt_of.append(number)
        start += size

    def ids(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=device)

    def floats(numbers: Sequence[float]) -> Tensor:
        # float64, because thirds summed in float32 would not make a whole prompt.
        return torch.tensor(numbers, dtype=torch.float64, device=device)

    return RankedBatch(
        better=ids(better),
        worse=ids(worse),
        tie_a=ids([a for a, _ in tied]),
        tie_b=ids([b for _, b in tied]),
        weight=floats(weight),
        tie_weight=floats(tie_weight),
        margin=None if margins is None else floats([margins[number] for number in prompt_of]),
        target=None if targets is None else floats([targets[number] for number in prompt_of]),
    )


class BradleyTerry(Config):
    """Negative log-likelihood of comparisons when P(a better) = σ(score of a − score of b), or with ties.

    Source: Bradley and Terry 1952; all pairs of a prompt in one batch, Ouyang et al. 2022, eq. 1; ties,
    Rao and Kupper 1967 and Davidson 1970; margins, Touvron et al. 2023, eq. 2; docs/methods.md §3.2 and §3.4.
    """

    name: Literal["bradley_terry"] = Field(
        default="bradley_terry", description="likelihood of comparisons under scores"
    )
    ties: Literal["half", "rao_kupper", "davidson"] = Field(
        default="half",
        description="equal ranks: half a vote each way, or a model in which ties have a probability",
    )
    theta: float = Field(
        default=1.5,
        gt=1,
        description="Rao–Kupper: how many times likelier one side must be to win; near 1, ties are rare",
    )
    nu: float = Field(default=0.5, gt=0, description="Davidson: how likely a tie is; near 0, ties are rare")
    margin: Literal["none", "small", "large"] = Field(
        default="none",
        description="score difference demanded by strength of preference: up to 1 (small) or 3 (large)",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="share of labels taken to be the wrong way round"
    )
    center: float = Field(
        default=0.0, ge=0, description="weight of (sum of a pair's scores)², which keeps scores near 0"
    )

    def margin_for(self, strength: Strength | None) -> float:
        """The difference (reward units) demanded of a pair judged so; 0 where no strength is known."""
        return 0.0 if strength is None else MARGINS[self.margin][strength]

    def __call__(self, scores: Float[Tensor, "N"], comparisons: RankedBatch) -> Loss:
        """Weighted negative log-likelihood of each pair.

        Args:
            scores: The reward model's score of every answer (N,), in reward units.
            comparisons: Which answer beat or tied which.

        Returns:
            One value for each decided pair and then each tied one (P + Q,), in nats; the count is the total
            weight, which is the number of prompts. `accuracy` takes tied labels and tied scores as half;
            `difference` is the mean score of the better minus the worse.
        """
        wide = widen(scores)
        weight, tie_weight = comparisons.weight.to(wide.dtype), comparisons.tie_weight.to(wide.dtype)
        better, worse = wide[comparisons.better], wide[comparisons.worse]
        tie_a, tie_b = wide[comparisons.tie_a], wide[comparisons.tie_b]
        pairs = self._pairs(better - worse, comparisons) + self.center * (better + worse).square()
        ties = -self._log_tie(tie_a - tie_b) + self.center * (tie_a + tie_b).square()
        count = comparisons.weight.sum() + comparisons.tie_weight.sum()
        return Loss(
            torch.cat([weight * pairs, tie_weight * ties]),
            count,
            _metrics((better - worse).detach(), weight, tie_weight, wide.detach()),
        )

    def _pairs(self, difference: Tensor, comparisons: RankedBatch) -> Tensor:
        """Cross-entropy of decided pairs against the (soft, smoothed) label (P,)."""
        if comparisons.margin is not None:
            difference = difference - comparisons.margin.to(difference.dtype)
        eps = self.label_smoothing
        if comparisons.target is None:
            right: Tensor | float = 1 - eps
        else:
            target = comparisons.target.to(difference.dtype)
            right = target * (1 - eps) + (1 - target) * eps
        loss = -right * self._log_win(difference)
        if comparisons.target is None and eps == 0:
            return loss
        return loss - (1 - right) * self._log_win(-difference)

    def _log_win(self, difference: Tensor) -> Tensor:
        """log P(first beats second) of score differences, in nats."""
        if self.ties == "rao_kupper":
            return logsigmoid(difference - math.log(self.theta))
        if self.ties == "davidson":
            return 0.5 * difference - self._davidson_total(difference)
        return logsigmoid(difference)

    def _log_tie(self, difference: Tensor) -> Tensor:
        """log P(tie) of score differences, in nats; for half-votes, the mean of both verdicts' log P."""
        if self.ties == "rao_kupper":
            reach = math.log(self.theta)
            both = logsigmoid(difference - reach) + logsigmoid(-difference - reach)
            return both + math.log(math.expm1(2 * reach))
        if self.ties == "davidson":
            return math.log(self.nu) - self._davidson_total(difference)
        return 0.5 * (logsigmoid(difference) + logsigmoid(-difference))

    def _davidson_total(self, difference: Tensor) -> Tensor:
        """log of Davidson's denominator, divided by the geometric mean of both strengths."""
        half = 0.5 * difference
        return torch.stack([half, -half, torch.full_like(half, math.log(self.nu))]).logsumexp(0)


def _metrics(difference: Tensor, weight: Tensor, tie_weight: Tensor, scores: Tensor) -> dict[str, Tensor]:
    total = (weight.sum() + tie_weight.sum()).clamp(min=torch.finfo(weight.dtype).tiny)
    correct = 0.5 + 0.5 * difference.sign()
    return {
        "accuracy": ((weight * correct).sum() + 0.5 * tie_weight.sum()) / total,
        "difference": (weight * difference).sum() / total,
        "score_mean": scores.sum() / max(len(scores), 1),
    }
