"""Proximal policy optimisation: a clipped surrogate for the policy, a clipped squared error for the critic.

Source: Schulman et al. 2017; the clipped value loss as in its reference implementation (openai/baselines).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from heedlm.config import Config
from heedlm.ops.masked import masked_mean, masked_sum, widen
from heedlm.ops.shapes import Bool, Float
from heedlm.ops.types import Loss

# Ratios beyond e^±20 mean a broken policy; without the bound exp overflows float32 and hides it behind NaN.
_LOG_RATIO_LIMIT = 20.0


class Ppo(Config):
    """PPO's two losses over response tokens.

    Source: Schulman et al. 2017, eq. 7; docs/methods.md §4.1.
    """

    name: Literal["ppo"] = Field(default="ppo", description="clipped surrogate with a critic")
    clip: PositiveFloat | None = Field(
        default=0.2, description="how far the ratio to the old policy earns reward; none: no bound"
    )
    value_clip: PositiveFloat | None = Field(
        default=0.2, description="how far (reward units) the critic moves per pass; none: no bound"
    )
    entropy: NonNegativeFloat = Field(default=0.0, description="weight of a bonus for entropy, nats a token; 0: none")
    entropy_clip: PositiveFloat | None = Field(
        default=None, description="entropy (nats) of a token beyond which there is no more bonus; none: no bound"
    )

    def policy(
        self,
        logps: Float[Tensor, "B T"],
        old_logps: Float[Tensor, "B T"],
        advantages: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        spread: Float[Tensor, "B T"] | None = None,
    ) -> Loss:
        """max(−A·ρ, −A·clip(ρ, 1 ± clip)) with ρ = π/π_old, for each response token, less the entropy bonus.

        Args:
            logps: Log-probabilities (nats) under the policy being trained (B, T).
            old_logps: The same tokens' under the policy that sampled them (B, T).
            advantages: Advantages (B, T), no gradient.
            mask: True on response tokens (B, T).
            spread: Entropy (nats) of the policy at each token (B, T), with its gradient; needed for the bonus.

        Returns:
            One sum for each row (B,); the count is the number of response tokens. `ratio` is the mean ρ,
            `clip_fraction` the share of tokens whose gradient the clip removes, and `approx_kl` the mean of
            ρ − 1 − log ρ: Schulman's k3 estimate (nats) of KL(π_old ‖ π).

        Raises:
            ValueError: There is a bonus, but no entropy.
        """
        if self.entropy and spread is None:
            raise ValueError("the entropy bonus needs the entropy of each token")
        # Padding goes first: infinities there would leave NaN in the gradient.
        log_ratio = torch.where(mask, widen(logps) - widen(old_logps), 0.0)
        log_ratio = log_ratio.clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
        advantages = torch.where(mask, widen(advantages), 0.0)
        ratio = log_ratio.exp()
        free = -advantages * ratio
        clipped = free if self.clip is None else -advantages * ratio.clamp(1 - self.clip, 1 + self.clip)
        with torch.no_grad():
            metrics = {
                "ratio": masked_mean(ratio, mask),
                "clip_fraction": masked_mean((clipped > free).to(ratio.dtype), mask),
                "approx_kl": masked_mean(log_ratio.expm1() - log_ratio, mask),
            }
        losses = torch.maximum(free, clipped)
        if self.entropy and spread is not None:
            bonus = torch.where(mask, widen(spread), 0.0)
            if self.entropy_clip is not None:
                bonus = bonus.clamp(max=self.entropy_clip)
            losses = losses - self.entropy * bonus
        return Loss(masked_sum(losses, mask, dim=1), mask.sum(), metrics)

    def value(
        self,
        values: Float[Tensor, "B T"],
        old_values: Float[Tensor, "B T"],
        returns: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
    ) -> Loss:
        """½·max((V − R)², (V_old + clip(V − V_old, ± value_clip) − R)²), for each response token.

        Args:
            values: The critic's values (B, T), in reward units.
            old_values: Those it gave when the rollouts were made (B, T).
            returns: Returns (B, T), no gradient.
            mask: True on response tokens (B, T).

        Returns:
            One sum for each row (B,); the count is the number of response tokens. `value_error` is the mean
            squared error without clipping, `value_clip_fraction` the share of tokens the clip decides.
        """
        # Padding is replaced before the arithmetic, for the sake of the gradient.
        values, old, target = (torch.where(mask, widen(x), 0.0) for x in (values, old_values, returns))
        free = (values - target).square()
        worst = free
        if self.value_clip is not None:
            near = old + (values - old).clamp(-self.value_clip, self.value_clip)
            worst = torch.maximum(free, (near - target).square())
        with torch.no_grad():
            metrics = {
                "value_error": masked_mean(free, mask),
                "value_mean": masked_mean(values, mask),
                "return_mean": masked_mean(target, mask),
                "value_clip_fraction": masked_mean((worst > free).to(free.dtype), mask),
            }
        return Loss(0.5 * masked_sum(worst, mask, dim=1), mask.sum(), metrics)
