"""Proximal policy optimisation: a clipped surrogate for the policy, a clipped squared error for the critic.

Source: Schulman et al. 2017; the clipped value loss as in its reference implementation (openai/baselines). The
objectives without a critic, in `grpo.py` and its neighbours, share the surrogate.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from heedlm.config import Config
from heedlm.ops.kl import k3
from heedlm.ops.masked import masked_mean, masked_sum, widen
from heedlm.ops.shapes import Bool, Float
from heedlm.ops.types import Loss

# Ratios beyond e^±20 mean a broken policy; without the bound exp overflows float32 and hides it behind NaN.
_LOG_RATIO_LIMIT = 20.0


class Surrogate(Config):
    """max(−A·ρ, −A·clip(ρ, 1 − clip, 1 + clip_high)) with ρ = π/π_old, on each response token.

    Source: Schulman et al. 2017, eq. 7; docs/methods.md §4.1.
    """

    group: ClassVar[int] = 1  # answers to each prompt, if nothing else is asked for
    rows: ClassVar[int] = 1  # answers that only make sense together

    name: str
    clip: PositiveFloat | None = Field(
        default=0.2, description="how far the ratio to the old policy earns reward; none: no bound"
    )
    clip_high: PositiveFloat | None = Field(
        default=None, description="how far above 1 it does, if not as far as below; none: as far"
    )
    average: Literal["tokens", "answers", "constant"] = Field(
        default="tokens",
        description="tokens: all weigh the same; answers: each answer's mean does; constant: sums over an answer's "
        "tokens, divided by the most it may have",
    )
    kl: Literal["reward", "loss"] = Field(
        default="reward",
        description="where the leash of kl.coef pulls; reward: its k1 estimate is taken off the reward; loss: k3 is "
        "added to the loss",
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
        ref: Float[Tensor, "B T"] | None = None,
        beta: float = 0.0,
        room: int = 1,
    ) -> Loss:
        """The surrogate on each response token, less the entropy bonus, plus the KL of `kl=loss`.

        Args:
            logps: Log-probabilities (nats) under the policy being trained (B, T).
            old_logps: The same tokens' under the policy that sampled them (B, T).
            advantages: Advantages (B, T), no gradient.
            mask: True on response tokens (B, T).
            spread: Entropy (nats) of the policy at each token (B, T), with its gradient; needed for the bonus.
            ref: The tokens' log-probabilities (nats) under the reference (B, T); needed for `kl=loss`.
            beta: Loss of a nat of KL a token.
            room: Most tokens an answer may have, the divisor of `average=constant`.

        Returns:
            One number for each row (B,); the count is that of response tokens, or of rows where each answer weighs
            the same. `ratio` is the mean ρ, `clip_fraction` the share of tokens whose gradient the clip removes, and
            `approx_kl` the mean of ρ − 1 − log ρ: Schulman's k3 estimate (nats) of KL(π_old ‖ π).

        Raises:
            ValueError: There is a bonus, but no entropy; or KL in the loss, but no reference.
        """
        if self.entropy and spread is None:
            raise ValueError("the entropy bonus needs the entropy of each token")
        # Padding goes first: infinities there would leave NaN in the gradient.
        log_ratio = torch.where(mask, widen(logps) - widen(old_logps), 0.0)
        log_ratio = self._log_ratio(log_ratio, mask).clamp(-_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
        advantages = torch.where(mask, widen(advantages), 0.0)
        ratio = log_ratio.exp()
        free = -advantages * ratio
        high = self.clip if self.clip_high is None else self.clip_high
        clipped = free if self.clip is None else -advantages * ratio.clamp(1 - self.clip, 1 + (high or 0.0))
        with torch.no_grad():
            metrics = {
                "ratio": self._mean(ratio, mask),
                "clip_fraction": self._mean((clipped > free).to(ratio.dtype), mask),
                "approx_kl": self._mean(log_ratio.expm1() - log_ratio, mask),
            }
        losses = torch.maximum(free, clipped)
        if self.entropy and spread is not None:
            bonus = torch.where(mask, widen(spread), 0.0)
            if self.entropy_clip is not None:
                bonus = bonus.clamp(max=self.entropy_clip)
            losses = losses - self.entropy * bonus
        if self.kl == "loss" and beta:
            if ref is None:
                raise ValueError("KL in the loss needs the reference's log-probabilities")
            drift = k3(torch.where(mask, widen(logps), 0.0), torch.where(mask, widen(ref), 0.0))
            losses = losses + beta * drift
            metrics["kl_loss"] = self._mean(drift.detach(), mask)
        return Loss(self._per_answer(losses, mask, room), self.count(mask), metrics)

    def count(self, mask: Bool[Tensor, "B T"]) -> Tensor:
        """What the loss is a mean over: response tokens, or answers."""
        return mask.sum() if self.average == "tokens" else torch.tensor(len(mask), device=mask.device)

    def _log_ratio(self, log_ratio: Tensor, mask: Tensor) -> Tensor:
        """log ρ of each token, from the log-ratios of single tokens."""
        return log_ratio

    def _per_answer(self, losses: Tensor, mask: Tensor, room: int) -> Tensor:
        if self.average == "answers":
            return masked_mean(losses, mask, dim=1)
        return masked_sum(losses, mask, dim=1) / (room if self.average == "constant" else 1)

    def _mean(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mean over what the loss is a mean over, so that microbatches add up."""
        return masked_mean(x, mask) if self.average == "tokens" else masked_mean(x, mask, dim=1).mean()


class Ppo(Surrogate):
    """PPO's two losses over response tokens.

    Source: Schulman et al. 2017, eq. 7; docs/methods.md §4.1.
    """

    name: Literal["ppo"] = Field(default="ppo", description="clipped surrogate with a critic")
    value_clip: PositiveFloat | None = Field(
        default=0.2, description="how far (reward units) the critic moves per pass; none: no bound"
    )

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
