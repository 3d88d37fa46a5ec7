"""Group-relative policy optimisation, and what all objectives without a critic have in common."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from heedlm.objectives.ppo import Surrogate
from heedlm.ops.group import group_baseline, group_deviation, rewards_to_go
from heedlm.ops.masked import masked_sum, masked_whiten
from heedlm.ops.shapes import Bool, Float


class Grouped(Surrogate):
    """The surrogate on advantages that come from the other answers to the same prompt: no critic is trained.

    Each published method of this family is this class with defaults of its own.

    Source: docs/methods.md §4.1 for the surrogate; the methods' own files for their settings.
    """

    group: ClassVar[int] = 8

    baseline: Literal["none", "mean", "leave_one_out"] = Field(
        default="mean", description="what an answer's reward is compared with: its group's mean, or that of the others"
    )
    deviation: Literal["none", "sample", "population", "tokens"] = Field(
        default="none",
        description="what advantages are divided by: the deviation of the group's rewards (÷ K−1, + 1e-4; or ÷ K); "
        "tokens: whitened over all tokens of the buffer",
    )
    credit: Literal["answer", "rest"] = Field(
        default="answer", description="reward a token answers for: the whole answer's, or what comes from it onwards"
    )
    ratio: Literal["token", "answer"] = Field(
        default="token", description="ratio to the old policy: of each token, or of the whole answer"
    )
    resample: int = Field(
        default=0,
        ge=0,
        le=8,
        description="rounds in which prompts whose answers all got the same reward are left out and others sampled "
        "in their place; 0: they stay",
    )
    overlong: NonNegativeFloat = Field(
        default=0.0, le=1, description="last share of the token limit in which a penalty rises from 0 to 1; 0: none"
    )

    def advantages(self, rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], group: int) -> Float[Tensor, "B T"]:
        """Advantages of response tokens; 0 elsewhere.

        Args:
            rewards: Reward of each token (B, T), with the KL penalty where it is part of the reward.
            mask: True on response tokens (B, T).
            group: Answers to each prompt (K); they stand one after the other.

        Raises:
            ValueError: K is 1, and answers are to be compared with each other.
        """
        scores = masked_sum(rewards, mask, dim=1).view(-1, group)
        earned = rewards_to_go(rewards, mask) if self.credit == "rest" else scores.view(-1, 1)
        found = torch.where(mask, earned - group_baseline(scores, self.baseline).reshape(-1, 1), 0.0)
        if self.deviation == "tokens":
            return masked_whiten(found, mask)
        return found / group_deviation(scores, self.deviation).repeat_interleave(group, 0)

    def _log_ratio(self, log_ratio: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask, log_ratio.sum(1, keepdim=True), 0.0) if self.ratio == "answer" else log_ratio


class Grpo(Grouped):
    """GRPO: advantages in deviations of the group, each answer's mean a token, KL (k3) in the loss.

    Source: Shao et al. 2024 (DeepSeekMath), eq. 3 and 4; docs/online.md.
    """

    name: Literal["grpo"] = Field(default="grpo", description="rewards in deviations of the group")
    average: Literal["tokens", "answers", "constant"] = Field(
        default="answers", description="as in DeepSeekMath, each answer's mean weighs the same"
    )
    kl: Literal["reward", "loss"] = Field(default="loss", description="as in DeepSeekMath, k3 is part of the loss")
    deviation: Literal["none", "sample", "population", "tokens"] = Field(
        default="sample", description="deviation of the group's rewards, ÷ K−1 as in TRL"
    )
