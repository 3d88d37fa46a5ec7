"""Process supervision: is each step of an answer right? Read at the step's last token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from heedlm.config import Config
from heedlm.ops.masked import widen
from heedlm.ops.shapes import Bool, Float
from heedlm.ops.types import Loss


class Process(Config):
    """Cross-entropy of P(step is right) = σ(score at the step's last token).

    Source: Lightman et al. 2023, *Let's Verify Step by Step*, §2.6 and appendix F (supervised to the first wrong
    step; a neutral step counts as right); soft labels, Wang et al. 2024, *Math-Shepherd*, eq. 2 to 4;
    docs/methods.md §6.4. They train a token classifier, this a scalar head: with two classes the same.
    """

    name: Literal["process"] = Field(default="process", description="is each step right? with steps as data")
    neutral: Literal["right", "wrong"] = Field(default="right", description="what a step labelled 0 counts as")
    to_first_error: bool = Field(default=True, description="steps after the first wrong one teach nothing")
    soft: bool = Field(
        default=False, description="learn the chance that a step still led to the goal, where it is known"
    )

    def targets(self, labels: Sequence[int], chances: Sequence[float] | None = None) -> list[float]:
        """P(right) of each step that is learned from, which are the first so many.

        Args:
            labels: 1 right, 0 neutral, −1 wrong.
            chances: Share of attempts to go on from each step that ended well; used with `soft`.
        """
        good = {1: 1.0, 0: 1.0 if self.neutral == "right" else 0.0, -1: 0.0}
        found = [good[label] for label in labels]
        if self.to_first_error and 0.0 in found:
            found = found[: found.index(0.0) + 1]
        return found if chances is None or not self.soft else list(chances[: len(found)])

    def __call__(self, scores: Float[Tensor, "B T"], targets: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Loss:
        """Cross-entropy at the steps.

        Args:
            scores: The model's score after each step (B, T), in nats of odds.
            targets: P(right) of each step (B, T); anything where the mask is False.
            mask: True at steps (B, T).

        Returns:
            One value for each answer (B,), in nats, summed over its steps; the count is that of steps. `accuracy` is
            the share of steps on the right side of ½ (a score of 0: half).
        """
        wide = torch.where(mask, widen(scores), 0.0)
        right = torch.where(mask, targets.to(wide.dtype), 0.0)
        losses = torch.where(mask, -right * logsigmoid(wide) - (1 - right) * logsigmoid(-wide), 0.0)
        agrees = torch.where(mask, 0.5 + 0.5 * wide.detach().sign() * (2 * right - 1).sign(), 0.0)
        count = mask.sum()
        some = count.clamp(min=1)
        return Loss(losses.sum(1), count, {"accuracy": agrees.sum() / some, "score_mean": wide.detach().sum() / some})
