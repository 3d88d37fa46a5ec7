"""Kahneman–Tversky optimisation: answers marked good or bad, without pairs."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from heedlm.config import Config
from heedlm.ops.masked import widen
from heedlm.ops.pairs import single_metrics
from heedlm.ops.shapes import Bool, Float, Int
from heedlm.ops.types import Loss


class Kto(Config):
    """λ_D·(1 − σ(β(Δ − z₀))) for good answers, λ_U·(1 − σ(β(z₀ − Δ))) for bad ones, with Δ = log π/ref.

    z₀ = max(0, mean Δ over prompts with answers to other prompts) estimates KL(π ‖ ref) and has no gradient. It is
    one number for a whole step, however many microbatches it is split into. The paper advises λ_D·n_D ÷ (λ_U·n_U)
    between 1 and 3/2, with n_D good and n_U bad answers.

    Source: Ethayarajh et al. 2024, section 4, the loss (eq. 7 by TRL's count); docs/methods.md §5.3.
    """

    needs_reference: ClassVar[bool] = True

    name: Literal["kto"] = Field(default="kto", description="gains and losses of single answers, good or bad")
    beta: PositiveFloat = Field(default=0.1, description="how fast gains and losses saturate")
    desirable: PositiveFloat = Field(default=1.0, description="λ_D: weight of good answers")
    undesirable: PositiveFloat = Field(default=1.0, description="λ_U: weight of bad answers")

    def reward(
        self, logps: Float[Tensor, "B"], ref: Float[Tensor, "B"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B"]:
        """β·log π/ref."""
        return self.beta * (widen(logps) - widen(ref))

    def __call__(
        self,
        logps: Float[Tensor, "B"],
        ref: Float[Tensor, "B"],
        desirable: Bool[Tensor, "B"],
        kl: Float[Tensor, ""],
    ) -> Loss:
        """One value for each answer; the count is the number of answers. For metrics see `ops.pairs`.

        Args:
            logps: Summed log-probabilities (nats) under the policy.
            ref: The same under the reference.
            desirable: True for good answers.
            kl: Mean Δ (nats) over mismatched prompts and answers of the whole step; below 0 it counts as 0.
        """
        rewards = self.beta * (widen(logps) - widen(ref))
        base = self.beta * kl.detach().to(rewards.dtype).clamp(min=0)
        sides = torch.where(desirable, rewards - base, base - rewards)
        share = desirable.to(rewards.dtype)
        weights = self.desirable * share + self.undesirable * (1 - share)
        values = weights * torch.sigmoid(-sides)  # 1 − σ(x), without the digits that the difference loses
        count = torch.tensor(len(values), device=values.device)
        return Loss(values, count, single_metrics(rewards, base, logps, desirable))
